"""What does the driver of a cluster spend on each stack? Ray itself is simulated: tasks end at once.

python benchmarks/driver.py [STACKS]
"""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from regrow.lab.runs.ray_engine import Cluster, ReportQueue, _Dispatch
from regrow.lab.runs.scheduler import Turns
from regrow.lab.runs.worker import NoObserver
from regrow.lab.studies import Member, Setting, StackPlan

WORKERS = 1_000


class Remote:
    """A function or a class as Ray wraps it."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def options(self, **_: Any) -> "Remote":
        return self

    def remote(self, *_: Any) -> Any:
        if self._target is not ReportQueue:
            return object()
        queue = ReportQueue()
        return SimpleNamespace(take=SimpleNamespace(remote=queue.take))


class Simulated:
    """The part of Ray that the driver uses."""

    exceptions = SimpleNamespace(
        WorkerCrashedError=OSError, NodeDiedError=OSError, OutOfMemoryError=OSError, LocalRayletDiedError=OSError,
        RayError=RuntimeError,
    )  # fmt: skip

    def remote(self, **_: Any) -> Any:
        return Remote

    def wait(self, tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        del timeout
        return tasks[:1], tasks[1:]

    def get(self, result: Any) -> Any:
        return result if isinstance(result, tuple) else None


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    setting = Setting("small", 10, False, "sgd")
    plans = [StackPlan(f"small.seed{i}.0", setting, i, (Member("base", {}, i),)) for i in range(count)]
    cluster = SimpleNamespace(ray=Simulated(), gpus=0, here="here", on=lambda *_: {}, alive=lambda: ["here"])
    start = time.process_time()
    turns = Turns(plans, {plan.id: 0 for plan in plans}, 10, WORKERS, {plan.id: 1.0 for plan in plans})
    dispatch = _Dispatch(cast(Cluster, cluster), turns, (None, Path()), min(WORKERS, count) // 10 or 1, NoObserver())
    assert dispatch.run() is None and not turns.unfinished
    print(
        f"{count:,} stacks: {1e3 * (time.process_time() - start) / count:.3f} ms of the driver a stack, Ray's own apart"
    )


if __name__ == "__main__":
    main()
