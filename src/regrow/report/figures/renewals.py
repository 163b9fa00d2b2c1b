"""What methods renew on permuted images: how much, and how much of it had utility 0."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ...lab.studies import System
from ..runs import Run, Runs, entries
from ..style import FOUR, SETTING_LABELS
from .line import Curve
from .panels import draw
from .permuted import UNITS, WEIGHTS
from .plan import FigurePlan, Line, Panel, on_log
from .sheet import Drawing, Missing, Topic

RENEWALS_SYSTEMS = (
    *UNITS,
    "swr",
    "swr-gradient-proportional-resample",
    "swr-magnitude-threshold-resample",
    "swr-random-threshold-resample",
)


def renewals(runs: Runs, pixels: int = 784) -> Drawing | Missing:
    """Entries renewed in a task as a share of all, and the share of the renewed whose utility was exactly 0.

    Args:
        runs: of any systems.
        pixels: of an image, for the number of entries that a network has.
    """
    plan = FigurePlan(
        Topic("renewals", "What is renewed, and how much of it had utility 0", WEIGHTS),
        tuple(panel for setting in FOUR for panel in _of_renewals(runs, setting, pixels)),
        caption="Left: entries renewed in a task, as a share of all parameters (more than 100 % where one is renewed "
        "several times; of tasks in which something was). Right: the share of what was renewed whose utility was "
        "exactly 0, of entries for weights, of units for CBP and ReDo; {points}.",
        height=2.1,
        share="none",
        nothing="no run that renewed anything",
        shows="Lines of what is renewed",
        remarks=lambda groups: "",
        needs=[(setting, system) for setting in FOUR for system in (*UNITS, "swr")],
    )
    return draw(runs, plan)


def _of_renewals(runs: Runs, setting: str, pixels: int) -> tuple[Panel, ...]:
    """Two panels, none where nothing was renewed."""

    def renewed(run: Run) -> np.ndarray:
        return run.measure("renewed")

    def share(run: Run) -> np.ndarray:
        """Of all entries, in tasks in which something was renewed: a logarithmic axis has no 0."""
        return np.where(renewed(run) > 0, 100 * renewed(run) / entries(setting, pixels), np.nan)

    def of(run: Run) -> np.ndarray:
        """What the share of utility 0 counts: units, where entries have no utility of their own."""
        return np.nan_to_num(run.measure("renewed_units" if System.of(run.system).by_unit else "renewed"))

    def percent(axes: Axes, curves: Sequence[Curve]) -> None:
        del curves
        axes.set_ylim(-4, 104)

    def anything(system: str) -> bool:
        return any(np.nansum(renewed(run)) > 0 for run in runs.main(setting, system))

    lines, title = tuple(Line(setting, s) for s in RENEWALS_SYSTEMS if anything(s)), SETTING_LABELS[setting]
    if not lines:
        return ()
    zero = Panel(
        f"{title}: utility 0",
        lines,
        axis="% of what was renewed",
        measure=lambda run: 100 * run.measure("renewed_zero"),
        per=of,
        frame=percent,
    )
    axis = "% of all entries in a task"
    return Panel(f"{title}: renewed", lines, axis=axis, measure=share, frame=on_log, digits=2), zero
