"""The same training as tasks of Ray, on one machine or many that share the folder of results."""

import contextlib
import importlib
import signal
from typing import Any

from . import lock
from .scheduler import Turn, Turns
from .store import Store
from .training import MakeLearner, Report, Stopped, StopSignal, train_stack
from .worker import Failure, Observer, StackFailed, failure, handling, log_failure, use_one_thread

_POLL = 0.5  # seconds between looks at the reports


class ReportQueue:
    """Keeps what the workers report until it is asked for."""

    def __init__(self) -> None:
        self._reports: list[Report] = []

    def put(self, report: Report) -> None:
        self._reports.append(report)

    def take(self) -> list[Report]:
        taken, self._reports = self._reports, []
        return taken


def train(turn: Turn, make: MakeLearner, store: Store, mailbox: Any) -> Failure | None:
    """A task of Ray: train one stack; returns what went wrong."""
    use_one_thread()
    stop = StopSignal()
    signal.signal(signal.SIGINT, stop.request)  # as ray cancels a task
    with lock.one_writer(store.folder):
        try:
            train_stack(turn.plan, make, store, turn.tasks, mailbox.put.remote, stop)
        except Stopped:
            return None
        except Exception as error:
            return failure(turn.plan.id, error)
    return None


def run_on_ray(turns: Turns, make: MakeLearner, store: Store, count: int, observer: Observer, device: str) -> None:
    """Train stacks as `regrow.lab.runs.engine.run` does.

    Args:
        turns: hands them out.
        make, store, observer, device: as there.
        count: stacks at once, as far as the cluster has room for them.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise ValueError("`--engine ray` needs ray, which is not installed: pip install ray, or leave it out") from None
    ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    needs = {"num_cpus": 1, "num_gpus": 1 if device == "cuda" else 0, "max_retries": 0}
    remote, mailbox = ray.remote(**needs)(train), ray.remote(num_cpus=0)(ReportQueue).remote()
    at_work = dict[Any, tuple[int, Turn]]()
    places = list(range(count))
    failed: Failure | None = None

    def look() -> None:
        numbers = {turn.plan.id: number for number, turn in at_work.values()}
        for report in ray.get(mailbox.take.remote()):
            observer.report(numbers.get(report.stack, 0), report)

    try:
        with handling(signal.SIGTERM, _interrupt):
            while turns.unfinished and not failed:
                while places and (turn := turns.next()):
                    at_work[remote.remote(turn, make, store, mailbox)] = places.pop(0), turn
                done, _ = ray.wait(list(at_work), timeout=_POLL)
                look()
                for task in done:
                    number, turn = at_work.pop(task)
                    places.append(number)
                    failed = failed or _outcome(ray, task, turn)
                    if not failed and turns.ended(turn):
                        observer.done(number, turn.plan.id)
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            for task in at_work:
                ray.cancel(task)
            ray.wait(list(at_work), num_returns=len(at_work), timeout=60) if at_work else None
        ray.shutdown()
    if failed:
        raise StackFailed(log_failure(store.folder, failed))


def _outcome(ray: Any, task: Any, turn: Turn) -> Failure | None:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        return failure(turn.plan.id, error)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
