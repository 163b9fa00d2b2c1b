"""A figure and what is missing of it; the empty panels, axes, legends and counts that all figures share.

Shapes: R runs, B bins.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator, StrMethodFormatter

from ...lab.runs.text import counted
from ..format import run_command
from ..runs import NEAR, Run
from ..style import FAINT, SHEET, Look, look

WIDTH, NARROW = 7.2, 4.4  # inches of a figure
LEGEND = 14.4  # letters in an inch of its legend
LETTERS = "abcdefghijklmnopqrstuvwxyz"

Share = Literal["row", "all", "none"]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    """A figure, or a part of one, that no results cover.

    name, title: of the figure.
    reason: what is missing, one line.
    command: what makes it.
    """

    name: str
    title: str
    reason: str
    command: str


class Series(NamedTuple):
    """A line of a panel in numbers, (B,) each.

    error: standard error over seeds, NaN for one seed; seeds: runs in each point.
    """

    look: Look
    x: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    seeds: np.ndarray


class Shown(NamedTuple):
    """A panel, and its lines in numbers; x: what runs along its axis."""

    axes: Axes
    title: str
    series: tuple[Series, ...] = ()
    x: str = "task"


@dataclass(frozen=True)
class Drawing:
    """A figure and what a page says about it.

    name: for files, and unique among figures.
    title: one line.
    caption: what is drawn, of how many runs; plain text.
    alt: the figure in words, for readers who cannot see it.
    gaps: parts of it that no results cover.
    panels: in reading order.
    looks: of the legend; empty where the panels have their own.
    length: how long its runs are and how many seeds they have, where there is another choice of runs.
    others: the same figure of the other choice.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    gaps: tuple[Missing, ...] = ()
    panels: tuple[Shown, ...] = ()
    looks: tuple[Look, ...] = ()
    length: str = ""
    others: tuple["Drawing", ...] = ()


def sheet(rows: int, columns: int, height: float, share: Share = "row"):
    """An empty figure with panels, narrower where they stand below each other.

    Args:
        rows, columns: of panels.
        height: of a row, in inches.
        share: which panels have the same y axis: "row", "all", or "none".

    Returns:
        The figure, and its panels in reading order.
    """
    width = WIDTH if columns > 1 else NARROW
    figure = Figure(figsize=(width, rows * height + 0.45), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=share, squeeze=False)
    return figure, list(grid.flat)


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Draw in the style of the report."""

    @functools.wraps(function)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.rc_context(SHEET):
            return function(*args, **kwargs)

    return drawn


def heading(axes: Axes, number: int | None, title: str) -> None:
    """A panel's letter and title."""
    axes.set_title(f"{LETTERS[number]}   {title}" if number is not None else title, weight="bold")


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers."""
    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(LogFormatter(minor_thresholds=(1.2, 0.4)))


def empty(axes: Axes, text: str) -> None:
    """A panel without lines."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=FAINT)
    axes.tick_params(bottom=False, labelbottom=False)


def legend(figure: Figure, looks: Sequence[Look]) -> None:
    """One legend for the whole figure, above its panels, in as few rows as possible."""
    handles = [Line2D([], [], color=each.colour, linestyle=each.dashes, linewidth=1.8) for each in looks]
    labels = [each.label.replace("proportional", "prop.") for each in looks]
    most = LEGEND * figure.get_figwidth()
    columns = next(n for n in range(len(labels), 0, -1) if _letters(labels, n) <= most or n == 1)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.4, borderaxespad=0.2)
    figure.set_figheight(figure.get_figheight() + 0.19 * (-(-len(labels) // columns) - 1))


def _letters(labels: Sequence[str], columns: int) -> int:
    """Width of a legend that is filled column by column, the first ones longest."""
    return sum(8 + max(map(len, part)) for part in np.array_split(np.array(labels), columns))


def count(runs: Sequence[Run]) -> str:
    """How many seeds and tasks runs have, the longest first.

    Runs of nearly the same length are counted together: during a run its stacks are at different tasks.
    """
    left, groups = sorted((run.tasks for run in runs), reverse=True), []
    while left:
        near = [tasks for tasks in left if tasks >= NEAR * left[0]]
        low, high = near[-1], near[0]
        tasks = counted(high, "task") if low == high else f"{low:,} to {counted(high, 'task')}"
        groups.append(f"{counted(len(near), 'seed')} × {tasks}")
        left = left[len(near) :]
    return " and ".join(groups)


def counts(groups: Mapping[str, Sequence[Run]]) -> str:
    """How many runs each group has, one sentence; groups of the same size are named together.

    Args:
        groups: {name of a line: its runs}
    """
    by_count: dict[str, list[str]] = {}
    for name, runs in groups.items():
        by_count.setdefault(count(runs), []).append(name)
    if len(by_count) == 1:
        return f"n = {next(iter(by_count))}."
    return "n = " + "; ".join(f"{text} ({', '.join(names)})" for text, names in by_count.items()) + "."


def axis_of_tasks(axes: Axes, groups: Iterable[Sequence[Run]]) -> None:
    """An x axis of tasks, labelled with the number of seeds."""
    groups = [runs for runs in groups if runs]
    tasks = max(run.tasks for runs in groups for run in runs)
    axes.set_xlabel(f"task (n = {_range({len(runs) for runs in groups})})")
    axes.set_xlim(-0.03 * tasks, 1.03 * tasks)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _range(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


class Topic(NamedTuple):
    """A figure's name for files, its title, and the study that makes its runs.

    sweep: whether its runs are sweeps. tasks, options: as for `run_command`.
    """

    name: str
    title: str
    study: str
    sweep: bool = False
    tasks: int | None = None
    options: str = ""

    def gaps(self, absent: Sequence[tuple[str, str]]) -> tuple[Missing, ...]:
        """What is missing, (setting, system) each: one entry for all settings that lack the same systems."""
        by_systems: dict[tuple[str, ...], list[str]] = {}
        for setting in dict.fromkeys(setting for setting, _ in absent):
            by_systems.setdefault(tuple(system for where, system in absent if where == setting), []).append(setting)
        what = "no sweep" if self.sweep else "no run"
        return tuple(
            self._missing(f"{what} of {_listed(systems)} in {', '.join(settings)}", settings, systems)
            for systems, settings in by_systems.items()
        )

    def nothing(self, reason: str, absent: Sequence[tuple[str, str]]) -> Missing:
        """The whole figure is missing."""
        return self._missing(reason, (setting for setting, _ in absent), (system for _, system in absent))

    def _missing(self, reason: str, settings: Iterable[str], systems: Iterable[str]) -> Missing:
        settings = list(settings)
        if not settings:
            return Missing(self.name, self.title, reason, "")
        command = run_command(self.study, settings, systems, self.sweep, self.tasks, self.options)
        return Missing(self.name, self.title, reason, command)


def _listed(systems: Iterable[str]) -> str:
    return "; ".join(look(system).label for system in systems)
