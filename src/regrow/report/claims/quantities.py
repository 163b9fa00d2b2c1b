"""What is measured of runs on permuted images for the paper's claims.

Shapes: S seeds, T tasks.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..margins import FIRST, LAST, PEAK, SCRATCH_TASKS, SETTLED
from ..runs import FRESH, Comparison, Run, Runs
from ..stats import SEEDS, Effect, contrast, slope
from .quantity import PERCENT, POINTS, Measured, Quantity, Rules, label, lacks, over, quantity

UNITS = "points of the units"

MEASURES = {
    "dead_units": "dead units",
    "weight_magnitude": "mean |w|",
    "gradient_magnitude": "mean |g|",
    "rank99": "rank of the last hidden layer",
}
"""The four correlates; the rank is the one in the paper's figures: singular values that hold 99 % of their sum."""

RULES = Rules()
_quantity = partial(quantity, rules=RULES)


def drop(setting: str, system: str) -> Quantity:
    """Mean accuracy of the last 100 tasks minus the early peak: the best 5 successive of the first 50 tasks."""
    key, name = (setting, system), f"{label(system)}: end minus early peak"

    def compute(runs: Comparison) -> Effect:
        series = runs.series(key)
        return contrast(series, _drop_weights(series))

    return _quantity(name, POINTS, [key], compute)


def drop_against(setting: str, system: str, other: str) -> Quantity:
    """How much less one system drops than another: the difference of their drops."""
    keys = (setting, system), (setting, other)

    def compute(runs: Comparison) -> Effect:
        one, two = (runs.series(key) for key in keys)
        weights = _drop_weights(one), _drop_weights(two)
        if len(runs.seeds) >= SEEDS:
            by_seed = (one * weights[0] - two * weights[1]).sum(1, keepdims=True)
            return replace(contrast(by_seed, np.ones(1)), tasks=runs.tasks)
        first, second = contrast(one, weights[0]), contrast(two, weights[1])
        # As if the two were independent: what they share would only make the error smaller.
        error, freedom = math.hypot(first.error, second.error), min(first.freedom, second.freedom)
        return replace(first, value=first.value - second.value, error=error, freedom=freedom)

    return _quantity(f"drop of {label(system)} minus drop of {label(other)}", POINTS, keys, compute)


def change(setting: str, system: str) -> Quantity:
    """Change of accuracy over the last half of the tasks, by its slope."""
    key, name = (setting, system), f"{label(system)}: fitted change over the last half"

    def compute(runs: Comparison) -> Effect:
        late = runs.series(key)[:, runs.tasks // 2 :]
        return replace(slope(late).times(late.shape[1]), tasks=runs.tasks)

    return _quantity(name, POINTS, [key], compute)


def ahead(setting: str, system: str, other: str) -> Quantity:
    """Mean accuracy over all tasks of one system minus that of another."""
    keys = (setting, system), (setting, other)

    def compute(runs: Comparison) -> Effect:
        one, two = (runs.series(key) for key in keys)
        return contrast(one - two, np.full(runs.tasks, 1 / runs.tasks))

    return _quantity(f"{label(system)} minus {label(other)}", POINTS, keys, compute)


def against_fresh(setting: str, system: str) -> Quantity:
    """Mean accuracy of the last 100 tasks minus that of a fresh network on its tasks.

    A fresh network has the same expected accuracy on every task, so some of its tasks stand for all.
    """
    name = f"{label(system)} at the end minus a fresh network"
    return Quantity(name, POINTS, setting, (system, FRESH), partial(_against_fresh, (setting, system)))


def _against_fresh(key: tuple[str, str], runs: Runs) -> Measured:
    setting, system = key
    yardstick, mine = runs.main(setting, FRESH), runs.main(*key)
    fresh = {run.seed: run for run in yardstick if run.tasks >= SCRATCH_TASKS}
    paired = [run for run in mine if run.seed in fresh]
    if not fresh:
        return Measured(lacks=lacks({(setting, FRESH): yardstick}, RULES._replace(tasks=SCRATCH_TASKS)))
    if mine and not paired:
        return Measured(lacks=f"{system} and scratch in {setting}: no seed in both")

    def compute(shared: Comparison) -> Effect:
        levels = [fresh[seed].measure("online_accuracy") for seed in shared.seeds]
        means = np.array([[level.mean()] for level in levels])
        effect = contrast(shared.series(key) - means, _end(shared.tasks))
        if len(shared.seeds) >= SEEDS:
            return effect
        # A fresh network's tasks are independent: new weights and a new permutation each.
        own = np.mean([level.var(ddof=1) / len(level) for level in levels]) / len(levels)
        return replace(effect, error=math.hypot(effect.error, math.sqrt(own)))

    return over(runs, {key: paired}, compute, RULES)


def dead_at_end(setting: str, system: str) -> Quantity:
    """Share of dead units, mean of the last 100 tasks."""

    def compute(series: np.ndarray) -> Effect:
        return contrast(100 * series, _end(series.shape[1]))

    return _correlate("dead units at the end", UNITS, setting, system, "dead_units", compute)


def growth(setting: str, system: str, measure: str) -> Quantity:
    """Mean of the last 100 tasks against that of tasks 20 to 39: in percent; of dead units, in points."""

    def compute(series: np.ndarray) -> Effect:
        weights, early = _end(series.shape[1]), series[:, SETTLED].mean(1, keepdims=True)
        weights[SETTLED] -= 1 / (SETTLED.stop - SETTLED.start)
        return contrast(100 * series if measure == "dead_units" else 100 * series / early, weights)

    unit = UNITS if measure == "dead_units" else PERCENT
    return _correlate(f"change of {MEASURES[measure]}", unit, setting, system, measure, compute)


def _correlate(
    name: str, unit: str, setting: str, system: str, measure: str, compute: Callable[[np.ndarray], Effect]
) -> Quantity:
    """A quantity of the runs that have the measure at every task: those that diverged have not."""
    key = setting, system

    def has(run: Run) -> bool:
        values = run.measure(measure)
        positive = measure == "dead_units" or bool((values[SETTLED] > 0).all())
        return not run.diverged and bool(np.isfinite(values).all()) and positive

    def of_series(runs: Comparison) -> Effect:
        return compute(runs.series(key, measure))

    return _quantity(f"{label(system)}: {name}", unit, [key], of_series, measure=measure, has=has)


def _end(tasks: int) -> np.ndarray:
    """Weights of the mean over the last tasks, (T,)."""
    return np.repeat([0.0, 1 / LAST], [tasks - LAST, LAST])


def _drop_weights(series: np.ndarray) -> np.ndarray:
    """Each run's own: the end minus the window of its early peak, (S, T)."""
    weights = np.tile(_end(series.shape[1]), (len(series), 1))
    starts = sliding_window_view(series[:, :FIRST], PEAK, axis=1).mean(-1).argmax(1)
    for run, start in zip(weights, starts, strict=True):
        run[start : start + PEAK] -= 1 / PEAK
    return weights
