"""What is measured of accuracy on permuted images for the paper's claims.

Shapes: S seeds, T tasks.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from .. import windows
from ..margins import SCRATCH_TASKS
from ..runs import FRESH, Comparison, Runs
from ..stats import SEEDS, Effect, contrast, slope
from .quantity import POINTS, Key, Measured, Quantity, Rules, label, lacks, over, quantity

RULES = Rules()
_quantity = partial(quantity, rules=RULES)
Weights = Callable[[np.ndarray], np.ndarray]
"""From the accuracy of runs, (S, T), to the weights of its tasks, (T,) or (S, T)."""


def drop(setting: str, system: str) -> Quantity:
    """Mean accuracy of the last tasks minus that of as many early ones."""
    before = _course("end minus early peak", setting, system, windows.last_minus_own_peak)
    return _course("end minus start", setting, system, _end_minus_start, before=before)


def fall(setting: str, system: str) -> Quantity:
    """Mean accuracy of the last tasks minus that of an early peak, tasks 1 to 5."""
    before = _course("end minus early peak", setting, system, windows.last_minus_own_peak)
    return _course("end minus peak", setting, system, _end_minus_peak, before)


def _course(name: str, setting: str, system: str, weights: Weights, before: Quantity | None = None) -> Quantity:
    key = setting, system

    def compute(runs: Comparison) -> Effect:
        series = runs.series(key)
        return contrast(series, weights(series))

    return quantity(f"{label(system)}: {name}", POINTS, [key], compute, RULES, before=before, over_time=True)


def _end_minus_start(series: np.ndarray) -> np.ndarray:
    return windows.end_minus_start(series.shape[1])


def _end_minus_peak(series: np.ndarray) -> np.ndarray:
    return windows.end_minus_peak(series.shape[1])


def drop_against(setting: str, system: str, other: str) -> Quantity:
    """How much less one system drops than another: the difference of their drops."""
    keys, name = ((setting, system), (setting, other)), f"drop of {label(system)} minus drop of {label(other)}"
    before = _difference(f"{name}, from early peaks", keys, windows.last_minus_own_peak)
    return _difference(name, keys, _end_minus_start, before=before)


def fall_against(setting: str, other: str, system: str) -> Quantity:
    """How much more a system falls in one setting than in another: the difference of its falls from early peaks."""
    name = f"fall of {label(system)}, {setting} minus {other}"
    return _difference(name, ((setting, system), (other, system)), _end_minus_peak)


def _difference(name: str, keys: tuple[Key, Key], weights: Weights, before: Quantity | None = None) -> Quantity:
    def compute(runs: Comparison) -> Effect:
        one, two = (runs.series(key) for key in keys)
        if len(runs.seeds) >= SEEDS:
            by_seed = (one * weights(one) - two * weights(two)).sum(1, keepdims=True)
            return replace(contrast(by_seed, np.ones(1)), tasks=runs.tasks)
        first, second = (contrast(series, weights(series)) for series in (one, two))
        # As if the two were independent: what they share would only make the error smaller.
        error = math.hypot(first.error, second.error)
        before = None if first.freedom_before is None else min(first.freedom_before, second.freedom_before or math.inf)
        freedom = min(first.freedom, second.freedom)
        value = first.value - second.value
        return replace(first, value=value, error=error, freedom=freedom, freedom_before=before)

    return quantity(name, POINTS, keys, compute, RULES, before=before, over_time=True)


def change(setting: str, system: str) -> Quantity:
    """Change of accuracy over the last half of the tasks, by its slope."""
    key, name = (setting, system), f"{label(system)}: fitted change over the last half"

    def compute(runs: Comparison) -> Effect:
        late = runs.series(key)[:, runs.tasks // 2 :]
        return replace(slope(late).times(late.shape[1]), tasks=runs.tasks)

    return _quantity(name, POINTS, [key], compute, over_time=True)


def ahead(setting: str, system: str, other: str) -> Quantity:
    """Mean accuracy over all tasks of one system minus that of another."""
    keys = (setting, system), (setting, other)

    def compute(runs: Comparison) -> Effect:
        one, two = (runs.series(key) for key in keys)
        return contrast(one - two, np.full(runs.tasks, 1 / runs.tasks))

    return _quantity(f"{label(system)} minus {label(other)}", POINTS, keys, compute)


def ahead_of_best(setting: str, system: str, *others: str) -> Quantity:
    """Mean accuracy over all tasks of one system minus that of the best of others.

    Which is best, the other seeds choose: on the same seeds the better of two equal ones would look better than it is.
    One seed has no others, and chooses itself.
    """
    keys = [(setting, each) for each in (system, *others)]

    def compute(runs: Comparison) -> Effect:
        mine, *rest = (runs.series(key) for key in keys)
        levels = np.stack([series.mean(1) for series in rest])
        if len(runs.seeds) > 1:
            levels = levels.sum(1, keepdims=True) - levels
        best = np.stack([rest[which][seed] for seed, which in enumerate(levels.argmax(0))])
        return contrast(mine - best, np.full(runs.tasks, 1 / runs.tasks))

    return _quantity(f"{label(system)} minus the best of {', '.join(map(label, others))}", POINTS, keys, compute)


def against_fresh(setting: str, system: str) -> Quantity:
    """Mean accuracy of the last 100 tasks minus that of a fresh network on its tasks.

    A fresh network has the same expected accuracy on every task, so some of its tasks stand for all.
    """
    name = f"{label(system)} at the end minus a fresh network"
    measure = partial(_against_fresh, (setting, system))
    return Quantity(name, POINTS, setting, (system, FRESH), measure, over_time=True)


def _against_fresh(key: Key, runs: Runs) -> Measured:
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
        effect = contrast(shared.series(key) - means, windows.last(shared.tasks))
        if len(shared.seeds) >= SEEDS:
            return effect
        # A fresh network's tasks are independent: new weights and a new permutation each.
        own = np.mean([level.var(ddof=1) / len(level) for level in levels]) / len(levels)
        return replace(effect, error=math.hypot(effect.error, math.sqrt(own)))

    return over(runs, {key: paired}, compute, RULES)
