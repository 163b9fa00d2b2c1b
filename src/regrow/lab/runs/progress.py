"""Shows the progress of a run: a live line per worker on a terminal, a line now and then elsewhere."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..studies import SYSTEMS, StackPlan
from .text import counted, duration
from .timing import makespan
from .training import RECENT, Report

LINE_EVERY = 10.0  # seconds between plain lines
_WINDOW = 10.0  # seconds over which speed is measured
_SETTLED = 5.0  # seconds of training before the measured speed counts for the time left


@dataclass
class _Pace:
    """Network-updates of the last ten seconds."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, count: int, now: float) -> None:
        self.marks.append((now, count))

    def rate(self, now: float) -> float:
        """Network-updates per second."""
        while self.marks and now - self.marks[0][0] > _WINDOW:
            self.marks.popleft()
        span = now - self.marks[0][0] if self.marks else 0.0
        return sum(count for _, count in list(self.marks)[1:]) / span if span > 0 else 0.0  # the first was made earlier


class Progress:
    """The progress of every stack and worker; the views are drawn from it.

    One thread adds reports, another draws the views; neither waits for the other's output.

    Args:
        plans: the stacks of the run.
        tasks: to finish, of each.
        updates: of each network per task.
        expected: seconds per task of each stack, {id: seconds}.
        done: tasks already finished, {id: tasks}.
        workers: processes.
    """

    def __init__(
        self,
        plans: Sequence[StackPlan],
        tasks: int,
        updates: int,
        expected: Mapping[str, float],
        done: Mapping[str, int],
        workers: int,
    ) -> None:
        self._lock = threading.Lock()
        self._plans = {plan.id: plan for plan in plans}
        self._tasks, self._updates, self._expected = tasks, updates, dict(expected)
        self._done = {name: float(min(done[name], tasks)) for name in self._plans}
        self._begun = dict(self._done)
        self._workers = workers
        self._places: dict[int, tuple[str, int]] = {}  # stack and task of each worker
        self._paces: dict[int, _Pace] = {}
        self._recent: dict[str, dict[str, deque[float]]] = {}
        self._reported_at: dict[int, float] = {}  # of each worker's last report
        self._spent: dict[str, float] = {}  # seconds of each stack, without the pauses between its turns
        self._finished_lines: list[str] = []
        self._start: float | None = None

    # Input.

    def report(self, worker: int, report: Report) -> None:
        """A worker reports its progress on a stack."""
        now, members = time.monotonic(), len(self._plans[report.stack].members)
        with self._lock:
            self._start = self._start or now
            here = self._places.get(worker, ("", 0))[0] == report.stack
            self._spent[report.stack] = self._spent.get(report.stack, 0.0) + (
                now - self._reported_at[worker] if here else 0.0
            )
            self._reported_at[worker] = now
            self._places[worker] = report.stack, report.task
            self._paces.setdefault(worker, _Pace()).add(report.updates, now)
            before = self._done[report.stack]
            within = report.updates / (members * self._updates)
            self._done[report.stack] = min(max(before + within, float(report.task)), report.task + 0.99)
            recent = self._recent.setdefault(report.stack, {})
            for system, accuracies in report.accuracy.items():
                recent.setdefault(system, deque(maxlen=RECENT)).extend(accuracies)

    def done(self, worker: int, stack: str) -> None:
        """A worker has finished a stack."""
        with self._lock:
            self._done[stack] = float(self._tasks)
            self._places.pop(worker, None)
            finished = sum(done >= self._tasks for done in self._done.values())
            spent = duration(self._spent.get(stack, 0.0))
            made = self._tasks - round(self._begun[stack])
            self._finished_lines.append(
                f"{stack}: {counted(made, 'task')} in {spent} ({finished} of {counted(len(self._plans), 'stack')} done)"
            )

    # Output.

    def finished_lines(self) -> list[str]:
        """A line for each stack that was finished since the last call."""
        with self._lock:
            lines, self._finished_lines = self._finished_lines, []
            return lines

    def total(self) -> str:
        """All stacks in one line: share done, speed, time left."""
        with self._lock:
            now = time.monotonic()
            share = sum(self._done.values()) / (max(1, self._tasks) * len(self._done))
            rate = sum(self._paces[worker].rate(now) for worker in self._places)
            left = self._left(now)
        return f"{share:.1%} · {rate:,.0f} network-updates/s · {duration(left)} left"

    def _left(self, now: float) -> float:
        """Seconds left: as expected for each stack, corrected by the speed so far."""
        ahead = [(self._tasks - done) * self._expected[name] for name, done in self._done.items()]
        work = sum((done - self._begun[name]) * self._expected[name] for name, done in self._done.items())
        spent = (now - self._start) * min(self._workers, len(self._done)) if self._start else 0.0
        slower = spent / work if spent > _SETTLED and work > 0 else 1.0
        return makespan(ahead, self._workers) * slower

    def accuracy(self) -> str:
        """Mean online accuracy of each system over the last tasks of all its networks."""
        sums: dict[str, tuple[float, int]] = {}
        with self._lock:
            for stack, systems in self._recent.items():
                members = [member.system for member in self._plans[stack].members]
                for system, recent in systems.items():
                    if recent:
                        total, count = sums.get(system, (0.0, 0))
                        mine = members.count(system)
                        sums[system] = total + mine * sum(recent) / len(recent), count + mine
        names = sorted(sums, key=SYSTEMS.index)
        return "  ".join(f"{name} {sums[name][0] / sums[name][1]:.1%}" for name in names)

    def workers(self) -> list[tuple[str, str, str, str]]:
        """Of each worker: its number, its stack, the task, network-updates per second."""
        with self._lock:
            now = time.monotonic()
            return [
                (f"worker {n}", stack, f"task {min(task + 1, self._tasks)} of {self._tasks}",
                 f"{self._paces[n].rate(now):,.0f} network-updates/s")
                for n, (stack, task) in sorted(self._places.items())
            ]  # fmt: skip


@contextlib.contextmanager
def showing(progress: Progress, console: Console) -> Iterator[None]:
    """Show the progress of a run from a separate thread, so that a slow terminal slows nothing down."""
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(get_renderable=lambda: _live_table(progress), console=console, refresh_per_second=4):
            yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_write_lines, args=(progress, console, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _live_table(progress: Progress) -> Table:
    workers = Table.grid(padding=(0, 3))
    for row in progress.workers():
        workers.add_row(*row)
    table = Table.grid()
    table.add_row(workers)
    table.add_row(progress.total())
    if accuracy := progress.accuracy():
        table.add_row(f"last {RECENT} tasks: {accuracy}")
    return table


def _write_lines(progress: Progress, console: Console, stop: threading.Event) -> None:
    """A line for each stack that ends, and a line of totals at most every `LINE_EVERY` seconds."""
    last = time.monotonic()
    with contextlib.suppress(OSError):  # the reader closed its end
        while not stop.wait(0.25):
            _print(console, progress.finished_lines())
            if time.monotonic() - last >= LINE_EVERY:
                last = time.monotonic()
                accuracy = progress.accuracy()
                _print(console, [progress.total() + (f" · {accuracy}" if accuracy else "")])
        _print(console, progress.finished_lines())


def _print(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
