"""Every system against a fresh network: the yardstick by which plasticity is lost or kept."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from ..runs import Run, Runs
from ..style import SETTING_LABELS, look
from . import lines
from .accuracy import AUTHORS, FOUR, SIX
from .drawing import Drawing, Missing, Topic, axis_of_tasks, counts, heading, legend, sheet, styled

TOPIC = Topic("against-fresh", "Every system against a fresh network", "weights-vs-units")
SYSTEMS = (*SIX, *AUTHORS)


def _measure(run: Run) -> np.ndarray:
    return run.measure("online_accuracy")


@styled
def against_fresh(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """Online accuracy minus that of a fresh network of the same seed, over tasks; below 0 plasticity is lost.

    A fresh network's tasks are all alike, so that its mean over a few of them stands for every task.

    Args:
        results: rows as `regrow.load` returns them, or their runs.
    """
    runs = Runs.of(results)
    levels = {s: {run.seed: float(_measure(run).mean()) for run in runs.main(s, "scratch")} for s in FOUR}
    found = {setting: _paired(runs, setting, levels[setting]) for setting in FOUR}
    absent = [(setting, "scratch") for setting in FOUR if not levels[setting]]
    absent += [(s, system) for s in FOUR if levels[s] for system in SYSTEMS if system not in found[s]]
    shown = [setting for setting in FOUR if found[setting]]
    if not shown:
        return TOPIC.nothing("no fresh network beside another system of the same seed", absent)
    columns = min(2, len(shown))
    figure, grid = sheet(-(-len(shown) // columns), columns, 2.3, "row")
    for axes in grid[len(shown) :]:
        axes.remove()
    told, rows = [], {}
    for i, (axes, setting) in enumerate(zip(grid, shown, strict=False)):
        heading(axes, i if len(shown) > 1 else None, SETTING_LABELS[setting])
        courses = _draw(axes, found[setting], levels[setting])
        axes.set_ylabel("points above a fresh network" if i % columns == 0 else "")
        told.append(f"{SETTING_LABELS[setting]}: {lines.ends(courses, '')}")
        rows.setdefault(i // columns, []).extend(course for _, course in courses)
    for row, together in rows.items():
        if ends := lines.limits(together, lines.REACH):
            grid[row * columns].set_ylim(min(ends[0], -0.5), max(ends[1], 0.5))
    legend(figure, {"scratch", *(system for each in found.values() for system in each)})
    alt = f"Lines of accuracy minus that of a fresh network, from the first point to the last. {'. '.join(told)}."
    return Drawing(TOPIC.name, TOPIC.title, _caption(found, levels), alt, figure, TOPIC.gaps(absent))


def _paired(runs: Runs, setting: str, levels: Mapping[int, float]) -> dict[str, list[Run]]:
    """Runs of each system whose seed has a fresh network."""
    paired = {s: [run for run in runs.main(setting, s) if run.seed in levels] for s in SYSTEMS}
    return {system: each for system, each in paired.items() if each}


def _draw(axes, found: Mapping[str, Sequence[Run]], levels: Mapping[int, float]) -> list[tuple[str, lines.Course]]:
    width = lines.bin_width(lines.longest(found.values()))
    fresh, yardstick = np.array(list(levels.values())), look("scratch")
    axes.axhline(0, color=yardstick.colour, linestyle=yardstick.dashes, linewidth=1.2, zorder=1)
    if len(fresh) > 1:
        error = fresh.std(ddof=1) / np.sqrt(len(fresh))
        axes.axhspan(-error, error, color=yardstick.colour, alpha=0.15, linewidth=0, zorder=1)
    courses = []
    for system, runs in found.items():
        course = lines.course(runs, lambda run: _measure(run) - levels[run.seed], width)
        lines.draw(axes, course, look(system))
        courses.append((system, course))
    axis_of_tasks(axes, found.values())
    return [(look(system).label, course) for system, course in courses]


def _caption(found: Mapping[str, Mapping[str, Sequence[Run]]], levels: Mapping[str, Mapping[int, float]]) -> str:
    every = [runs for each in found.values() for runs in each.values()]
    sizes = {counts({look(s).label: runs for s, runs in each.items()}) for each in found.values() if each}
    n = sizes.pop() if len(sizes) == 1 else ""
    seeds = sorted({len(each) for each in levels.values() if each})
    return (
        "Online accuracy minus that of a network that starts fresh on every task, of the same seed; dotted: the fresh "
        f"network, ± 1 standard error over its {' or '.join(map(str, seeds))} seeds. {lines.bands(every)} {n}"
    ).strip()
