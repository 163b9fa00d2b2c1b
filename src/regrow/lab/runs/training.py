"""Trains one stack from where it was stored, and stores it now and then and before it stops."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import polars as pl

from ..studies import StackPlan
from . import checkpoint, digests
from .store import Store, Stored

REPORT_EVERY = 0.5  # seconds
RECENT = 10  # tasks over which accuracy is shown


class Learner(Protocol):
    """What trains a stack: `regrow.lab.mlp.trainer.Trainer`, or one like it."""

    task: int

    def run_task(self) -> Sequence[dict[str, Any]] | Mapping[str, Sequence[dict[str, Any]]]:
        """Train the next task; returns rows of the results, or {table: rows}."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the next task needs; a copy, unaffected by later training."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Resume from a state, bit for bit."""
        ...


@runtime_checkable
class Pausing(Learner, Protocol):
    """A learner whose tasks are long: its state can be stored in the middle of one."""

    between: Callable[[], None] | None
    """Called now and then within `run_task`, at moments when `state_dict` is complete."""


MakeLearner = Callable[[StackPlan, Callable[[int], None]], Learner]
"""Makes what trains a stack and reports network-updates to the given function; must be picklable."""


class Report(NamedTuple):
    """A worker's progress on its stack.

    task: tasks finished.
    updates: network-updates since the last report.
    accuracy: mean online accuracy of each system, {system: [of the tasks just finished]}; at most the last `RECENT`.
    """

    stack: str
    task: int
    updates: int = 0
    accuracy: Mapping[str, Sequence[float]] = {}


class Stopped(BaseException):
    """The worker was asked to stop."""


class StopSignal:
    """Stops training at once when the worker is asked to stop, but never in the middle of writing a file.

    `request` raises in the middle of a task, or while waiting for one; at other times `check` does.
    """

    def __init__(self) -> None:
        self._requested = self._interruptible = False

    def request(self, *_: Any) -> None:
        """The signal handler."""
        self._requested = True
        if self._interruptible:
            self._interruptible = False
            raise Stopped

    def check(self) -> None:
        if self._requested:
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
    def deferred(self) -> Iterator[None]:
        """Within `interruptible`: a part that must not be interrupted."""
        self._interruptible = False
        yield
        self._interruptible = True
        self.check()


def train_stack(
    plan: StackPlan,
    make: MakeLearner,
    store: Store,
    tasks: int,
    send: Callable[[Report], None] = lambda report: None,
    stop: StopSignal | None = None,
) -> None:
    """Train one stack from where it was stored up to a number of tasks, and store it.

    It is stored every `store.every` seconds, at the end, and, as of its last finished task, before an exception leaves
    this function. A learner that can pause within its tasks is stored there too.

    Args:
        plan: the stack.
        make: makes its learner.
        store: where it is kept.
        tasks: to finish in all.
        send: called at most every half second.
        stop: stops it.

    Raises:
        Stopped: on request.
        OSError, ValueError: as the store does; and whatever the training raises.
        ValueError: where retraining gives other numbers than those stored.
    """
    stop = stop or StopSignal()
    reporter = _Reporter(plan.id, send)
    with stop.interruptible():
        stored = store.restore(plan)
        learner = make(plan, reporter.updates)
        if stored.state is not None:
            learner.load_state_dict(stored.state)
        if learner.task != stored.task:
            raise ValueError(f"the checkpoint of {plan.id} holds task {learner.task}, and names task {stored.task}")
    reporter.finished(stored.task, stored.tables["results"].filter(pl.col("task") >= stored.task - RECENT))
    reporter.flush()
    writer = _Writer(plan, store, stored)

    def between() -> None:
        if writer.due(store.every):
            with stop.deferred():
                writer.store_within(learner.task, learner.state_dict())

    if isinstance(learner, Pausing):
        learner.between = between
    try:
        while learner.task < tasks:
            with stop.interruptible():
                rows = learner.run_task()
            last = writer.add(learner.task, learner.state_dict(), rows)
            reporter.finished(learner.task, last)
            writer.store(store.every)
            stop.check()
    finally:
        writer.store()
    reporter.flush()


class _Writer:
    """Collects the finished tasks of a stack, and stores those that are not stored yet."""

    def __init__(self, plan: StackPlan, store: Store, stored: Stored) -> None:
        self._plan, self._store, self._tables = plan, store, dict(stored.tables)
        self._expected, self._expected_state = dict(stored.expected), stored.expected_state
        tasks = [frame["task"].max() for frame in stored.expected.values()]
        self._expected_tasks = max((int(task) + 1 for task in tasks if task is not None), default=0)  # type: ignore[arg-type]
        self._new: tuple[int, dict[str, Any], bool] | None = None
        self._stored_at = time.monotonic()
        self._confirmed = False

    def add(self, task: int, state: dict[str, Any], rows: Any) -> pl.DataFrame:
        """Add a finished task: the state after it and its rows; returns its results."""
        by_table = rows if isinstance(rows, Mapping) else {"results": rows}
        frames = {name: self._store.frame(name, by_table.get(name, ())) for name in self._tables}
        for name, frame in frames.items():
            self._compare(name, task - 1, frame)
        self._compare_state(task, state)
        tables = {name: table.vstack(frames[name]) for name, table in self._tables.items()}
        self._tables, self._new = tables, (task, state, False)
        return frames["results"]

    def _compare(self, name: str, task: int, frame: pl.DataFrame) -> None:
        """Refuse rows that differ from those expected of a task; then these are expected no more."""
        expected = self._expected[name].filter(pl.col("task") == task)
        if not len(expected):
            return
        keys = [key for key in ("system", "config_id", "seed", "epoch") if key in expected.columns]
        one, other = frame.select(expected.columns).sort(keys), expected.sort(keys)
        for column in expected.columns:
            if digests.values_digest(one.select(column)) != digests.values_digest(other.select(column)):
                raise ValueError(
                    f"{self._store.table_path(name, self._plan.id)} holds another `{column}` of task {task} than is "
                    "computed now: train on with the processor, torch and regrow that manifest.json names, or choose "
                    "another --out"
                )
        self._expected[name] = self._expected[name].filter(pl.col("task") > task)

    def _compare_state(self, task: int, state: dict[str, Any]) -> None:
        if self._expected_state and self._expected_state[0] == task:
            if not checkpoint.same(state, self._expected_state[1]):
                raise ValueError(
                    f"{self._store.lost_path(self._plan.id)} holds another state after task {task - 1} than is "
                    "computed now: train on with the processor, torch and regrow that manifest.json names, or delete it"
                )
            self._expected_state = None
            self._confirmed = True

    def due(self, every: float) -> bool:
        """Whether the last store is at least so many seconds ago."""
        return time.monotonic() - self._stored_at >= every

    def store_within(self, task: int, state: dict[str, Any]) -> None:
        """Store in the middle of a task, which has no rows yet."""
        self._new = task, state, True
        self.store()

    def store(self, every: float = 0.0) -> None:
        """Store, unless nothing is new or the last store is less than so many seconds ago."""
        if self._new and self.due(every):
            self._tables = {name: table.rechunk() for name, table in self._tables.items()}
            tables = {
                name: pl.concat([table, rest], how="diagonal") if len(rest := self._expected[name]) else table
                for name, table in self._tables.items()
            }
            task, state, within = self._new
            self._store.save(self._plan, task, state, tables, expected=self._expected_tasks, within=within)
            if self._confirmed:
                self._store.confirmed(self._plan)
                self._confirmed = False
            self._new, self._stored_at = None, time.monotonic()


class _Reporter:
    """Collects the progress of a stack and sends it now and then."""

    def __init__(self, stack: str, send: Callable[[Report], None]) -> None:
        self._stack, self._send, self._task, self._updates, self._sent_at = stack, send, 0, 0, time.monotonic()
        self._accuracy: dict[str, list[float]] = {}

    def updates(self, count: int) -> None:
        """Add network-updates."""
        self._updates += count
        self._flush_if_due()

    def finished(self, task: int, rows: pl.DataFrame) -> None:
        """Set the number of finished tasks, and add the rows of the last ones."""
        self._task = task
        means = rows.group_by("system", "task").agg(pl.col("online_accuracy").mean()).sort("system", "task")
        for system, _, mean in means.iter_rows():
            self._accuracy[system] = [*self._accuracy.get(system, []), mean][-RECENT:]
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        if time.monotonic() - self._sent_at >= REPORT_EVERY:
            self.flush()

    def flush(self) -> None:
        """Send what was collected."""
        report = Report(self._stack, self._task, self._updates, self._accuracy)
        self._updates, self._accuracy, self._sent_at = 0, {}, time.monotonic()
        self._send(report)
