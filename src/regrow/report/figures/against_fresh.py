"""Every system of permuted images against a network that starts fresh on every task."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...lab.studies import SIX
from ..runs import FRESH, Run, Runs
from ..style import FOUR, SETTING_LABELS
from .panels import compose, error_bar, fill
from .permuted import AUTHORS, WEIGHTS
from .plan import FigurePlan, Line, Panel, around_zero
from .sheet import Drawing, Missing, Topic

AGAINST_FRESH = (*SIX, *AUTHORS)


def against_fresh(runs: Runs) -> Drawing | Missing:
    """Online accuracy minus that of a fresh network of the same seed, over tasks; below 0 plasticity is lost.

    A fresh network's tasks are all alike, so the mean over some of them stands for every task.
    """
    levels = {s: {run.seed: float(_accuracy(run).mean()) for run in runs.main(s, FRESH)} for s in FOUR}
    drawn = {setting: fill(*_minus_fresh(runs, setting, levels[setting])) for setting in FOUR}
    shown = [each for each in drawn.values() if each.lines]
    absent = [(setting, FRESH) for setting in FOUR if not levels[setting]]
    for setting, each in drawn.items():
        paired = {line.system for line, _ in each.lines}
        absent += [(setting, system) for system in AGAINST_FRESH if levels[setting] and system not in paired]
    topic = Topic("against-fresh", "Every system against a fresh network", WEIGHTS)
    if not shown:
        return topic.nothing("no fresh network with another system of the same seed", absent)
    seeds = sorted({len(each) for each in levels.values() if each})
    plan = FigurePlan(
        topic,
        tuple(each.panel for each in shown),
        caption="Online accuracy minus that of a network that starts fresh on every task, of the same seed; dotted: "
        f"the fresh network, ± 1 standard error over its {' or '.join(map(str, seeds))} seeds.",
        columns=min(2, len(shown)),
        shows="Lines of accuracy minus that of a fresh network",
        remarks=lambda groups: "",
    )
    return compose(plan, shown, topic.gaps(absent))


def _minus_fresh(
    runs: Runs, setting: str, levels: Mapping[int, float]
) -> tuple[Panel, list[tuple[Line, Sequence[Run]]]]:
    """A panel, and the runs of its lines."""
    mains: list[tuple[Line, Sequence[Run]]] = [
        (Line(setting, system), runs.main(setting, system)) for system in AGAINST_FRESH
    ]
    panel = Panel(
        SETTING_LABELS[setting],
        tuple(line for line, _ in mains),
        axis="points above a fresh network",
        measure=lambda run: _accuracy(run) - levels[run.seed],
        keep=lambda run: run.seed in levels,
        frame=around_zero,
        against_fresh=True,
        band=error_bar(list(levels.values())),
        unit="",
    )
    return panel, mains


def _accuracy(run: Run) -> np.ndarray:
    return run.measure("online_accuracy")
