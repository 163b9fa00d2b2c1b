"""Trains the stacks of a run, in processes of this machine or by Ray."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

from ... import check
from ..studies import StackPlan
from .local_engine import default_workers, run_here
from .ray_engine import Cluster, run_on_ray
from .scheduler import Turns
from .store import Store
from .training import MakeLearner
from .worker import NoObserver, Observer

ENGINES = ("local", "ray")


def run(
    plans: Sequence[StackPlan],
    make: MakeLearner,
    store: Store,
    *,
    tasks: int,
    workers: int | None = None,
    expected: Mapping[str, float] | None = None,
    observer: Observer | None = None,
    engine: str = "local",
    device: str = "cpu",
) -> None:
    """Train every stack up to a number of tasks, each from where it was stored.

    Which worker trains which stack, and when, changes no result. For the run that holds the folder's lock.

    Args:
        plans: the stacks.
        make: makes the learner of a stack, in a worker; must be picklable.
        store: where they are kept.
        tasks: to finish in all, of each stack.
        workers: processes; None: one per core, or per CUDA device, of this machine or the cluster. Never more than
            there are stacks to train.
        expected: seconds per task of each stack, {id: seconds}; decides how workers share them, see `scheduler.py`.
        observer: receives their progress.
        engine: "local", or "ray" for the machines of a Ray cluster, which must share the folder.
        device: "cpu" or "cuda".

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once every worker has stored its finished tasks.
        StackFailed: where a worker failed or died; the others have stored their finished tasks.
        ValueError: where a checkpoint is damaged, for an unknown engine, or one that is not installed.
    """
    check.choice("engine", engine, ENGINES)
    if workers is not None:
        check.whole("workers", workers, 1, "processes that train")
    done = {plan.id: store.done(plan, tasks) for plan in plans}
    unfinished = sum(number < tasks for number in done.values())
    if not unfinished:
        return
    with contextlib.closing(Cluster(device)) if engine == "ray" else contextlib.nullcontext() as cluster:
        at_once = workers or (cluster.capacity if cluster else default_workers(device))
        count = min(at_once, unfinished)
        turns, watching = Turns(plans, done, tasks, count, expected), observer or NoObserver()
        if cluster:
            everywhere = dataclasses.replace(store, folder=store.folder.absolute())
            run_on_ray(turns, make, everywhere, count, watching, cluster)
        else:
            run_here(turns, make, store, count, watching, device)
