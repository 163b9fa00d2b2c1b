"""Shows how far a run is: a live line per worker on a terminal, a line now and then elsewhere."""

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..studies import SYSTEMS, StackPlan
from .timing import makespan
from .worker import RECENT, Report

LINE_EVERY = 10.0  # seconds between plain lines
_WINDOW = 10.0  # seconds over which speed is measured
_SETTLED = 5.0  # seconds of training before its own speed counts for the time left


@dataclass
class _Pace:
    """Network-updates of the last seconds."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, count: int, now: float) -> None:
        self.marks.append((now, count))

    def rate(self, now: float) -> float:
        """Network-updates per second."""
        while self.marks and now - self.marks[0][0] > _WINDOW:
            self.marks.popleft()
        span = now - self.marks[0][0] if self.marks else 0.0
        return sum(count for _, count in list(self.marks)[1:]) / span if span > 0 else 0.0  # the first was made before


class Board:
    """How far every stack and worker is; what the views are drawn from.

    Reports come in from one thread, views are drawn by another; neither waits for the other's output.

    Args:
        plans: the stacks of the run.
        tasks: to finish, of each.
        updates: of each network in a task.
        expected: seconds a task of each stack, {id: seconds}.
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
        self._heard: dict[int, float] = {}  # when each worker reported last
        self._spent: dict[str, float] = {}  # seconds of each stack, without those between its turns
        self._news: list[str] = []
        self._start: float | None = None

    # What comes in.

    def report(self, worker: int, report: Report) -> None:
        """A worker is somewhere within a stack."""
        now, members = time.monotonic(), len(self._plans[report.stack].members)
        with self._lock:
            self._start = self._start or now
            here = self._places.get(worker, ("", 0))[0] == report.stack
            self._spent[report.stack] = self._spent.get(report.stack, 0.0) + (
                now - self._heard[worker] if here else 0.0
            )
            self._heard[worker] = now
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
            self._news.append(
                f"{stack}: {counted(made, 'task')} in {spent} ({finished} of {counted(len(self._plans), 'stack')} done)"
            )

    # What is shown.

    def news(self) -> list[str]:
        """A line for each stack that was finished since the last call."""
        with self._lock:
            news, self._news = self._news, []
            return news

    def total(self) -> str:
        """All stacks in one line: how much is done, how fast, how long it will take."""
        with self._lock:
            now = time.monotonic()
            share = sum(self._done.values()) / (max(1, self._tasks) * len(self._done))
            rate = sum(self._paces[worker].rate(now) for worker in self._places)
            left = self._left(now)
        return f"{share:.1%} · {rate:,.0f} network-updates/s · {duration(left)} left"

    def _left(self, now: float) -> float:
        """Seconds: as expected for each stack, corrected by how fast the work so far went."""
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
        """Of each worker: its number, its stack, the task, network-updates a second."""
        with self._lock:
            now = time.monotonic()
            return [
                (f"worker {n}", stack, f"task {min(task + 1, self._tasks)} of {self._tasks}",
                 f"{self._paces[n].rate(now):,.0f} network-updates/s")
                for n, (stack, task) in sorted(self._places.items())
            ]  # fmt: skip


def duration(seconds: float) -> str:
    """Seconds as people say it.

    Example:
        >>> duration(8.2), duration(100), duration(5000), duration(200_000)
        ('8 s', '1 min 40 s', '1 h 23 min', '2 d 7 h')
    """
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (large, big), (small, little) in itertools.pairwise(units):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {big}" + (f" {rest} {little}" if rest else "")
    return f"{whole} s"


def counted(count: int, noun: str) -> str:
    """A number and a noun, in the plural where it must be.

    Example:
        >>> counted(1, "stack"), counted(2000, "task")
        ('1 stack', '2,000 tasks')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


@contextlib.contextmanager
def showing(board: Board, console: Console) -> Iterator[None]:
    """Show a board while something runs, from a thread of its own: a slow terminal slows nothing down."""
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(get_renderable=lambda: _picture(board), console=console, refresh_per_second=4):
            yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_write_lines, args=(board, console, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _picture(board: Board) -> Table:
    workers = Table.grid(padding=(0, 3))
    for row in board.workers():
        workers.add_row(*row)
    picture = Table.grid()
    picture.add_row(workers)
    picture.add_row(board.total())
    if accuracy := board.accuracy():
        picture.add_row(f"last {RECENT} tasks: {accuracy}")
    return picture


def _write_lines(board: Board, console: Console, stop: threading.Event) -> None:
    """A line for each stack that ends, and one about all at most every `LINE_EVERY` seconds."""
    last = time.monotonic()
    with contextlib.suppress(OSError):  # nobody reads any more
        while not stop.wait(0.25):
            _say(console, board.news())
            if time.monotonic() - last >= LINE_EVERY:
                last = time.monotonic()
                accuracy = board.accuracy()
                _say(console, [board.total() + (f" · {accuracy}" if accuracy else "")])
        _say(console, board.news())


def _say(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
