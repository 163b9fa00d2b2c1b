"""The same training as tasks of Ray, on one machine or many that share the folder of results."""

import contextlib
import importlib
import platform
import signal
import traceback
from typing import Any, NamedTuple

import torch

import regrow

from . import lock
from .manifest import processor
from .scheduler import Turn, Turns
from .signals import interrupting
from .store import Store
from .training import MakeLearner, Report, Stopped, StopSignal, train_stack
from .worker import Failure, Observer, StackFailed, failure, log_failure, use_one_thread

RETRIES = 3  # of a stack whose worker or node was lost
_POLL = 0.5  # seconds between looks at the reports
_MUST_AGREE = ("regrow", "torch", "python")


class ReportQueue:
    """Keeps what the workers report until it is asked for: reports, and which node trains which stack."""

    def __init__(self) -> None:
        self._reports: list[Report] = []
        self._places: dict[str, str] = {}

    def put(self, report: Report) -> None:
        self._reports.append(report)

    def begin(self, stack: str, node: str) -> None:
        self._places[stack] = node

    def take(self) -> tuple[list[Report], dict[str, str]]:
        taken, self._reports = self._reports, []
        return taken, dict(self._places)


def about_node() -> dict[str, str]:
    """Host, versions and processor of the machine that this runs on."""
    return {
        "host": platform.node(), "regrow": regrow.__version__, "torch": torch.__version__,
        "python": platform.python_version(), "cpu": processor(),
    }  # fmt: skip


def train(turn: Turn, make: MakeLearner, store: Store, queue: Any) -> Failure | None:
    """A task of Ray: train one stack; returns what went wrong."""
    ray: Any = importlib.import_module("ray")
    node = ray.get_runtime_context().get_node_id()
    ray.get(queue.begin.remote(turn.plan.id, node))
    use_one_thread()
    stop = StopSignal()
    signal.signal(signal.SIGINT, stop.request)  # as Ray cancels a task
    try:
        with lock.one_writer(store.folder, store.shard):
            train_stack(turn.plan, make, store, turn.tasks, queue.put.remote, stop)
    except Stopped:
        return None
    except Exception as error:
        failed = failure(turn.plan.id, error)
        return failed._replace(line=f"{failed.line} (node {platform.node()})", trace=traceback.format_exc())
    return None


class Cluster:
    """A connection to Ray: what its nodes are, and how many stacks it trains at once."""

    def __init__(self, device: str) -> None:
        try:
            self.ray: Any = importlib.import_module("ray")
        except ModuleNotFoundError:
            raise ValueError(
                "`--engine ray` needs ray, which is not installed: pip install ray, or leave it out"
            ) from None
        self._own = not self.ray.is_initialized()
        self.ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        self.gpus = 1 if device == "cuda" else 0
        self.here = self.ray.get_runtime_context().get_node_id()

    @property
    def capacity(self) -> int:
        """Stacks at once: one for each processor, or GPU, of the cluster."""
        return max(1, int(self.ray.cluster_resources().get("GPU" if self.gpus else "CPU", 1)))

    def alive(self) -> list[str]:
        """The ids of the nodes that can train."""
        return [node["NodeID"] for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]

    def on(self, node: str, soft: bool = False) -> Any:
        """Options that place a task on a node."""
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        return {"scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(node, soft=soft)}

    def about(self) -> dict[str, dict[str, str]]:
        """Versions and processor of every node, {id: …}.

        Raises:
            ValueError: where a node has other versions than this machine.
        """
        ask = self.ray.remote(num_cpus=0)(about_node)
        nodes = self.alive()
        answers = [ask.options(**self.on(node)).remote() for node in nodes]
        try:
            answered = dict(zip(nodes, self.ray.get(answers), strict=True))
        except self.ray.exceptions.RayError as error:
            raise ValueError(f"a node of the cluster cannot load regrow: {_cause(error)}: install it there") from None
        mine = about_node()
        for about in answered.values():
            for key in _MUST_AGREE:
                if about[key] != mine[key]:
                    raise ValueError(
                        f"node {about['host']} has {key} {about[key]}, and this machine {mine[key]}: install the same "
                        "on every node, or results would differ"
                    )
        return answered

    def close(self) -> None:
        """Disconnect, unless the connection is the caller's."""
        if self._own:
            self.ray.shutdown()


class _Task(NamedTuple):
    """A turn that is being trained: by which worker number, and how often it was lost before."""

    number: int
    turn: Turn
    lost: int


class _Dispatch:
    """Gives turns to the cluster, and takes what comes back."""

    def __init__(
        self, cluster: Cluster, turns: Turns, arguments: tuple[Any, ...], count: int, observer: Observer
    ) -> None:
        self._cluster, self._turns, self._observer, ray = cluster, turns, observer, cluster.ray
        self._remote = ray.remote(num_cpus=1, num_gpus=cluster.gpus, max_retries=0)(train)
        self._queue = ray.remote(num_cpus=0)(ReportQueue).options(**cluster.on(cluster.here)).remote()
        self._arguments = arguments
        self._free = list(range(count))
        self._at_work = dict[Any, _Task]()
        self._places: dict[str, str] = {}
        self._failed: Failure | None = None

    def run(self) -> Failure | None:
        """Train all; returns what went wrong."""
        while self._turns.unfinished and not self._failed:
            while self._free and (turn := self._turns.next()):
                self._send(_Task(self._free.pop(0), turn, 0))
            done, _ = self._cluster.ray.wait(list(self._at_work), timeout=_POLL)
            self._look()
            for task in done:
                self._take(task, self._at_work.pop(task))
        return self._failed

    def cancel(self) -> None:
        """Ask all to store their finished tasks and end."""
        ray = self._cluster.ray
        for task in self._at_work:
            ray.cancel(task)
        if self._at_work:
            ray.wait(list(self._at_work), num_returns=len(self._at_work), timeout=60)

    def _send(self, task: _Task, avoid: str | None = None) -> None:
        others = [node for node in self._cluster.alive() if node != avoid] if avoid else []
        spread = {"scheduling_strategy": "SPREAD"}
        options = self._cluster.on(others[task.lost % len(others)], soft=True) if others else spread
        sent = self._remote.options(**options).remote(task.turn, *self._arguments, self._queue)
        self._at_work[sent] = task

    def _look(self) -> None:
        reports, self._places = self._cluster.ray.get(self._queue.take.remote())
        numbers = {task.turn.plan.id: task.number for task in self._at_work.values()}
        for report in reports:
            self._observer.report(numbers.get(report.stack, 0), report)

    def _take(self, sent: Any, task: _Task) -> None:
        ray, stack = self._cluster.ray, task.turn.plan.id
        try:
            failed = ray.get(sent)
        except _lost(ray) as error:
            if task.lost < RETRIES:
                self._send(task._replace(lost=task.lost + 1), avoid=self._places.get(stack))
                return
            failed = Failure(stack, f"its worker was lost {task.lost + 1} times, at last: {_cause(error)}", "")
        except ray.exceptions.RayError as error:
            failed = Failure(stack, _cause(error), "")
        self._free.append(task.number)
        self._failed = self._failed or failed
        if not failed and self._turns.ended(task.turn):
            self._observer.done(task.number, stack)


def run_on_ray(turns: Turns, make: MakeLearner, store: Store, count: int, observer: Observer, cluster: Cluster) -> None:
    """Train stacks as `regrow.lab.runs.engine.run` does.

    A stack whose worker or node is lost is trained on from its checkpoint, on another node if there is one, up to three
    times.

    Args:
        turns: hands them out.
        make, store, observer: as there.
        count: stacks at once.
        cluster: trains them.
    """
    dispatch = _Dispatch(cluster, turns, (make, store), count, observer)
    failed = None
    try:
        with interrupting():
            failed = dispatch.run()
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            dispatch.cancel()
    if failed:
        raise StackFailed(log_failure(store.folder, failed))


def _lost(ray: Any) -> tuple[type[Exception], ...]:
    """What is raised where a worker or its node is gone."""
    errors = ray.exceptions
    return errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.LocalRayletDiedError


def _cause(error: BaseException) -> str:
    """The first line of what really went wrong, beneath what Ray adds."""
    cause: Any = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("ray::", "File ", "Traceback", "^"))]
    text = (kept or lines or [type(error).__name__])[0]
    return text if isinstance(cause, OSError | ValueError) else f"{type(cause).__name__}: {text}"[:300]
