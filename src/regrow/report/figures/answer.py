"""The first figure of a page: six systems in four settings, and beside each panel where they stand at the end."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...lab.studies import SIX
from ..margins import PAPER_TASKS
from ..published import Level
from ..runs import FRESH, NEAR, Runs
from ..style import PAPER, SETTING_LABELS, Look, look
from .line import SPAN, Curve, bands, bin_width, binned, draw_curve, limits, slug, to_curve
from .sheet import Drawing, Missing, Series, Shown, Topic, axis_of_tasks, heading, styled
from .standings import Standing, Standings, standings

TOPIC = Topic("answer", "Six systems in four settings", "weights-vs-units")
WIDTH, ROW, WIDTHS = 4.6, 2.1, (2.1, 1.0)  # inches; how wide the panels of a setting are to each other
FAR = 1.5  # a system that lies this many times the spread of the others below them leaves the axis
LINE = 0.09  # of an axis's height: two labels any closer would overlap


def answer(runs: Runs) -> Drawing | Missing:
    """Lines with their names at their ends, and the end of the runs as points with 95 % intervals."""
    views = standings(runs)
    if not views:
        return TOPIC.nothing(
            "no run of the six systems", [(setting, system) for setting in ("large",) for system in SIX]
        )
    first, *others = [_draw(each) for each in views]
    if not others:
        return replace(first, length="")
    return replace(first, others=tuple(replace(each, name=f"{each.name}-{slug(each.length)}") for each in others))


@styled
def _draw(view: Standings) -> Drawing:
    columns = min(2, len(view.settings))
    rows = -(-len(view.settings) // columns)
    figure = Figure(figsize=(WIDTH * columns, rows * ROW), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=WIDTHS * columns)
    shown = []
    for i, setting in enumerate(view.settings):
        row, column = divmod(i, columns)
        cells = [view.cells[setting, system] for system in view.systems if (setting, system) in view.cells]
        shown += [
            _lines(grid[row, 2 * column], i, setting, cells),
            _points(grid[row, 2 * column + 1], setting, cells, view.fresh.get(setting)),
        ]
    for axes in grid.flat[2 * len(view.settings) :]:
        axes.remove()
    looks = tuple(look(system) for system in view.systems) + ((look(FRESH),) if view.fresh else ())
    return Drawing(TOPIC.name, TOPIC.title, _caption(view), _alt(view), figure, (), tuple(shown), looks, view.length)


def _lines(axes: Axes, number: int, setting: str, cells: Sequence[Standing]) -> Shown:
    heading(axes, number, SETTING_LABELS[setting])
    width = bin_width(max(run.tasks for each in cells for run in each.runs))
    curves = [(look(each.system), to_curve(each.runs, "online_accuracy", width)) for each in cells]
    for own, curve in curves:
        draw_curve(axes, curve, own)
    axis_of_tasks(axes, [each.runs for each in cells])
    axes.set_ylabel("online accuracy (%)")
    if span := limits([curve for _, curve in curves], SPAN):
        axes.set_ylim(*span)
    _name_ends(axes, curves)
    return Shown(
        axes, SETTING_LABELS[setting], tuple(Series(o, c.centres, c.mean, c.error, c.seeds) for o, c in curves)
    )


def _name_ends(axes: Axes, curves: Sequence[tuple[Look, Curve]]) -> None:
    """Each line's name right of its end, as near as the other names allow."""
    low, high = axes.get_ylim()
    ends = [(own, (curve.mean[np.isfinite(curve.mean)][-1:] - low) / (high - low)) for own, curve in curves]
    named = [(own, float(place[0])) for own, place in ends if len(place) and place[0] >= 0]
    for (own, _), y in zip(named, spread([place for _, place in named], LINE), strict=True):
        axes.annotate(
            own.label, (1.0, y), (2, 0), xycoords="axes fraction", textcoords="offset points", va="center",
            color=own.colour, fontsize=8, weight="bold" if own.label == "SWR" else "normal",
            gid=f"name:{slug(own.label)}", annotation_clip=False,
        )  # fmt: skip


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places at least a gap apart, moved as little as that takes, in the same order.

    Example:
        >>> [round(place, 2) for place in spread([0.5, 0.52, 0.9], 0.1)]
        [0.46, 0.56, 0.9]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []
    middles: list[float] = []
    for i in order:
        group, middle = [i], places[i]
        while groups and middle - middles[-1] < gap * (len(group) + len(groups[-1])) / 2:
            group, before = groups.pop() + group, middles.pop()
            del before
            middle = sum(places[j] for j in group) / len(group)
        groups.append(group)
        middles.append(middle)
    moved = list(places)
    for group, middle in zip(groups, middles, strict=True):
        for k, i in enumerate(group):
            moved[i] = middle + gap * (k - (len(group) - 1) / 2)
    return moved


def _points(axes: Axes, setting: str, cells: Sequence[Standing], fresh: float | None) -> Shown:
    heading(axes, None, f"last {cells[0].last} tasks")
    low, high = _span(cells)
    axes.set_xlim(low, high)
    for y, each in enumerate(cells):
        own, effect = look(each.system), each.effect
        half = effect.half_width if np.isfinite(effect.half_width) else 0
        if effect.value < low:
            axes.annotate(f"◂ {effect.value:.1f}", (low, y), (1, 0), textcoords="offset points", va="center",
                          color=own.colour, fontsize=8, gid=f"mean:{slug(own.label)}")  # fmt: skip
            continue
        axes.errorbar(effect.value, y, xerr=half, fmt="none", ecolor=own.colour, elinewidth=1.6, zorder=2)
        axes.plot(effect.value, y, "o", color=own.colour, markersize=5.5, zorder=3, gid=f"mean:{slug(own.label)}")
        if each.published:
            _published(axes, y, each.published, own, (low, high))
    if fresh is not None and low < fresh < high:
        own = look(FRESH)
        axes.axvline(
            fresh, color=own.colour, linestyle=own.dashes, linewidth=1.2, zorder=1, gid=f"mean:{slug(own.label)}"
        )
    axes.set_yticks(range(len(cells)), [look(each.system).label for each in cells])
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("accuracy (%)")
    ours = [Series(look(e.system), np.array([i]), *_one(e)) for i, e in enumerate(cells)]
    return Shown(axes, f"{SETTING_LABELS[setting]}: the end", tuple(ours), "row")


def _one(each: Standing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([each.effect.value]), np.array([each.effect.error]), np.array([len(each.runs)])


def _published(axes: Axes, y: float, known: Level, own: Look, span: tuple[float, float]) -> None:
    """A hollow diamond at the published level, if it is on the axis."""
    if known.high is None and span[0] <= known.low <= span[1]:
        axes.plot(known.low, y, "D", markersize=5, markerfacecolor=PAPER, markeredgecolor=own.colour, zorder=2.5)


def _span(cells: Sequence[Standing]) -> tuple[float, float]:
    """An axis that separates the systems: one that lies far below all others leaves it."""
    ordered = sorted(cells, key=lambda each: each.effect.value)
    kept = ordered[1:] if len(ordered) > 2 and _far(ordered) else ordered
    ends = [each.effect.value + side * np.nan_to_num(each.effect.half_width) for each in kept for side in (-1, 1)]
    ends += [e.published.low for e in kept if e.published and e.published.high is None and _as_long(e)]
    gap = 0.12 * (max(ends) - min(ends)) or 0.5
    return float(min(ends) - gap), float(max(ends) + gap)


def _as_long(each: Standing) -> bool:
    """Whether its runs are as long as those that the level was published of."""
    return each.runs[0].tasks >= NEAR * PAPER_TASKS


def _far(ordered: Sequence[Standing]) -> bool:
    lowest, next_, *_, highest = (each.effect.value for each in ordered)
    return next_ - lowest > FAR * (highest - next_)


def _caption(view: Standings) -> str:
    groups = [each.runs for each in view.cells.values()]
    width = bin_width(max(run.tasks for runs in groups for run in runs))
    fresh = " Dotted: a network that starts fresh on every task." if view.fresh else ""
    within = "" if view.sure else " (from task to task within these runs, for want of seeds)"
    diamonds = any(each.published for each in view.cells.values())
    published = " Hollow diamonds: levels published by the first author, of 1,000 tasks and 30 runs." * diamonds
    return (
        f"Online accuracy by task; {binned(width)}. {bands(groups)} Right of each panel: the mean over the last "
        f"{view.last} tasks with its 95 % interval{within}, on an axis of its own.{published}{fresh} "
        f"n = {view.length.split(', ')[-1]}."
    )


def _alt(view: Standings) -> str:
    parts = []
    for setting in view.settings:
        listed = ", ".join(
            f"{look(system).label} {view.cells[setting, system].effect.value:.1f}"
            for system in view.systems
            if (setting, system) in view.cells
        )
        parts.append(f"{SETTING_LABELS[setting]}: {listed}")
    return f"Online accuracy in percent over the last {view.last} tasks. {'. '.join(parts)}."
