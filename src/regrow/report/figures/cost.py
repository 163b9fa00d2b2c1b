"""The cost of each system beside its accuracy."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from ..runs import Runs
from ..stats import estimate
from ..style import SETTING_LABELS, in_order, look
from .answer import LINE, spread
from .sheet import Drawing, Missing, Series, Shown, counts, heading, sheet, styled

NAME, TITLE = "cost", "What it costs: accuracy and the time of an update"
Cost = Mapping[tuple[str, str], float]
"""{(setting, system): milliseconds for one update of one network}"""


@styled
def cost(runs: Runs, spent: Cost | None = None) -> Drawing | Missing:
    """Mean online accuracy of each system against the time of an update.

    Args:
        runs: of any systems.
        spent: as `regrow bench --json` measured it.
    """
    spent = spent or {}
    by_setting = {setting: _rows(runs, setting, spent) for setting in runs.settings}
    shown = {setting: rows for setting, rows in by_setting.items() if len(rows) > 1}
    if not shown:
        reason = "no time of an update (bench.json) next to the results" if runs.settings else "no results"
        return Missing(NAME, TITLE, reason, "regrow bench --json DIR/bench.json")
    columns = min(2, len(shown))
    figure, grid = sheet(-(-len(shown) // columns), columns, 2.5, "none")
    for axes in grid[len(shown) :]:
        axes.remove()
    parts, panels = [], []
    for i, (axes, (setting, rows)) in enumerate(zip(grid, shown.items(), strict=False)):
        heading(axes, i if len(shown) > 1 else None, SETTING_LABELS[setting])
        panels.append(Shown(axes, SETTING_LABELS[setting], _draw(axes, rows, runs, setting), "ms"))
        listed = (f"{look(s).label} {mean:.1f} % and {ms:.3g} ms" for s, (mean, _, ms) in rows.items())
        parts.append(f"{SETTING_LABELS[setting]}: {'; '.join(listed)}")
    groups = {look(s).label: runs.main(setting, s) for setting, rows in shown.items() for s in rows}
    caption = (
        "Online accuracy, mean over the tasks that all seeds of a system have, ± 1 standard error over seeds, against "
        "the time of one update of one network within its stack, on one core. Up and left is better. "
        f"{counts(groups) if len(shown) == 1 else ''}"
    ).strip()
    alt = f"Points of mean accuracy and time of an update. {'. '.join(parts)}."
    return Drawing(NAME, TITLE, caption, alt, figure, panels=tuple(panels))


def _rows(runs: Runs, setting: str, spent: Cost) -> dict[str, tuple[float, float, float]]:
    """{system: mean accuracy, its standard error over seeds, milliseconds}"""
    rows = {}
    for system in in_order(runs.systems(setting)):
        main = runs.main(setting, system)
        if main and (setting, system) in spent:
            tasks = min(run.tasks for run in main)
            means = [float(run.measure("online_accuracy")[:tasks].mean()) for run in main]
            rows[system] = sum(means) / len(means), _error(means), spent[setting, system]
    return rows


def _error(means: list[float]) -> float:
    return estimate(np.array(means)).error if len(means) > 1 else math.nan


def _draw(axes: Axes, rows: Mapping[str, tuple[float, float, float]], runs: Runs, setting: str) -> tuple[Series, ...]:
    for system, (mean, error, ms) in rows.items():
        bar = error if math.isfinite(error) else None
        axes.errorbar(ms, mean, yerr=bar, fmt="o", color=look(system).colour, markersize=5)
    axes.margins(x=0.25, y=0.12)
    axes.set_xlabel("ms an update")
    axes.set_ylabel("online accuracy (%)")
    low, high = axes.get_ylim()
    places = spread([(mean - low) / (high - low) for mean, _, _ in rows.values()], LINE)
    for (system, (_, _, ms)), place in zip(rows.items(), places, strict=True):
        own = look(system)
        axes.annotate(own.label, (ms, low + place * (high - low)), (6, 0), textcoords="offset points", va="center",
                      color=own.colour, fontsize=8)  # fmt: skip
    return tuple(
        Series(look(s), *(np.array([number]) for number in (ms, mean, error, len(runs.main(setting, s)))))
        for s, (mean, error, ms) in rows.items()
    )
