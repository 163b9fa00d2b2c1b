"""`regrow report` and `regrow watch`: a page of stored results, written once or updated during a run."""

import time
import webbrowser
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from ..lab.runs import manifest
from ..lab.runs.lock import is_running
from ..lab.runs.tables import read_table, table_files
from ..report.claims import Verdict
from ..report.page.page import NAME, gather, prepare, write_page
from ..report.results import BENCH, Folder, read
from .options import Directory, Flag

PAUSE = 3.0
"""Seconds between two looks at the files."""
SHARE = 10.0
"""Drawing may take at most a tenth of the time: the run needs the processor."""

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Report:
    """Write a report on stored results: one page with figures, tables and a verdict on every claim of the paper."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR...", help_behavior_hint="(required)")]
    """folders that `regrow run` wrote; results on permuted images and on CIFAR-100 each get a part of the page"""
    out: Directory = None
    """folder for the report; default: report/ in the first folder"""
    open: Flag = False
    """show the page in the browser"""

    def run(self) -> None:
        """Read all folders, then write the page and print its path."""
        if not self.folders:
            raise ValueError("`regrow report` needs folders of results; got none: name folders that `regrow run` wrote")
        folders = list(dict.fromkeys(folder.resolve() for folder in self.folders))
        results = gather([read(_as_given(folder, self.folders)) for folder in folders])
        out = self.out or self.folders[0] / "report"
        verdicts = write_page(results, out)
        _print(Console(), f"Report: {out / NAME}. {tally(verdicts)}")
        if self.open and not webbrowser.open((out / NAME).resolve().as_uri()):
            raise OSError(f"`open` needs a browser, and none was found: open {out / NAME} yourself")


@dataclass(frozen=True)
class Watch:
    """Keep the report of a run up to date while it trains, until it is complete or you press Ctrl-C."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """folder that `regrow run` writes"""
    out: Directory = None
    """folder for the report; default: report/ in DIR"""

    def run(self, pause: float = PAUSE, sleep: Callable[[float], None] = time.sleep) -> None:
        """Draw the page whenever the files have changed, until the run is complete or Ctrl-C."""
        console, out = Console(), self.out or self.folder / "report"
        manifest.read(self.folder)
        prepare(out)
        _print(console, f"Watching {self.folder}; the page is {out / NAME}. Ctrl-C stops watching, not the run.")
        try:
            _follow(self.folder, out, console, pause, sleep)
        except KeyboardInterrupt:
            page = f"the page is {out / NAME}" if (out / NAME).exists() else "there is no page yet"
            raise KeyboardInterrupt(f"stopped watching; {page}. To watch again: regrow watch {self.folder}") from None


def _follow(folder: Path, out: Path, console: Console, pause: float, sleep: Callable[[float], None]) -> None:
    """Check, draw, wait."""
    drawn: Stamp | None = None
    waiting = False
    while True:
        seen, begun = stamp(folder), time.monotonic()
        if seen != drawn and has_rows(folder):
            results = read(folder)
            complete = results.complete and not is_running(folder)
            _draw(results, out, complete, console)
            if complete:
                _print(console, f"The run is complete. Report: {out / NAME}")
                return
            drawn = seen
        elif drawn is None and not waiting:
            _print(console, "No rows yet: a run stores its first after about 20 seconds.")
            waiting = True
        elif drawn is not None and not is_running(folder) and read(folder).complete:
            drawn = None  # the last rows were drawn before the run released the folder
            continue
        sleep(max(pause, SHARE * (time.monotonic() - begun)))


def _draw(results: Folder, out: Path, complete: bool, console: Console) -> None:
    """The page of an unfinished run reloads itself."""
    now = time.strftime("%H:%M:%S")
    note = "" if complete else f"The run is in progress; drawn at {now}, redrawn as it stores more."
    verdicts = write_page(gather([results]), out, refresh=None if complete else 30, note=note)
    tasks = results.rows["task"].max()
    _print(console, f"{now}  up to task {tasks:,}: {len(results.rows):,} rows. {tally(verdicts)}")


def stamp(folder: Path) -> Stamp:
    """What changes when a run has stored something: names, times and sizes of its files."""
    paths = [folder / manifest.NAME, folder / BENCH, *table_files(folder)]
    files = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        files.append((path.name, status.st_mtime_ns, status.st_size))
    return tuple(files)


def has_rows(folder: Path) -> bool:
    """Whether a run has stored any rows; unreadable files count, since reading them later names the problem."""
    try:
        return any(len(read_table(path)[0]) for path in table_files(folder))
    except (OSError, ValueError):
        return True


def tally(verdicts: Sequence[Verdict]) -> str:
    """The number of statements with each verdict.

    Example:
        >>> tally([])
        'No statement was judged.'
    """
    counts = Counter(verdict.grade for verdict in verdicts)
    listed = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
    return f"Statements: {listed}." if listed else "No statement was judged."


def _as_given(folder: Path, given: Sequence[Path]) -> Path:
    """The path as the user typed it, for messages."""
    return next(path for path in given if path.resolve() == folder)


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
