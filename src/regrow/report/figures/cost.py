"""The cost of each system beside its accuracy."""

import math
from collections.abc import Mapping

import numpy as np

from ..runs import Runs
from ..stats import estimate
from ..style import SETTING_LABELS, in_order, look
from .sheet import Drawing, Missing, counts, heading, sheet, styled

NAME, TITLE = "cost", "What it costs: accuracy beside the time of an update"
Cost = Mapping[tuple[str, str], float]
"""{(setting, system): milliseconds for one update of one network}"""


@styled
def cost(runs: Runs, spent: Cost | None = None) -> Drawing | Missing:
    """Mean online accuracy of each system, and beside it the time of an update.

    Args:
        runs: of any systems.
        spent: as `regrow bench --json` measured it.
    """
    spent = spent or {}
    by_setting = {setting: _rows(runs, setting, spent) for setting in runs.settings}
    shown = {setting: rows for setting, rows in by_setting.items() if len(rows) > 1}
    if not shown:
        reason = "no time of an update (bench.json) beside results" if runs.settings else "no results"
        return Missing(NAME, TITLE, reason, "regrow bench --json DIR/bench.json")
    heights = [len(rows) for rows in shown.values()]
    figure, grid = sheet(len(shown), 2, 0, "row")
    figure.set_figheight(sum(0.21 * n + 0.75 for n in heights) + 0.2)
    grid[0].get_gridspec().set_height_ratios([n + 2 for n in heights])
    parts = []
    for i, (setting, rows) in enumerate(shown.items()):
        _draw(grid[2 * i], grid[2 * i + 1], 2 * i, setting, rows)
        listed = (f"{look(s).label} {mean:.1f} % and {ms:.3g} ms" for s, (mean, _, ms) in rows.items())
        parts.append(f"{SETTING_LABELS[setting]}: {'; '.join(listed)}")
    groups = {look(s).label: runs.main(setting, s) for setting, rows in shown.items() for s in rows}
    caption = (
        "Left: online accuracy, mean over the tasks that all seeds of a system have, ± 1 standard error over seeds. "
        "Right: time of one update of one network within its stack, on one core. "
        f"{counts(groups) if len(shown) == 1 else ''}"
    ).strip()
    alt = f"Points of mean accuracy and time of an update. {'. '.join(parts)}."
    return Drawing(NAME, TITLE, caption, alt, figure)


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


def _draw(left, right, number: int, setting: str, rows: Mapping[str, tuple[float, float, float]]) -> None:
    heading(left, number, f"{SETTING_LABELS[setting]}: accuracy")
    heading(right, number + 1, f"{SETTING_LABELS[setting]}: time")
    for y, (system, (mean, error, ms)) in enumerate(rows.items()):
        colour = look(system).colour
        left.errorbar(mean, y, xerr=error if math.isfinite(error) else None, fmt="o", color=colour, markersize=5)
        right.barh(y, ms, height=0.6, color=colour)
        right.annotate(f"{ms:.3g}", (ms, y), (3, 0), textcoords="offset points", va="center", fontsize=8)
    left.set_yticks(range(len(rows)), [look(system).label for system in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    left.set_xlabel("online accuracy (%)")
    right.set_xlabel("ms an update")
    right.margins(x=0.14)
    for axes in (left, right):
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
