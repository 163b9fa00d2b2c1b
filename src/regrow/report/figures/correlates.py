"""Figures 10 to 14 of the paper: what goes along with the loss of plasticity, over tasks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from ..runs import Run, Runs
from ..style import SETTING_LABELS, look
from . import lines
from .accuracy import BASELINES, SIX, variants
from .drawing import Drawing, Missing, Topic, axis_of_tasks, counts, heading, legend, logarithmic, sheet, styled

SPREAD = 30.0  # an axis that spans more than this factor is logarithmic


class Correlate(NamedTuple):
    """A column of the results, its name and unit, and the factor that brings it to that unit."""

    column: str
    title: str
    axis: str
    factor: float = 1.0
    digits: int = 1


CORRELATES = (
    Correlate("dead_units", "dead units", "% of hidden units", 100.0),
    Correlate("weight_magnitude", "weight magnitude", "mean |w|", digits=3),
    Correlate("rank99", "rank", "singular values"),
    Correlate("gradient_magnitude", "gradient magnitude", "mean |g|", digits=5),
)
INITIAL = (*BASELINES, *variants("gradient", "threshold"), *variants("gradient", "proportional"))
OF = {
    "figure-10": ("large", INITIAL, "initial-assessment"),
    "figure-11": ("large", SIX, "weights-vs-units"),
    "figure-12": ("large-ln", SIX, "weights-vs-units"),
    "figure-13": ("small", SIX, "weights-vs-units"),
    "figure-14": ("small-ln", SIX, "weights-vs-units"),
}
"""{figure: its setting, its systems, the study that makes them}"""


def figure_10(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the initial assessment."""
    return correlates(results, "figure-10", "Figure 10: correlates of the loss, initial assessment")


def figure_11(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the large network."""
    return correlates(results, "figure-11", "Figure 11: correlates of the loss, large")


def figure_12(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the large network with layer norm."""
    return correlates(results, "figure-12", "Figure 12: correlates of the loss, large with layer norm")


def figure_13(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the small network."""
    return correlates(results, "figure-13", "Figure 13: correlates of the loss, small")


def figure_14(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the small network with layer norm."""
    return correlates(results, "figure-14", "Figure 14: correlates of the loss, small with layer norm")


@styled
def correlates(results: pl.DataFrame | Runs, name: str, title: str) -> Drawing | Missing:
    """Dead units, weight magnitude, rank and gradient magnitude over tasks, a line for each system.

    Args:
        results: rows as `regrow.load` returns them, or their runs.
        name: of the figure, a key of `OF`.
        title: one line.
    """
    setting, systems, study = OF[name]
    runs = Runs.of(results)
    found = {system: main for system in systems if (main := runs.main(setting, system))}
    topic, absent = Topic(name, title, study), [(setting, system) for system in systems if system not in found]
    if not found:
        return topic.nothing(f"no run of any of its systems in {SETTING_LABELS[setting]}", absent)
    width = lines.bin_width(lines.longest(found.values()))
    figure, grid = sheet(2, 2, 2.1, "none")
    told = []
    for i, (axes, correlate) in enumerate(zip(grid, CORRELATES, strict=True)):
        courses = {system: _course(main, correlate, width) for system, main in found.items()}
        heading(axes, i, correlate.title)
        axis_of_tasks(axes, found.values())
        for system, course in courses.items():
            lines.draw(axes, course, look(system))
        _frame(axes, correlate, list(courses.values()))
        ends = lines.ends([(look(s).label, c) for s, c in courses.items()], "", correlate.digits)
        told.append(f"{correlate.title}: {ends or 'not measured'}")
    legend(figure, found)
    alt = f"Lines over tasks, from the first point to the last. {'. '.join(told)}."
    return Drawing(name, title, _caption(setting, found, width), alt, figure, topic.gaps(absent))


def _course(runs: Sequence[Run], correlate: Correlate, width: int) -> lines.Course:
    return lines.course(runs, lambda run: run.measure(correlate.column) * correlate.factor, width)


def _frame(axes, correlate: Correlate, courses: Sequence[lines.Course]) -> None:
    """Axes of one correlate: from 0, or logarithmic where systems lie far apart."""
    axes.set_ylabel(correlate.axis)
    means = np.concatenate([course.mean for course in courses])
    means = means[np.isfinite(means)]
    if not len(means):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    elif means.min() > 0 and means.max() > SPREAD * means.min() and correlate.column != "dead_units":
        logarithmic(axes)
    else:
        top = means.max() or 1.0
        axes.set_ylim(-0.03 * top, 1.06 * top)


def _caption(setting: str, found: Mapping[str, Sequence[Run]], width: int) -> str:
    n = counts({look(system).label: runs for system, runs in found.items()})
    return (
        f"Correlates of the loss of plasticity, {SETTING_LABELS[setting]}; {lines.binned(width)}. a, c: before the "
        "first update of each task, on images under its new permutation; rank: the number of singular values of the "
        "last hidden layer that hold 99 % of their sum, as the paper counts. b: after a task; d: during it. "
        f"{lines.bands(found.values())} {n}"
    )
