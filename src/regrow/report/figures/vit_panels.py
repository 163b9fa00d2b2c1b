"""Panels of lines over tasks that come with new classes: what the figures of vision transformers are made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from ..results_vit import ACCURACY, TASKS, ViTResults
from ..runs import FRESH, Run, Runs
from ..style import in_order, look
from . import line as lines
from .panels import Line
from .sheet import (
    LETTERS,
    Drawing,
    Missing,
    Topic,
    axis_of_tasks,
    counts,
    empty,
    heading,
    legend_of,
    logarithmic,
    sheet,
    styled,
)

Drawn = tuple[Line, Sequence[Run], lines.Course]


@dataclass(frozen=True)
class View:
    """A panel.

    measure: the column that is drawn. against: the setting whose fresh network is taken off, seed by seed.
    steady: leave out runs that diverged. log: a logarithmic axis.
    """

    title: str
    axis: str
    lines: tuple[Line, ...]
    measure: str = ACCURACY
    against: str = ""
    steady: bool = False
    log: bool = False


@dataclass(frozen=True)
class Sheet:
    """A figure of such panels; `about` is the first sentence of its caption."""

    name: str
    title: str
    about: str
    views: tuple[View, ...]
    columns: int = 2


def topic(results: ViTResults, name: str, title: str) -> Topic:
    """What a figure is about, and how to make more of the same runs."""
    return Topic(name, title, "vit-cifar", tasks=results.tasks or TASKS, options=results.options)


@styled
def draw(results: ViTResults, plan: Sheet) -> Drawing | Missing:
    """A figure, or what is missing of it.

    Args:
        results: from `combine`.
        plan: what to draw.
    """
    runs, about = results.main, topic(results, plan.name, plan.title)
    absent = _absent(runs, plan)
    found = [find(runs, view) for view in plan.views]
    if not any(line.system != FRESH for each in found for line, *_ in each):
        wanted = [key for key in absent if key[1] != FRESH]
        return about.nothing(_reason(about, wanted), absent)
    figure, grid = sheet(-(-len(found) // plan.columns), plan.columns, 2.3, "none")
    for i, (axes, view, each) in enumerate(zip(grid, plan.views, found, strict=False)):
        heading(axes, i, view.title)
        axes.set_ylabel(view.axis)
        _panel(axes, view, each)
    legend_of(figure, _looks(plan, found))
    told = [f"{v.title}: {ends(v, each)}" for v, each in zip(plan.views, found, strict=True) if each]
    alt = f"Lines over tasks, from the first point to the last. {'. '.join(told)}."
    text = f"{plan.about} {caption(found)}{remarks(results, [runs for each in found for _, runs, _ in each])}"
    return Drawing(plan.name, plan.title, text, alt, figure, about.gaps(absent))


def _absent(runs: Runs, plan: Sheet) -> list[tuple[str, str]]:
    wanted = {(line.setting, line.system): None for view in plan.views for line in view.lines}
    wanted |= {(view.against, FRESH): None for view in plan.views if view.against}
    return [key for key in wanted if not runs.main(*key)]


def _reason(about: Topic, wanted: Sequence[tuple[str, str]]) -> str:
    gaps = about.gaps(wanted)
    return gaps[0].reason if gaps else "no fresh network beside another system of the same seed"


def find(runs: Runs, view: View) -> list[Drawn]:
    """The lines of a panel that have runs, each with its course."""
    fresh = {run.seed: run.measure(view.measure) for run in runs.main(view.against, FRESH)} if view.against else None
    found = []
    for line in view.lines:
        mine: Sequence[Run] = runs.main(line.setting, line.system)
        if view.steady:
            mine = [run for run in mine if not run.diverged]
        if fresh is not None:
            mine = [run for run in mine if run.seed in fresh]
        if mine:
            found.append((line, mine, lines.course(mine, lambda run: _values(run, view.measure, fresh), 1)))
    return found


def _values(run: Run, measure: str, fresh: Mapping[int, np.ndarray] | None) -> np.ndarray:
    """One number a task; against a fresh network, as far as that has come."""
    values = run.measure(measure)
    if fresh is None:
        return values
    other = fresh[run.seed]
    shared = min(len(values), len(other))
    return values[:shared] - other[:shared]


def _panel(axes: Axes, view: View, each: Sequence[Drawn]) -> None:
    if not each:
        empty(axes)
        return
    if view.against:
        yardstick = look(FRESH)
        axes.axhline(0, color=yardstick.colour, linestyle=yardstick.dashes, linewidth=1.2, zorder=1)
    for line, _, course in each:
        lines.draw(axes, course, line.look)
    if view.log:
        logarithmic(axes)
    axis_of_tasks(axes, [runs for _, runs, _ in each])


def _looks(plan: Sheet, found: Sequence[Sequence[Drawn]]):
    """The lines that are drawn, systems in order."""
    shown = list(dict.fromkeys(line for each in found for line, *_ in each))
    if any(view.against and each for view, each in zip(plan.views, found, strict=True)):
        shown.append(Line("", FRESH))
    systems = in_order({line.system for line in shown})
    return list(dict.fromkeys(line.look for line in sorted(shown, key=lambda line: systems.index(line.system))))


def ends(view: View, each: Sequence[Drawn]) -> str:
    """Where the lines of a panel begin and end."""
    unit = " %" if view.measure == ACCURACY and not view.against else ""
    return lines.ends([(line.look.label, course) for line, _, course in each], unit, 4 if view.log else 2)


def caption(found: Sequence[Sequence[Drawn]]) -> str:
    """What lines and bands are, and of how many runs each panel is."""
    said: dict[str, list[str]] = {}
    for letter, each in zip(LETTERS, found, strict=False):
        if each:
            said.setdefault(counts({line.look.label: runs for line, runs, _ in each}), []).append(letter)
    of = [f"In {', '.join(letters)}: {text}" if len(said) > 1 else text for text, letters in said.items()]
    return f"{lines.bands(runs for each in found for _, runs, _ in each)} {' '.join(of)}"


def remarks(results: ViTResults, groups: Iterable[Sequence[Run]], both: bool = False) -> str:
    """What a reader must know of the runs: another optimizer, a smaller size, those that diverged.

    Args:
        results: from `combine`.
        groups: the runs that are drawn.
        both: whether they are of both optimizers.
    """
    lost = {(run.setting, run.system, run.config_id, run.seed) for runs in groups for run in runs if run.diverged}
    told = [f"{len(lost)} run{'s' * (len(lost) > 1)} diverged, counted at chance from there on."] if lost else []
    if results.optimizer != "authors" and not both:
        told.append("With the clean optimizer, not the authors'.")
    if results.shrunk:
        told.append(f"Not at the paper's scale: {'; '.join(results.shrunk)}.")
    return "".join(f" {text}" for text in told)


def steady(view: View) -> View:
    """The same without the runs that diverged."""
    return replace(view, steady=True)
