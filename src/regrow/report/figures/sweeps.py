"""Figures 8 and 9 of the paper: accuracy against the knobs of each method, from sweeps.

Shapes: S seeds, T tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from ...lab.studies.permuted_values import chosen
from ..format import value
from ..runs import Runs, panels
from ..style import INK, SERIES, SETTING_LABELS, look
from .panels import ACCURACY
from .permuted import FOUR, variants
from .sheet import Drawing, Missing, Topic, heading, sheet, styled

KNOBS = {"cbp": ("replacement_rate", "maturity"), "redo": ("threshold", "every")}
"""{system: the knob along x, the knob of each line}; of all others `factor` and `every`."""
NAMES = {"replacement_rate": "replacement rate", "every": "every"}
WAYS = [
    (f"{utility}, {pruning}{', mean' * mean}", variants(utility, pruning)[mean])
    for pruning in ("proportional", "threshold")
    for utility, mean in (("magnitude", True), ("gradient", True), ("magnitude", False), ("gradient", False))
]
"""(title, system) of each panel of figure 8."""


@dataclass(frozen=True)
class Point:
    """One config of a sweep: where it stands, the mean accuracy over tasks with its standard error over seeds."""

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


@dataclass(frozen=True)
class Sweep:
    """The configs of one system in one setting, over the same seeds and tasks."""

    setting: str
    system: str
    points: tuple[Point, ...]
    seeds: int
    tasks: int

    @property
    def knobs(self) -> tuple[str, str]:
        return KNOBS.get(self.system, ("factor", "every"))

    @property
    def best(self) -> Point:
        return max(self.points, key=lambda point: point.mean)


def figure_8(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """How sensitive eight ways of selective weight reinitialization are to factor and frequency, large network."""
    title = "Figure 8: sensitivity of selective weight reinitialization, large"
    topic = Topic("figure-08", title, "initial-assessment", sweep=True)
    cells = [Cell(name, "large", system) for name, system in WAYS]
    return sensitivity(results, topic, cells, 2)


def figure_9(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """How sensitive CBP, ReDo and SWR are to their two knobs, in four settings."""
    cells = [
        Cell(f"{look(system).label}, {setting.replace('-ln', ', LN')}", setting, system)
        for setting in FOUR
        for system in ("cbp", "redo", "swr")
    ]
    title = "Figure 9: sensitivity of renewing units and renewing weights"
    topic = Topic("figure-09", title, "weights-vs-units", sweep=True)
    return sensitivity(results, topic, cells, 3)


def find(runs: Runs, setting: str, system: str) -> Sweep | None:
    """The sweep of a system, over the seeds and tasks that all its configs have; None if it has fewer than three."""
    configs = runs.configs(setting, system)
    x, line = KNOBS.get(system, ("factor", "every"))
    configs = {name: found for name, found in configs.items() if {x, line} <= found[0].config.keys()}
    over = panels(configs)[-1:] if len(configs) > 2 else []
    if not over:
        return None
    papers, points = chosen(setting, system), {}
    for name, (run, *_) in over[0].groups.items():
        means = over[0].series(name).mean(1)
        error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0
        place = float(run.config[x]), float(run.config[line])
        same = place == (float(papers[x]), float(papers[line]))
        point = Point(*place, float(means.mean()), error, same)
        if place not in points or points[place].mean < point.mean:  # sweeps that differ in other knobs: the better
            points[place] = point
    ordered = tuple(points[place] for place in sorted(points))
    return Sweep(setting, system, ordered, len(over[0].seeds), over[0].tasks)


@styled
def sensitivity(results: pl.DataFrame | Runs, topic: Topic, cells: Sequence[Cell], columns: int) -> Drawing | Missing:
    """Mean online accuracy against one knob, a line for each value of the other; panels without a sweep are left out.

    Args:
        results: rows as `regrow.load` returns them, or their runs.
        topic: of the figure.
        cells: its panels.
        columns: of panels, where all have a sweep.
    """
    runs = Runs.of(results)
    sweeps = [(i, cell, find(runs, cell.setting, cell.system)) for i, cell in enumerate(cells)]
    absent = [(cell.setting, cell.system) for _, cell, sweep in sweeps if sweep is None]
    found = [(i, cell, sweep) for i, cell, sweep in sweeps if sweep]
    if not found:
        return topic.nothing("no sweep of any of its systems", absent)
    rows, kept = ({i // columns for i, *_ in found}, {i % columns for i, *_ in found})
    places = [i for i in range(len(cells)) if i // columns in rows and i % columns in kept]
    figure, grid = sheet(len(rows), len(kept), 2.0, "none")
    drawn = {i: (cell, sweep) for i, cell, sweep in found}
    for axes, i in zip(grid, places, strict=True):
        if i not in drawn:
            axes.remove()
            continue
        heading(axes, i, drawn[i][0].title)
        _draw(axes, drawn[i][1])
        first = next(j for j in places if j in drawn and j // columns == i // columns)
        axes.set_ylabel(ACCURACY if i == first else "")
    _share([(axes, drawn[i][0].setting) for axes, i in zip(grid, places, strict=True) if i in drawn])
    only = [sweep for *_, sweep in found]
    return Drawing(topic.name, topic.title, _caption(only), _alt(only), figure, topic.gaps(absent))


def _share(panels_: Sequence[tuple[Axes, str]]) -> None:
    """The same y axis for all panels of a setting: they are what is compared."""
    for setting in {setting for _, setting in panels_}:
        together = [axes for axes, found in panels_ if found == setting]
        low, high = min(axes.get_ylim()[0] for axes in together), max(axes.get_ylim()[1] for axes in together)
        gap = 0.07 * (high - low)  # room for the ring
        for axes in together:
            axes.set_ylim(low - gap, high + gap)


def _draw(axes: Axes, sweep: Sweep) -> None:
    x, line = sweep.knobs
    for (colour, marker), value_ in zip(SERIES, sorted({point.line for point in sweep.points}), strict=False):
        own = [point for point in sweep.points if point.line == value_]
        axes.errorbar(
            [point.x for point in own], [point.mean for point in own], [point.error for point in own],
            color=colour, marker=marker, markersize=3.5, linewidth=1.1, label=f"{value_:g}",
        )  # fmt: skip
    for point in sweep.points:
        if point.papers:
            axes.plot(point.x, point.mean, "o", markersize=9, fillstyle="none", color=INK, markeredgewidth=1.0)
    best = sweep.best
    axes.plot(best.x, best.mean, "x", markersize=6, color=INK, markeredgewidth=1.4, zorder=5)
    axes.set_xscale("log")
    ticks = sorted({point.x for point in sweep.points})
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    labels = [value(float(f"{tick:.2g}")) for tick in ticks]
    axes.set_xticks(ticks, labels, fontsize=7)
    if max(map(len, labels)) > 4:  # values that were scaled to tasks of another length
        axes.tick_params(axis="x", rotation=45)
    axes.set_xlabel(NAMES.get(x, x))
    axes.legend(
        title=line, loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=7.5, title_fontsize=7.5,
        handlelength=1.2, borderaxespad=0.2, labelspacing=0.3,
    )  # fmt: skip


def _caption(sweeps: Sequence[Sweep]) -> str:
    sizes: dict[str, list[str]] = {}
    for sweep in sweeps:
        text = f"{sweep.seeds} seed{'s' * (sweep.seeds > 1)} × {sweep.tasks:,} task{'s' * (sweep.tasks > 1)}"
        sizes.setdefault(text, []).append(f"{look(sweep.system).label}, {SETTING_LABELS[sweep.setting]}")
    n = "; ".join(f"{text}" if len(sizes) == 1 else f"{text} ({'; '.join(names)})" for text, names in sizes.items())
    bars = (
        "bars: ± 1 standard error over seeds. " if any(sweep.seeds > 1 for sweep in sweeps) else "one seed, no bars. "
    )
    return (
        "Mean online accuracy over all tasks of a sweep against one knob, a line for each value of the other; "
        f"{bars}Ring: what the paper chose; cross: the best of ours. n = {n} for each point."
    )


def _alt(sweeps: Sequence[Sweep]) -> str:
    told = []
    for sweep in sweeps:
        (x, line), best = sweep.knobs, sweep.best
        low = min(point.mean for point in sweep.points)
        told.append(
            f"{look(sweep.system).label} in {SETTING_LABELS[sweep.setting]} from {low:.1f} to {best.mean:.1f} %, best "
            f"at {NAMES.get(x, x)} {value(best.x)} and {line} {best.line:g}"
        )
    return f"Lines of mean online accuracy against a knob. {'. '.join(told)}."
