"""What is renewed over tasks, and how much of it had a utility of exactly 0."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from ..runs import Run, Runs
from ..style import SETTING_LABELS, look
from ..tables import entries
from . import lines
from .accuracy import FOUR
from .drawing import Drawing, Missing, Topic, axis_of_tasks, counts, heading, legend, logarithmic, sheet, styled

TOPIC = Topic("renewals", "What is renewed, and how much of it had utility 0", "weights-vs-units")
SYSTEMS = (
    "cbp",
    "redo",
    "swr",
    "swr-gradient-proportional-resample",
    "swr-magnitude-threshold-resample",
    "swr-random-threshold-resample",
)


@styled
def renewals(results: pl.DataFrame | Runs, pixels: int = 784) -> Drawing | Missing:
    """Entries renewed in a task as a share of all, and the share of the renewed whose utility was exactly 0.

    Args:
        results: rows as `regrow.load` returns them, or their runs.
        pixels: of an image, for the number of entries that a network has.
    """
    runs = Runs.of(results)
    found = {setting: _renewing(runs, setting) for setting in FOUR}
    shown = [setting for setting in FOUR if found[setting]]
    absent = [(setting, s) for setting in FOUR for s in ("cbp", "redo", "swr") if not runs.main(setting, s)]
    if not shown:
        return TOPIC.nothing("no run that renewed anything", absent)
    figure, grid = sheet(len(shown), 2, 2.1, "none")
    told = []
    for row, setting in enumerate(shown):
        share, zero = grid[2 * row : 2 * row + 2]
        label = SETTING_LABELS[setting]
        heading(share, 2 * row, f"{label}: renewed")
        heading(zero, 2 * row + 1, f"{label}: utility 0")
        ends = [_draw(share, found[setting], setting, pixels), _draw(zero, found[setting])]
        logarithmic(share)
        share.set_ylabel("% of all entries in a task")
        zero.set(ylim=(-4, 104), ylabel="% of what was renewed")
        told.append(f"{label}: renewed, {lines.ends(ends[0], ' %', 2)}; utility 0, {lines.ends(ends[1], ' %')}")
    legend(figure, (system for each in found.values() for system in each))
    alt = f"Lines of what is renewed, from the first point to the last. {'. '.join(told)}."
    return Drawing(TOPIC.name, TOPIC.title, _caption(found), alt, figure, TOPIC.gaps(absent))


def _renewing(runs: Runs, setting: str) -> dict[str, Sequence[Run]]:
    """Systems that renewed anything."""
    found = {system: runs.main(setting, system) for system in SYSTEMS}
    return {s: each for s, each in found.items() if any(np.nansum(run.measure("renewed")) > 0 for run in each)}


def _draw(
    axes, found: Mapping[str, Sequence[Run]], setting: str | None = None, pixels: int = 0
) -> list[tuple[str, lines.Course]]:
    """The share of all entries of a setting's network; without a setting, that of utility 0."""
    width, courses = lines.bin_width(lines.longest(found.values())), []
    for system, runs in found.items():
        if setting is not None:
            size = entries(setting, pixels)
            course = lines.course(runs, lambda run: _positive(100 * run.measure("renewed") / size), width)  # noqa: B023
        else:
            # Of units the share is one of units: an entry of a unit has no utility of its own.
            of = "renewed_units" if system.startswith(("cbp", "redo")) else "renewed"
            by = lambda run: np.nan_to_num(run.measure(of))  # noqa: B023, E731
            course = lines.course(runs, lambda run: 100 * run.measure("renewed_zero"), width, by)
        lines.draw(axes, course, look(system))
        courses.append((look(system).label, course))
    axis_of_tasks(axes, found.values())
    return courses


def _positive(values: np.ndarray) -> np.ndarray:
    """Tasks in which something was renewed: a logarithmic axis has no 0."""
    return np.where(values > 0, values, np.nan)


def _caption(found: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    every = [runs for each in found.values() for runs in each.values()]
    width = lines.bin_width(lines.longest(every))
    sizes = {counts({look(s).label: runs for s, runs in each.items()}) for each in found.values() if each}
    n = sizes.pop() if len(sizes) == 1 else ""
    return (
        "Left: entries renewed in a task, as a share of all parameters (more than 100 % where one is renewed several "
        "times; of tasks in which something was). Right: the share of what was renewed whose utility was exactly 0, of "
        f"entries for weights, of units for CBP and ReDo; {lines.binned(width)}. {lines.bands(every)} {n}"
    ).strip()
