"""What is measured of the correlates of lost plasticity on permuted images: dead units, weights, gradients, rank.

Shapes: S seeds, T tasks.
"""

from collections.abc import Callable

import numpy as np

from .. import windows
from ..margins import START
from ..runs import Comparison, Run
from ..stats import Effect, contrast
from .quantities import RULES
from .quantity import PERCENT, Quantity, label, quantity

UNITS = "points of the units"
MEASURES = {
    "dead_units": "dead units",
    "weight_magnitude": "mean |w|",
    "gradient_magnitude": "mean |g|",
    "rank99": "rank of the last hidden layer",
}
"""The four correlates; the rank is the one in the paper's figures: singular values that hold 99 % of their sum."""
BEFORE_TRAINING = ("dead_units", "rank99")
"""Measured before a task's first update: at task 0 of the untrained network."""
LATER = slice(20, 40)
"""Tasks that the rules before these compared with, when most of the change is over."""


def dead_at_end(setting: str, system: str) -> Quantity:
    """Share of dead units, mean of the last 100 tasks."""

    def compute(series: np.ndarray) -> Effect:
        return contrast(100 * series, windows.last(series.shape[1]))

    return _correlate("dead units at the end", UNITS, setting, system, "dead_units", compute)


def growth(setting: str, system: str, measure: str) -> Quantity:
    """Mean of the last 100 tasks against that of the first: in percent; of dead units, in points.

    The first are tasks 0 to 4; 1 to 5 for what is measured before training.
    """
    first = 1 if measure in BEFORE_TRAINING else 0
    before = growth_later(setting, system, measure)
    return _growth(slice(first, first + START), "", setting, system, measure, before)


def growth_later(setting: str, system: str, measure: str) -> Quantity:
    """The same against tasks 20 to 39, to be shown beside."""
    return _growth(LATER, " since tasks 20 to 39", setting, system, measure)


def _growth(
    start: slice, since: str, setting: str, system: str, measure: str, before: Quantity | None = None
) -> Quantity:
    """Mean of the last 100 tasks against that of some early ones."""

    def compute(series: np.ndarray) -> Effect:
        tasks, early = series.shape[1], series[:, start].mean(1, keepdims=True)
        weights = windows.last(tasks) - windows.mean_over(tasks, start)
        return contrast(100 * series if measure == "dead_units" else 100 * series / early, weights)

    unit, name = UNITS if measure == "dead_units" else PERCENT, f"change of {MEASURES[measure]}{since}"
    return _correlate(name, unit, setting, system, measure, compute, start, before)


def _correlate(
    name: str,
    unit: str,
    setting: str,
    system: str,
    measure: str,
    compute: Callable[[np.ndarray], Effect],
    start: slice = LATER,
    before: Quantity | None = None,
) -> Quantity:
    """A quantity of the runs that have the measure at every task: those that diverged have not."""
    key = setting, system

    def has(run: Run) -> bool:
        values = run.measure(measure)
        positive = measure == "dead_units" or bool((values[start] > 0).all())
        return not run.diverged and bool(np.isfinite(values).all()) and positive

    def of_series(runs: Comparison) -> Effect:
        return compute(runs.series(key, measure))

    return quantity(f"{label(system)}: {name}", unit, [key], of_series, RULES, measure, has, before, over_time=True)
