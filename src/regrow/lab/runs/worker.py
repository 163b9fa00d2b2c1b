"""What a worker does: it trains one stack after another, and stores each now and then and before it stops."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import polars as pl
import torch

from ..studies import StackPlan
from . import lock
from .scheduler import Turn
from .store import Store

TELL_EVERY = 0.5  # seconds
RECENT = 10  # tasks over which accuracy is shown


class Learner(Protocol):
    """What trains a stack: `regrow.lab.mlp.trainer.Trainer`, or one like it."""

    task: int

    def run_task(self) -> Sequence[dict[str, Any]] | Mapping[str, Sequence[dict[str, Any]]]:
        """Train the next task; rows of the results, or {table: rows}."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the next task needs; a copy, which later training leaves as it is."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from a state, bit for bit."""
        ...


@runtime_checkable
class Pausing(Learner, Protocol):
    """A learner whose tasks are long: its state can be stored within one."""

    between: Callable[[], None] | None
    """Called now and then within `run_task`, where `state_dict` is whole."""


Maker = Callable[[StackPlan, Callable[[int], None]], Learner]
"""Makes what trains a stack, which reports network-updates to the function it is given; can be pickled."""


class Report(NamedTuple):
    """What a worker says of its stack.

    task: tasks finished.
    updates: network-updates since the last report.
    accuracy: mean online accuracy of each system, {system: [of the tasks just finished]}; at most the last `RECENT`.
    """

    stack: str
    task: int
    updates: int = 0
    accuracy: Mapping[str, Sequence[float]] = {}


class Stopped(BaseException):
    """The worker was told to stop."""


class Brake:
    """Stops training at once when the worker is told to stop, but never the writing of a file.

    `pull` raises in the middle of a task, or of waiting for one; at other times `check` does, when it is convenient.
    """

    def __init__(self) -> None:
        self._pulled = self._interruptible = False

    def pull(self, *_: Any) -> None:
        """The signal handler."""
        self._pulled = True
        if self._interruptible:
            self._interruptible = False
            raise Stopped

    def check(self) -> None:
        if self._pulled:
            raise Stopped

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within `interruptible`, what must not be interrupted all the same."""
        self._interruptible = False
        yield
        self._interruptible = True
        self.check()


def train_stack(
    plan: StackPlan,
    make: Maker,
    store: Store,
    tasks: int,
    tell: Callable[[Report], None] = lambda report: None,
    brake: Brake | None = None,
) -> None:
    """Train one stack from where it was stored up to a number of tasks, and store it.

    It is stored every `store.every` seconds, at the end, and, as of its last finished task, before what stops it is
    passed on. One that pauses within its tasks is stored there too.

    Args:
        plan: the stack.
        make: makes what trains it.
        store: where it is kept.
        tasks: to finish in all.
        tell: called every half a second or more seldom.
        brake: stops it.

    Raises:
        Stopped: by the brake.
        OSError, ValueError: as the store does; and whatever the training raises.
    """
    brake = brake or Brake()
    speaker = _Speaker(plan.id, tell)
    with brake.interruptible():
        task, state, tables = store.restore(plan.id)
        learner = make(plan, speaker.updates)
        if state is not None:
            learner.load_state_dict(state)
    speaker.finished(task, tables["results"].filter(pl.col("task") >= task - RECENT))
    speaker.say()
    finished = _Finished(plan.id, store, tables)

    def between() -> None:
        if finished.due(store.every):
            with brake.held():
                finished.store_within(learner.task, learner.state_dict())

    if isinstance(learner, Pausing):
        learner.between = between
    try:
        while learner.task < tasks:
            with brake.interruptible():
                rows = learner.run_task()
            last = finished.add(learner.task, learner.state_dict(), rows)
            speaker.finished(learner.task, last)
            finished.store(store.every)
            brake.check()
    finally:
        finished.store()
    speaker.say()


class _Finished:
    """The tasks of a stack that are finished; stores what is not stored yet."""

    def __init__(self, stack: str, store: Store, tables: Mapping[str, pl.DataFrame]) -> None:
        self._stack, self._store, self._tables = stack, store, dict(tables)
        self._new: tuple[int, dict[str, Any]] | None = None
        self._stored_at = time.monotonic()

    def add(self, task: int, state: dict[str, Any], rows: Any) -> pl.DataFrame:
        """One more task: the state after it, and the rows of it; returns its results."""
        found = rows if isinstance(rows, Mapping) else {"results": rows}
        frames = {name: self._store.frame(name, found.get(name, ())) for name in self._tables}
        tables = {name: table.vstack(frames[name]) for name, table in self._tables.items()}
        self._tables, self._new = tables, (task, state)
        return frames["results"]

    def due(self, every: float) -> bool:
        """Whether it was stored at least so many seconds ago."""
        return time.monotonic() - self._stored_at >= every

    def store_within(self, task: int, state: dict[str, Any]) -> None:
        """Store in the middle of a task, which has no rows yet."""
        self._new = task, state
        self.store()

    def store(self, every: float = 0.0) -> None:
        """Store, unless there is nothing new or that was done less than so many seconds ago."""
        if self._new and self.due(every):
            self._tables = {name: table.rechunk() for name, table in self._tables.items()}
            self._store.save(self._stack, *self._new, self._tables)
            self._new, self._stored_at = None, time.monotonic()


class _Speaker:
    """Gathers what happens to a stack and reports it now and then."""

    def __init__(self, stack: str, tell: Callable[[Report], None]) -> None:
        self._stack, self._tell, self._task, self._updates, self._told = stack, tell, 0, 0, time.monotonic()
        self._accuracy: dict[str, list[float]] = {}

    def updates(self, count: int) -> None:
        """So many network-updates were made."""
        self._updates += count
        self._say_in_time()

    def finished(self, task: int, rows: pl.DataFrame) -> None:
        """So many tasks are finished; the rows of the last ones."""
        self._task = task
        means = rows.group_by("system", "task").agg(pl.col("online_accuracy").mean()).sort("system", "task")
        for system, _, mean in means.iter_rows():
            self._accuracy[system] = [*self._accuracy.get(system, []), mean][-RECENT:]
        self._say_in_time()

    def _say_in_time(self) -> None:
        if time.monotonic() - self._told >= TELL_EVERY:
            self.say()

    def say(self) -> None:
        report = Report(self._stack, self._task, self._updates, self._accuracy)
        self._updates, self._accuracy, self._told = 0, {}, time.monotonic()
        self._tell(report)


# A worker process.


class Failure(NamedTuple):
    """What went wrong with a stack: one line, and all of it."""

    stack: str
    line: str
    trace: str


def use_one_thread() -> None:
    """One thread a process, a process a core; numbers too small to matter are 0, or they would slow all others."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def work(connection: Connection, make: Maker, store: Store, device: int | None = None) -> None:
    """The whole life of a worker process: trains each stack that comes, and answers when it is done.

    Args:
        connection: brings a `Turn` or None, the end; takes `Report`, `Failure`, and each `Turn` that is done.
        make, store: as for `train_stack`.
        device: the CUDA device to use, if any.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=[parent.sentinel], daemon=True).start()
    brake = Brake()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the run tells its workers itself
    signal.signal(signal.SIGTERM, brake.pull)
    use_one_thread()
    if device is not None:
        torch.cuda.set_device(device)

    def tell(what: Report | Failure | Turn) -> None:
        with contextlib.suppress(OSError):  # the run is gone: so is this process in a moment
            connection.send(what)

    stack = ""
    with connection:
        try:
            with contextlib.suppress(Stopped, EOFError), lock.one_writer(store.folder):
                # A run that died before this process had the lock may have a successor by now.
                while parent.is_alive():
                    with brake.interruptible():
                        turn = connection.recv()
                    if turn is None:
                        return
                    stack = turn.plan.id
                    train_stack(turn.plan, make, store, turn.tasks, tell, brake)
                    tell(turn)
        except Exception as error:
            tell(failure(stack, error))


def failure(stack: str, error: Exception) -> Failure:
    """What to tell of an error: users' errors speak for themselves."""
    line = str(error).partition("\n")[0]
    if not isinstance(error, OSError | ValueError) or not line:
        line = f"{type(error).__name__}: {line}"
    return Failure(stack, line, traceback.format_exc())


def _end_with(sentinel: int) -> None:
    """End at once when the run is gone, as if killed with it: files are whole at any moment."""
    wait([sentinel])
    os._exit(1)


class Watch(Protocol):
    """Who is told how far the workers are. Must return soon."""

    def report(self, worker: int, report: Report) -> None:
        """A worker is somewhere within a stack."""
        ...

    def done(self, worker: int, stack: str) -> None:
        """A worker has finished a stack."""
        ...


class Unwatched:
    """Nobody."""

    def report(self, worker: int, report: Report) -> None:
        del worker, report

    def done(self, worker: int, stack: str) -> None:
        del worker, stack


class StackFailed(ChildProcessError):
    """A stack could not be trained: one line with its id."""


def log_failure(folder: Path, failure: Failure) -> str:
    """Append what went wrong to `errors.log`; returns one line for the user."""
    line = f"stack {failure.stack}: {failure.line}"
    if not failure.trace:
        return line
    path = folder / "errors.log"
    try:
        with open(path, "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n{failure.trace}\n")
    except OSError:
        return line  # the disk may be what is wrong
    return f"{line} (all of it: {path})"


@contextlib.contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Handle a signal, where that is possible (the main thread) and it was not to be ignored."""
    before = signal.getsignal(number)
    handled = before is not signal.SIG_IGN and threading.current_thread() is threading.main_thread()
    if handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        if handled:
            signal.signal(number, before)
