"""Inputs without zeros: every method tuned again on standardized pixels, none of which is 0."""

from collections.abc import Sequence

import numpy as np

from ...lab.studies import SIX, STUDIES, SYSTEMS
from ..runs import Run, Runs
from ..style import FOUR, SETTING_LABELS, look
from .panels import compose, fill
from .plan import FigurePlan, Line, Panel
from .sheet import Drawing, Missing, Topic

STUDY = STUDIES["dense-inputs"]
TOPIC = Topic(
    STUDY.name, "Inputs without zeros: every method tuned again", STUDY.name, True, 30, "--out results/dense-step"
)
VARIANTS = tuple(system for system in STUDY.systems if system not in SIX[:-1] and system != "swr-silent-input")
"""Ways of selective weight reinitialization: together one method."""
METHODS = {**{system: (system,) for system in STUDY.systems if system not in VARIANTS}, "swr": VARIANTS}
"""{the system whose look a method has: its systems}"""
REASON = "no run on standardized pixels; here the first of its four commands, docs/laboratory.md has the others"


def dense_inputs(runs: Runs | None) -> Drawing | Missing:
    """Online accuracy in every setting, each method at the best of its configs.

    Args:
        runs: on standardized pixels, or None.
    """
    mains = {setting: _best(runs, setting) for setting in FOUR} if runs else {}
    shown = {setting: found for setting, found in mains.items() if any(name != "base" for name in found)}
    if not shown:
        return TOPIC.nothing(REASON, [(setting, "base") for setting in FOUR])
    panels = []
    for setting, found in shown.items():
        lines = [(Line(setting, name), found[name]) for name in SYSTEMS if name in found]
        panel = Panel(SETTING_LABELS[setting], tuple(line for line, _ in lines))
        panels.append(fill(panel, lines))
    ways = "; ".join(
        f"{SETTING_LABELS[setting]}: {look(found['swr'][0].system).label}"
        for setting, found in shown.items()
        if "swr" in found
    )
    plan = FigurePlan(
        TOPIC,
        tuple(each.panel for each in panels),
        caption="Online accuracy by task on standardized pixels, none of which is 0; {points}. Each method at the best "
        f"of its configs on the seeds shown{f', SWR also at the best of its variants ({ways})' if ways else ''}.",
        columns=min(2, len(panels)),
    )
    return compose(plan, panels, ())


def _best(runs: Runs, setting: str) -> dict[str, Sequence[Run]]:
    """{method: the longest runs of its config of highest mean accuracy; shorter ones, of sweeps, are left out}"""
    found: dict[str, Sequence[Run]] = {}
    for method, systems in METHODS.items():
        groups = [group for system in systems for group in runs.configs(setting, system).values()]
        most = max((run.tasks for group in groups for run in group), default=0)
        longest = [whole for group in groups if (whole := [run for run in group if run.tasks == most])]
        if longest:
            found[method] = max(longest, key=_level)
    return found


def _level(group: Sequence[Run]) -> float:
    """Mean accuracy over runs and tasks."""
    return float(np.mean([run.measure("online_accuracy").mean() for run in group]))
