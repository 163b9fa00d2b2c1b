"""What a figure of panels shows: lines of runs, panels of lines, and the figure they make up."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from matplotlib.axes import Axes

from ...lab.runs.text import counted
from ..runs import Run
from ..style import SETTING_LABELS, Look, look
from .line import SPAN, Curve, Measure, limits
from .sheet import Share, Topic, logarithmic

ACCURACY = "online accuracy (%)"

Frame = Callable[[Axes, Sequence[Curve]], None]
"""Sets the y axis of a panel, from all curves that share it."""


class Line(NamedTuple):
    """A system in a setting, at its chosen values; `own` is its look, if it differs from the system's."""

    setting: str
    system: str
    own: Look | None = None

    @property
    def look(self) -> Look:
        return self.own or look(self.system)

    @property
    def key(self) -> tuple[str, str]:
        """(setting, system)"""
        return self.setting, self.system


def within_span(axes: Axes, curves: Sequence[Curve]) -> None:
    """An axis of accuracy: a line far below the others leaves it."""
    if span := limits(curves, SPAN):
        axes.set_ylim(*span)


def around_zero(axes: Axes, curves: Sequence[Curve]) -> None:
    """An axis of differences: 0 is always on it."""
    if span := limits(curves, SPAN):
        axes.set_ylim(min(span[0], -0.5), max(span[1], 0.5))


def on_log(axes: Axes, curves: Sequence[Curve]) -> None:
    """A logarithmic axis."""
    del curves
    logarithmic(axes)


@dataclass(frozen=True)
class Panel:
    """A title, the lines below it, and what they show.

    axis: the label of the y axis.
    measure: a column, or what computes a number for each task of a run.
    per: what the measure is divided by, after both are summed over a bin; None: the number of tasks.
    keep: which runs are drawn.
    frame: sets the y axis; None leaves it to matplotlib.
    against_fresh: whether 0 is the level of a fresh network, which is drawn; band: its standard error.
    binned: whether a point may be the mean of several tasks.
    unit, digits: of the numbers in the text for those who do not see the figure.
    absent: what stands in a panel without lines.
    """

    title: str
    lines: tuple[Line, ...]
    axis: str = ACCURACY
    measure: str | Measure = "online_accuracy"
    per: Measure | None = None
    keep: Callable[[Run], bool] = lambda run: True
    frame: Frame | None = within_span
    against_fresh: bool = False
    band: float = 0.0
    binned: bool = True
    unit: str = " %"
    digits: int = 1
    absent: str = "no results"


@dataclass(frozen=True)
class FigurePlan:
    """A figure of panels.

    topic: its name, title and study.
    panels: in reading order.
    caption: its beginning; `{points}` becomes what a point is.
    columns: panels side by side; height: of a row, in inches.
    share: which panels have the same y axis.
    own: which lines it is about: without any of them there is no figure.
    nothing: why there is no figure; empty: the lines that are missing.
    shows: how the text for those who do not see it begins.
    remarks: the end of its caption, from the runs that are drawn.
    needs: (setting, system) of the runs it should have; None: those of its lines.
    """

    topic: Topic
    panels: tuple[Panel, ...]
    caption: str = "Online accuracy by task; {points}."
    columns: int = 2
    height: float = 2.3
    share: Share = "row"
    own: Callable[[Line], bool] = lambda line: True
    nothing: str = ""
    shows: str = "Lines of online accuracy over tasks"
    remarks: Callable[[list[Sequence[Run]]], str] = field(default=lambda groups: diverged(groups), repr=False)
    needs: Sequence[tuple[str, str]] | None = None


def by_setting(settings: Iterable[str], systems: Iterable[str]) -> tuple[Panel, ...]:
    """A panel for each setting, the same systems in all."""
    systems = tuple(systems)
    return tuple(Panel(SETTING_LABELS[s], tuple(Line(s, system) for system in systems)) for s in settings)


def diverged(groups: Iterable[Sequence[Run]]) -> str:
    """How many runs diverged, a sentence; empty where none did."""
    lost = {(run.setting, run.system, run.config_id, run.seed) for runs in groups for run in runs if run.diverged}
    return f" {counted(len(lost), 'run')} diverged, counted at chance from there on." if lost else ""
