"""`regrow data`: check which data sets are present and intact, and download them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from tyro.conf import Positional, arg

from ..lab.data import fetch
from ..lab.data.mnist import data_folder, default_folder
from .options import Directory


@dataclass(frozen=True)
class Data:
    """Check which data sets are present and intact, or download them."""

    action: Annotated[Positional[Literal["check", "fetch"]], arg(metavar="{check,fetch}")] = "check"
    """check: verify the data sets that are present; fetch: download MNIST and CIFAR-100 (180 MB) if missing"""
    data: Directory = None
    """folder of the data sets; default: REGROW_DATA, else one in the user's cache folder"""
    only: Annotated[fetch.Name | None, arg(metavar="{mnist,cifar100}", help_behavior_hint="")] = None
    """only this data set; default: both"""

    def run(self) -> None:
        """Print a line for each data set; raises ValueError at the end if one is damaged."""
        console = Console(highlight=False, markup=False, soft_wrap=True)
        folder = data_folder(self.data) or default_folder()
        if folder is None:
            raise ValueError("there is no home folder to store data in: name a folder with --data or REGROW_DATA")
        console.print(f"Data folder: {folder}")
        damaged = []
        which = (self.only,) if self.only else tuple(fetch.BASES)
        for entry in fetch.check(folder, which) if self.action == "check" else _fetched(folder, which, console):
            console.print(f"{entry.name:9} {entry.state:8} {entry.detail}")
            if entry.state == "whole":
                console.print(f"{'':18} in {entry.place}")
            damaged += [entry.name] if entry.state == "damaged" else []
        if damaged:
            raise ValueError(f"damaged: {', '.join(damaged)}; see the remedies above")


def _fetched(folder: Path, which: Sequence[fetch.Name], console: Console) -> Iterator[fetch.Presence]:
    """Download one data set after the other, with a progress bar on a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name in which:
            yield from fetch.fetch(folder, [name], follow=_bars(progress))


def _bars(progress: Progress) -> Callable[[str, int, int], None]:
    """A bar for each file."""
    bars: dict[str, TaskID] = {}

    def follow(name: str, done: int, total: int) -> None:
        if name not in bars:
            bars[name] = progress.add_task(name, total=total)
        progress.update(bars[name], completed=done)

    return follow
