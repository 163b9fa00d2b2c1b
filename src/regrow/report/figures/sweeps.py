"""Figures 8 and 9 of the paper: accuracy against the knobs of each method, from sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from ...lab.runs.text import counted
from ...lab.studies.permuted_values import chosen
from ..format import value
from ..runs import Runs
from ..style import FOUR, INK, SERIES, SETTING_LABELS, Look, look
from ..sweeps import configs_with, read
from .panels import error_bar
from .permuted import variants
from .plan import ACCURACY
from .sheet import Drawing, Missing, Series, Shown, Topic, heading, sheet, styled

KNOBS = {"cbp": ("replacement_rate", "maturity"), "redo": ("threshold", "every")}
"""{system: the knob along x, the knob of each line}; of all others `factor` and `every`."""
LETTERS = 14
"""More letters than these do not fit below a panel: then every other value has its label."""
NAMES = {"replacement_rate": "replacement rate", "every": "every"}


class Point(NamedTuple):
    """One config of a sweep: where it stands, the mean accuracy over tasks with its standard error over seeds.

    papers: whether the paper chose it.
    """

    x: float
    line: float
    mean: float
    error: float
    papers: bool


class Cell(NamedTuple):
    """A panel of one sweep."""

    title: str
    setting: str
    system: str


class SensitivityPlan(NamedTuple):
    """A figure of sweeps.

    columns: of panels, where all have a sweep.
    to_a_letter: panels that share a letter, as the paper's figure has them in one panel.
    """

    topic: Topic
    cells: tuple[Cell, ...]
    columns: int
    to_a_letter: int = 1


SENSITIVITIES = (
    SensitivityPlan(
        Topic(
            "figure-08",
            "Figure 8: sensitivity of selective weight reinitialization, large",
            "initial-assessment",
            sweep=True,
        ),
        tuple(
            Cell(f"{utility}, {pruning}{', mean' * mean}", "large", variants(utility, pruning)[mean])
            for pruning in ("proportional", "threshold")
            for utility in ("gradient", "magnitude")
            for mean in (True, False)  # of threshold pruning the paper's f and h resample
        ),
        2,
    ),
    SensitivityPlan(
        Topic("figure-09", "Figure 9: sensitivity of renewing units and renewing weights", "weights-vs-units", True),
        tuple(
            Cell(f"{look(system).label}, {setting.replace('-ln', ', LN')}", setting, system)
            for setting in FOUR
            for system in ("cbp", "redo", "swr")
        ),
        3,
        to_a_letter=3,
    ),
)


@dataclass(frozen=True)
class Grid:
    """The configs of one system in one setting, in the two knobs of its panel, over the same seeds and tasks."""

    setting: str
    system: str
    points: tuple[Point, ...]
    seeds: int
    tasks: int

    @property
    def knobs(self) -> tuple[str, str]:
        """The knob along x, and the knob of each line."""
        return KNOBS.get(self.system, ("factor", "every"))

    @property
    def lines(self) -> list[float]:
        """Values of the knob of the lines."""
        return sorted({point.line for point in self.points})

    @property
    def best(self) -> Point:
        """The point of highest accuracy."""
        return max(self.points, key=lambda point: point.mean)


def as_grid(runs: Runs, setting: str, system: str) -> Grid | None:
    """The sweep of a system, over the seeds and tasks that all its configs have; None if it has fewer than three."""
    x, line = KNOBS.get(system, ("factor", "every"))
    sweep = read(configs_with(runs, setting, system, (x, line)), least=3)
    if not sweep:
        return None
    papers, points = chosen(setting, system), {}
    for name in sweep.over.groups:
        means, config = sweep.by_seed(name), sweep.config(name)
        place = float(config[x]), float(config[line])
        same = place == (float(papers[x]), float(papers[line]))
        point = Point(*place, float(means.mean()), error_bar(means.tolist()), same)
        if place not in points or points[place].mean < point.mean:  # configs that differ in other knobs: the better
            points[place] = point
    ordered = tuple(points[place] for place in sorted(points))
    return Grid(setting, system, ordered, len(sweep.over.seeds), sweep.over.tasks)


@styled
def sensitivity(runs: Runs, plan: SensitivityPlan) -> Drawing | Missing:
    """Mean online accuracy against one knob, a line for each value of the other; panels without a sweep are left out.

    Rows and columns of panels without any sweep are left out whole.
    """
    topic, cells, columns, to_a_letter = plan
    grids = {i: as_grid(runs, cell.setting, cell.system) for i, cell in enumerate(cells)}
    absent = [(cells[i].setting, cells[i].system) for i, each in grids.items() if each is None]
    shown = {i: each for i, each in grids.items() if each}
    if not shown:
        return topic.nothing("no sweep of any of its systems", absent)
    rows, kept = {i // columns for i in shown}, {i % columns for i in shown}
    places = [i for i in grids if i // columns in rows and i % columns in kept]
    figure, panels = sheet(len(rows), len(kept), 2.0, "none")
    for axes, i in zip(panels, places, strict=True):
        if i not in shown:
            axes.remove()
            continue
        heading(axes, i // to_a_letter, cells[i].title)
        _draw(axes, shown[i])
        axes.set_ylabel(ACCURACY)
    _share([(axes, shown[i].setting) for axes, i in zip(panels, places, strict=True) if i in shown])
    drawn = list(shown.values())
    placed = dict(zip(places, panels, strict=True))
    parts = tuple(
        Shown(placed[i], cells[i].title, _series(each), NAMES.get(each.knobs[0], each.knobs[0]))
        for i, each in shown.items()
    )
    return Drawing(topic.name, topic.title, _caption(drawn), _alt(drawn), figure, topic.gaps(absent), parts)


def _series(grid: Grid) -> tuple[Series, ...]:
    """A line for each value of the other knob."""
    lines = []
    for (colour, _), value_ in zip(SERIES, grid.lines, strict=False):
        own = [point for point in grid.points if point.line == value_]
        x, mean, error = (np.array([getattr(p, name) for p in own]) for name in ("x", "mean", "error"))
        error = error if grid.seeds > 1 else np.full(len(own), np.nan)
        name = f"{NAMES.get(grid.knobs[1], grid.knobs[1])} {value(value_)}"
        lines.append(Series(Look(name, colour), x, mean, error, np.full(len(own), grid.seeds)))
    return tuple(lines)


def _share(panels: Sequence[tuple[Axes, str]]) -> None:
    """The same y axis for all panels of a setting: they are what is compared."""
    for setting in {setting for _, setting in panels}:
        together = [axes for axes, own in panels if own == setting]
        low, high = min(axes.get_ylim()[0] for axes in together), max(axes.get_ylim()[1] for axes in together)
        gap = 0.07 * (high - low)  # so that the ring is whole
        for axes in together:
            axes.set_ylim(low - gap, high + gap)


def _draw(axes: Axes, grid: Grid) -> None:
    x, line = grid.knobs
    for (colour, marker), value_ in zip(SERIES, grid.lines, strict=False):
        own = [point for point in grid.points if point.line == value_]
        axes.errorbar(
            [point.x for point in own], [point.mean for point in own], [point.error for point in own],
            color=colour, marker=marker, markersize=3.5, linewidth=1.1, label=f"{value_:g}",
        )  # fmt: skip
    for point in grid.points:
        if point.papers:
            axes.plot(point.x, point.mean, "o", markersize=9, fillstyle="none", color=INK, markeredgewidth=1.0)
    axes.plot(grid.best.x, grid.best.mean, "x", markersize=6, color=INK, markeredgewidth=1.4, zorder=5)
    _axis_of_knob(axes, x, sorted({point.x for point in grid.points}))
    axes.legend(
        title=line, loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=7.5, title_fontsize=7.5,
        handlelength=1.2, borderaxespad=0.2, labelspacing=0.3,
    )  # fmt: skip


def _axis_of_knob(axes: Axes, knob: str, ticks: list[float]) -> None:
    """A logarithmic x axis with a tick at each value tried."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    labels = [value(float(f"{tick:.2g}")) for tick in ticks]
    skip = 1 + (sum(map(len, labels)) > LETTERS)
    labels = [label if (len(labels) - 1 - i) % skip == 0 else "" for i, label in enumerate(labels)]
    axes.set_xticks(ticks, labels, fontsize=7.5)
    axes.set_xlabel(NAMES.get(knob, knob))


def _caption(grids: Sequence[Grid]) -> str:
    sizes: dict[str, list[str]] = {}
    for grid in grids:
        text = f"{counted(grid.seeds, 'seed')} × {counted(grid.tasks, 'task')}"
        sizes.setdefault(text, []).append(f"{look(grid.system).label}, {SETTING_LABELS[grid.setting]}")
    n = "; ".join(text if len(sizes) == 1 else f"{text} ({'; '.join(names)})" for text, names in sizes.items())
    bars = "bars: ± 1 standard error over seeds. " if any(grid.seeds > 1 for grid in grids) else "one seed, no bars. "
    return (
        "Mean online accuracy over all tasks of a sweep against one knob, a line for each value of the other; "
        f"{bars}Ring: what the paper chose; cross: the best of ours. n = {n} for each point."
    )


def _alt(grids: Sequence[Grid]) -> str:
    parts = []
    for grid in grids:
        (x, line), best = grid.knobs, grid.best
        low = min(point.mean for point in grid.points)
        parts.append(
            f"{look(grid.system).label} in {SETTING_LABELS[grid.setting]} from {low:.1f} to {best.mean:.1f} %, best "
            f"at {NAMES.get(x, x)} {value(best.x)} and {line} {best.line:g}"
        )
    return f"Lines of mean online accuracy against a knob. {'. '.join(parts)}."
