"""How a figure of panels is drawn, from the runs of its lines: the figure itself, its caption, and its text for those
who do not see it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from ..runs import FRESH, Run, Runs
from ..stats import standard_error
from ..style import Look, in_order, look
from .lengths import Choose, choices, in_words, until
from .level_marks import CAPTION, mark
from .line import Curve, bands, below, bin_width, binned, draw_curve, ends, longest, slug, to_curve
from .plan import FigurePlan, Line, Panel, within_span
from .sheet import (
    LETTERS,
    Drawing,
    Missing,
    Series,
    Shown,
    axis_of_tasks,
    counts,
    empty,
    heading,
    legend,
    sheet,
    styled,
)

NO_FRESH = "no fresh network with another system of the same seed"


@dataclass(frozen=True)
class Filled:
    """A panel's lines that have runs, with all of them."""

    panel: Panel
    lines: tuple[tuple[Line, Sequence[Run]], ...]

    def drawn(self, choose: Choose, tasks: int) -> "Drawn":
        """Each line with the curve of the runs chosen, none longer than so many tasks."""
        panel, chosen = self.panel, [(line, choose(until(runs, tasks))) for line, runs in self.lines]
        width = bin_width(longest(runs for _, runs in chosen)) if panel.binned else 1
        curves = [(line, runs, to_curve(runs, panel.measure, width, panel.per)) for line, runs in chosen]
        return Drawn(panel, width, tuple(curves))


@dataclass(frozen=True)
class Drawn:
    """A panel's lines that have runs, each with its curve.

    width: tasks of a point.
    """

    panel: Panel
    width: int
    lines: tuple[tuple[Line, Sequence[Run], Curve], ...]

    @property
    def runs(self) -> list[Sequence[Run]]:
        return [runs for _, runs, _ in self.lines]

    @property
    def curves(self) -> list[tuple[str, Curve]]:
        """(label, curve)"""
        return [(line.look.label, curve) for line, _, curve in self.lines]

    def shown(self, axes: Axes) -> Shown:
        """The panel, its lines in numbers."""
        series = [Series(line.look, c.centres, c.mean, c.error, c.seeds) for line, _, c in self.lines]
        return Shown(axes, self.panel.title, tuple(series))

    @property
    def n(self) -> str:
        """How many runs there are."""
        return counts({line.look.label: runs for line, runs, _ in self.lines})


def draw(runs: Runs, plan: FigurePlan) -> Drawing | Missing:
    """A figure, or what is missing of it."""
    needs = plan.needs
    if needs is None:
        needs = list(dict.fromkeys(line.key for panel in plan.panels for line in panel.lines))
    absent = [key for key in needs if not runs.main(*key)]
    filled = [find(runs, panel) for panel in plan.panels]
    if any(plan.own(line) for each in filled for line, _ in each.lines):
        return compose(plan, filled, plan.topic.gaps(absent))
    own = [line.key for panel in plan.panels for line in panel.lines if plan.own(line) and line.key in absent]
    gaps = plan.topic.gaps(list(dict.fromkeys(own)))
    return plan.topic.nothing(plan.nothing or (gaps[0].reason if gaps else NO_FRESH), absent)


def find(runs: Runs, panel: Panel) -> Filled:
    """The runs of a panel's lines, at their chosen values."""
    return fill(panel, [(line, runs.main(*line.key)) for line in panel.lines])


def fill(panel: Panel, mains: Iterable[tuple[Line, Sequence[Run]]]) -> Filled:
    """A panel drawn from these runs; a line without runs is left out."""
    kept = [(line, [run for run in runs if panel.keep(run)]) for line, runs in mains]
    return Filled(panel, tuple((line, runs) for line, runs in kept if runs))


def compose(plan: FigurePlan, filled: Sequence[Filled | Drawn], gaps: tuple[Missing, ...]) -> Drawing:
    """The figure of panels whose runs are known, once for each choice of runs; none is longer than what it is about."""
    lines = [(line, runs) for each in filled if isinstance(each, Filled) for line, runs in each.lines]
    tasks = longest(runs for line, runs in lines if plan.own(line))
    views = []
    for choose in choices([until(runs, tasks) for _, runs in lines]):
        drawn = [each.drawn(choose, tasks) if isinstance(each, Filled) else each for each in filled]
        views.append(_compose(plan, drawn, length=in_words(group for each in drawn for group in each.runs)))
    first, *others = views
    if not others:
        return replace(first, gaps=gaps, length="")
    named = (replace(other, name=f"{other.name}-{slug(other.length)}") for other in others)
    return replace(first, gaps=gaps, others=tuple(named))


@styled
def _compose(plan: FigurePlan, drawn: Sequence[Drawn], length: str) -> Drawing:
    """The figure of one choice of runs; rows of panels without any are left out."""
    columns = plan.columns
    rows = [range(start, min(start + columns, len(drawn))) for start in range(0, len(drawn), columns)]
    kept = [i for row in rows if any(drawn[i].lines for i in row) for i in row]
    figure, grid = sheet(-(-len(kept) // columns), columns, plan.height, plan.share)
    for axes in grid[len(kept) :]:
        axes.remove()
    places = dict(zip(kept, grid, strict=False))
    for i, axes in places.items():
        heading(axes, i if len(drawn) > 1 else None, drawn[i].panel.title)
        _draw(axes, drawn[i])
        axes.set_ylabel(drawn[i].panel.axis)
        axes.tick_params(labelleft=True)  # a page shows each panel by itself
    step = {"row": columns, "all": len(drawn), "none": 1}[plan.share]
    for i, axes in places.items():
        start, frame = i - i % step, drawn[i].panel.frame
        together = [curve for each in drawn[start : start + step] for _, curve in each.curves]
        if together and frame:
            frame(axes, together)
    of_accuracy = [i for i in places if drawn[i].panel.measure == "online_accuracy"]
    marked = [mark(places[i], [(line.key, line.look, runs) for line, runs, _ in drawn[i].lines]) for i in of_accuracy]
    looks = _looks(drawn)
    legend(figure, looks)
    gone = [
        f"{name} ({LETTERS[i]})"
        for i, axes in places.items()
        if drawn[i].panel.frame is within_span
        for name in below(axes, drawn[i].curves)
    ]
    text = _caption(plan, drawn) + (f" Below the axes: {', '.join(gone)}." if gone else "") + CAPTION * any(marked)
    panels = tuple(drawn[i].shown(axes) for i, axes in places.items())
    return Drawing(plan.topic.name, plan.topic.title, text, _alt(plan, drawn), figure, (), panels, tuple(looks), length)


def _draw(axes: Axes, drawn: Drawn) -> None:
    """The lines of a panel."""
    if not drawn.lines:
        empty(axes, drawn.panel.absent)
        return
    if drawn.panel.against_fresh:
        fresh, band = look(FRESH), drawn.panel.band
        name = slug(fresh.label)
        axes.axhline(0, color=fresh.colour, linestyle=fresh.dashes, linewidth=1.2, zorder=1, gid=f"mean:{name}")
        if band:
            axes.axhspan(-band, band, color=fresh.colour, alpha=0.15, linewidth=0, zorder=1, gid=f"band:{name}")
    for line, _, curve in drawn.lines:
        draw_curve(axes, curve, line.look)
    axis_of_tasks(axes, drawn.runs)


def _looks(drawn: Sequence[Drawn]) -> list[Look]:
    """The looks of all lines, systems in order."""
    shown = dict.fromkeys(line for each in drawn for line, *_ in each.lines)
    if any(each.panel.against_fresh and each.lines for each in drawn):
        shown[Line("", FRESH)] = None
    order = in_order({line.system for line in shown})
    return list(dict.fromkeys(line.look for line in sorted(shown, key=lambda line: order.index(line.system))))


def _caption(plan: FigurePlan, drawn: Sequence[Drawn]) -> str:
    runs = [group for each in drawn for group in each.runs]
    text = plan.caption.format(points=_points(drawn))
    return f"{text} {bands(runs)} {_sizes(drawn)}{plan.remarks(runs)}"


def _points(drawn: Sequence[Drawn]) -> str:
    """What a point is in each panel."""
    letters: dict[int, list[str]] = {}
    for letter, each in zip(LETTERS, drawn, strict=False):
        if each.lines:
            letters.setdefault(each.width, []).append(letter)
    if len(letters) == 1:
        return binned(next(iter(letters)))
    return "; ".join(f"in {', '.join(names)} {binned(width)}" for width, names in letters.items())


def _sizes(drawn: Sequence[Drawn]) -> str:
    """How many runs there are, once for all panels that have as many."""
    letters: dict[str, list[str]] = {}
    for letter, each in zip(LETTERS, drawn, strict=False):
        if each.lines:
            letters.setdefault(each.n, []).append(letter)
    if len(letters) == 1:
        return next(iter(letters))
    return " ".join(f"In {', '.join(names)}: {n}" for n, names in letters.items())


def _alt(plan: FigurePlan, drawn: Sequence[Drawn]) -> str:
    parts = [
        f"{each.panel.title}: {ends(each.curves, each.panel.unit, each.panel.digits) or 'not measured'}"
        for each in drawn
        if each.lines
    ]
    return f"{plan.shows}, from the first point to the last. {'. '.join(parts)}."


def error_bar(values: Sequence[float]) -> float:
    """The standard error of a mean, to be drawn; 0 for a single value, which has none."""
    return standard_error(np.array(values)) if len(values) > 1 else 0.0
