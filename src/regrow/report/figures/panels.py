"""Panels of lines over tasks, side by side: what most figures are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl
from matplotlib.axes import Axes

from ..runs import Run, Runs
from ..style import SETTING_LABELS, Look, in_order, look
from . import line as lines
from .sheet import (
    LETTERS,
    Drawing,
    Missing,
    Share,
    Topic,
    axis_of_tasks,
    counts,
    empty,
    heading,
    legend_of,
    sheet,
    styled,
)

ACCURACY = "online accuracy (%)"


class Line(NamedTuple):
    """A system in a setting, at its chosen values; `own` is its look where that is not the system's."""

    setting: str
    system: str
    own: Look | None = None

    @property
    def look(self) -> Look:
        return self.own or look(self.system)


class Panel(NamedTuple):
    """A title and the lines below it."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Sheet:
    """A figure of panels.

    topic: its name, title and study.
    panels: in reading order.
    columns: panels side by side.
    share: which panels have the same y axis.
    own: which lines it is about: without any of them there is no figure.
    """

    topic: Topic
    panels: tuple[Panel, ...]
    columns: int = 2
    share: Share = "row"
    own: Callable[[Line], bool] = lambda line: True


@dataclass(frozen=True)
class Found:
    """A panel's lines that have runs, each with its course."""

    title: str
    width: int  # tasks of a point
    drawn: tuple[tuple[Line, tuple[Run, ...], lines.Course], ...]

    @property
    def runs(self) -> list[tuple[Run, ...]]:
        return [runs for _, runs, _ in self.drawn]

    @property
    def courses(self) -> list[tuple[str, lines.Course]]:
        return [(line.look.label, course) for line, _, course in self.drawn]


def by_setting(settings: Iterable[str], systems: Iterable[str]) -> tuple[Panel, ...]:
    """A panel for each setting, the same systems in all."""
    systems = tuple(systems)
    return tuple(Panel(SETTING_LABELS[s], tuple(Line(s, system) for system in systems)) for s in settings)


@styled
def accuracy(results: pl.DataFrame | Runs, plan: Sheet) -> Drawing | Missing:
    """Online accuracy over tasks, panel by panel.

    Args:
        results: rows as `regrow.load` returns them, or their runs.
        plan: what to draw.
    """
    runs = Runs.of(results)
    absent = _absent(runs, plan)
    found = [find(runs, panel) for panel in plan.panels]
    if not any(plan.own(line) for panel in found for line, *_ in panel.drawn):
        wanted = [(line.setting, line.system) for panel in plan.panels for line in panel.lines if plan.own(line)]
        return plan.topic.nothing(plan.topic.gaps(wanted)[0].reason, absent)
    return compose(plan, found, plan.topic.gaps(absent))


def compose(plan: Sheet, found: Sequence[Found], gaps: tuple[Missing, ...]) -> Drawing:
    """The figure of panels whose runs are found; rows of panels that have none are left out."""
    rows = [range(start, start + plan.columns) for start in range(0, len(found), plan.columns)]
    kept = [i for row in rows if any(found[i].drawn for i in row) for i in row]
    figure, grid = sheet(len(kept) // plan.columns, plan.columns, 2.3, plan.share)
    places = dict(zip(kept, grid, strict=True))
    for i, axes in places.items():
        heading(axes, i if len(found) > 1 else None, found[i].title)
        for line, _, course in found[i].drawn:
            lines.draw(axes, course, line.look)
        if found[i].drawn:
            axis_of_tasks(axes, found[i].runs)
        else:
            empty(axes)
        if i % plan.columns == 0:
            axes.set_ylabel(ACCURACY)
    left = _limit(places, found, plan)
    shown = dict.fromkeys(line for panel in found for line, *_ in panel.drawn)
    systems = in_order({line.system for line in shown})
    legend_of(figure, list(dict.fromkeys(line.look for line in sorted(shown, key=lambda x: systems.index(x.system)))))
    text = _caption(found) + (f" Below the axes: {', '.join(left)}." if left else "")
    return Drawing(plan.topic.name, plan.topic.title, text, _alt(found), figure, gaps)


def _absent(runs: Runs, plan: Sheet) -> list[tuple[str, str]]:
    wanted = dict.fromkeys((line.setting, line.system) for panel in plan.panels for line in panel.lines)
    return [key for key in wanted if not runs.main(*key)]


def find(runs: Runs, panel: Panel) -> Found:
    """The runs of a panel's lines, at their chosen values."""
    have = [(line, main) for line in panel.lines if (main := runs.main(line.setting, line.system))]
    width = lines.bin_width(lines.longest(main for _, main in have))
    courses = ((line, main, lines.course(main, "online_accuracy", width)) for line, main in have)
    return Found(panel.title, width, tuple(courses))


def _limit(places: Mapping[int, Axes], found: Sequence[Found], plan: Sheet) -> list[str]:
    """Set the y axes; returns the lines that lie below them."""
    step = {"row": plan.columns, "all": len(found), "none": 1}[plan.share]
    for i, axes in places.items():
        start = i - i % step
        together = [course for panel in found[start : start + step] for _, course in panel.courses]
        if ends := lines.limits(together, lines.REACH):
            axes.set_ylim(*ends)
    return [f"{name} ({LETTERS[i]})" for i, axes in places.items() for name in lines.below(axes, found[i].courses)]


def _caption(found: Sequence[Found]) -> str:
    every = [runs for panel in found for runs in panel.runs]
    text = f"Online accuracy by task; {points(found)}. {lines.bands(every)} {counted(found)}"
    lost = sum(run.diverged for runs in every for run in runs)
    return text + (f" {lost} run{'s' * (lost > 1)} diverged, counted at chance from there on." if lost else "")


def points(found: Sequence[Found]) -> str:
    """What a point is in each panel."""
    by_width: dict[int, list[str]] = {}
    for letter, panel in zip(LETTERS, found, strict=False):
        if panel.drawn:
            by_width.setdefault(panel.width, []).append(letter)
    if len(by_width) == 1:
        return lines.binned(next(iter(by_width)))
    return "; ".join(f"in {', '.join(letters)} {lines.binned(width)}" for width, letters in by_width.items())


def counted(found: Sequence[Found]) -> str:
    """How many runs there are, panels with the same told once."""
    said: dict[str, list[str]] = {}
    for letter, panel in zip(LETTERS, found, strict=False):
        if panel.drawn:
            said.setdefault(counts({line.look.label: runs for line, runs, _ in panel.drawn}), []).append(letter)
    if len(said) == 1:
        return next(iter(said))
    return " ".join(f"In {', '.join(letters)}: {text}" for text, letters in said.items())


def _alt(found: Sequence[Found]) -> str:
    parts = [f"{panel.title}: {lines.ends(panel.courses, ' %')}" for panel in found if panel.drawn]
    return f"Lines of online accuracy over tasks, from the first point to the last. {'. '.join(parts)}."
