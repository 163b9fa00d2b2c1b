"""What is measured of vision transformers for the paper's claims: one number of each seed, and what they say together.

Shapes: S seeds, T tasks, K classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest, spearmanr

from ..margins import LEAST, NEVER
from ..results_vit import ACCURACY
from ..runs import FRESH, Comparison, Run, Runs
from ..stats import SEEDS, Effect, contrast
from ..style import VIT_SETTING_LABELS
from .quantity import PERCENT, POINTS, Key, Measured, Quantity, Rules, label, lacks, notes, quantity

SMALLEST = 1.2e-38  # of normal 32-bit numbers: what is less counts as that
SHARE, CORRELATION, RATE = "of the runs", "rank correlation", "% a task"
RULES = Rules(tasks=LEAST, seeds=SEEDS, other_values="not the chosen values", chance="at chance")

Values = Callable[[Comparison], np.ndarray]
"""One number of each seed, (S,)."""


@dataclass(frozen=True)
class Share(Effect):
    """How many of some runs did something that none need do again.

    One run that did shows that some do. That none did shows only that a larger share is unlikely: as unlikely as
    (1 - rare)^n, for the share `rare` that is asked.
    """

    rare: float = NEVER

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval, after Clopper and Pearson."""
        return float(self._interval.low)

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return float(self._interval.high)

    @property
    def _interval(self):
        return binomtest(self._count, self.seeds).proportion_ci(0.95)

    @property
    def _count(self) -> int:
        return round(self.value * self.seeds)

    def above(self, bound: float) -> float:
        """Whether any did: certain, so no p-value between 0 and 1."""
        del bound
        return float(self._count == 0)

    def below(self, bound: float) -> float:
        """How likely it is that none did, if so many do."""
        del bound
        return 1.0 if self._count else (1 - self.rare) ** self.seeds


def last_gap(setting: str, system: str) -> Quantity:
    """Accuracy on the last task minus that of a fresh network of the same seed and setting."""
    name = f"{label(system)} minus a fresh network on the last task"
    return _difference(name, last, (setting, system), (setting, FRESH))


def last_ahead(setting: str, system: str, other: str) -> Quantity:
    """Accuracy on the last task of one system minus that of another."""
    name = f"{label(system)} minus {label(other)} on the last task"
    return _difference(name, last, (setting, system), (setting, other))


def closer(setting: str, other: str, system: str = "base") -> Quantity:
    """How much less a system falls behind a fresh network on the last task in one setting than in another."""
    keys = ((setting, system), (setting, FRESH), (other, system), (other, FRESH))

    def values(runs: Comparison) -> np.ndarray:
        one, fresh, two, its_fresh = (last(runs, key) for key in keys)
        return (one - fresh) - (two - its_fresh)

    name = f"{label(system)} minus a fresh network on the last task, {_against(setting, other)}"
    return _quantity(name, POINTS, keys, values)


def ahead(setting: str, other: str, system: str = "base") -> Quantity:
    """Mean accuracy over all tasks of a system in one setting minus that in another."""
    name = f"{label(system)}, mean over tasks, {_against(setting, other)}"
    return _difference(name, mean, (setting, system), (other, system))


def change(setting: str, system: str, measure: str, name: str) -> Quantity:
    """Change of a measure from the first task to the last, in percent."""
    key = setting, system

    def values(runs: Comparison) -> np.ndarray:
        series = runs.series(key, measure)
        return 100 * (series[:, -1] / series[:, 0] - 1)

    return _quantity(f"{label(system)}: change of {name}", PERCENT, [key], values, measure)


def below_fresh(setting: str, system: str, measure: str, name: str) -> Quantity:
    """A measure at the last task against that of a fresh network, in percent."""
    keys = ((setting, system), (setting, FRESH))

    def values(runs: Comparison) -> np.ndarray:
        mine, fresh = (runs.series(key, measure)[:, -1] for key in keys)
        return 100 * (mine / fresh - 1)

    return _quantity(f"{label(system)}: {name} against a fresh network's", PERCENT, keys, values, measure)


def rate(setting: str, system: str, measure: str, name: str) -> Quantity:
    """Exponential rate of a measure: the fitted slope of its logarithm over tasks, as percent a task."""
    key = setting, system

    def values(runs: Comparison) -> np.ndarray:
        logs = np.log(np.maximum(runs.series(key, measure), SMALLEST))
        t = np.arange(runs.tasks) - (runs.tasks - 1) / 2
        return 100 * np.expm1(logs @ t / (t @ t))

    return _quantity(f"{label(system)}: rate of {name}", RATE, [key], values, measure)


def class_order(setting: str, system: str = "base") -> Quantity:
    """Spearman's correlation of the order in which classes came and their accuracy after the last task."""
    key = setting, system

    def values(runs: Comparison) -> np.ndarray:
        return np.array([rank_correlation(accuracies(run, runs.tasks)) for run in runs.groups[key]])

    name = f"{label(system)}: correlation of class order and accuracy"
    return _quantity(name, CORRELATION, [key], values, "class_accuracy")


def diverging(setting: str, system: str, rare: float) -> Quantity:
    """Share of the runs that diverged.

    Args:
        setting, system: whose runs.
        rare: the share that "never" must rule out, or below which "some" fails.
    """
    key = setting, system

    def measure(runs: Runs) -> Measured:
        group = [run for run in runs.main(*key) if run.tasks >= LEAST]
        if len(group) < SEEDS:
            return Measured(lacks=lacks({key: group or runs.main(*key)}, RULES))
        lost = sum(run.diverged for run in group) / len(group)
        tasks = min(run.tasks for run in group)
        share = Share(lost, 0.0, math.inf, "seeds", len(group), tasks, rare=rare)
        return Measured((share,), notes=notes(runs, {key: group}, RULES))

    name = f"{label(system)}: runs that diverged ({'never' if rare == NEVER else 'some'})"
    return Quantity(name, SHARE, setting, (system,), measure)


# How they are computed.


def last(runs: Comparison, key: Key) -> np.ndarray:
    """Accuracy on the last task, (S,)."""
    return runs.series(key, ACCURACY)[:, -1]


def mean(runs: Comparison, key: Key) -> np.ndarray:
    """Accuracy over all tasks, (S,)."""
    return runs.series(key, ACCURACY).mean(1)


def accuracies(run: Run, tasks: int) -> np.ndarray:
    """Accuracy on each class after so many tasks, classes in the order they came, (K,); empty where there is none."""
    if "class_accuracy" not in run.rows.columns:
        return np.empty(0)
    values = run.rows["class_accuracy"][tasks - 1]
    return np.empty(0) if values is None else np.array(values, dtype=float)


def rank_correlation(accuracy: np.ndarray) -> float:
    """Spearman's correlation of place and accuracy, ties at their mean rank; 0 where all are equal.

    Example:
        >>> rank_correlation(np.array([0.1, 0.2, 0.2, 0.9])) > 0.9, rank_correlation(np.ones(4))
        (True, 0.0)
    """
    if np.ptp(accuracy) == 0:
        return 0.0
    return float(spearmanr(np.arange(len(accuracy)), accuracy)[0])  # type: ignore[arg-type]


def by_seed(values: np.ndarray, tasks: int) -> Effect:
    """One number of each seed, (S,): Student's t from three seeds on; below it there is no error."""
    if len(values) < SEEDS:
        return Effect(float(values.mean()), math.nan, 1, "seeds", len(values), tasks)
    return replace(contrast(values[:, None], np.ones(1)), tasks=tasks)


def _difference(name: str, of: Callable[[Comparison, Key], np.ndarray], one: Key, other: Key) -> Quantity:
    return _quantity(name, POINTS, (one, other), lambda runs: of(runs, one) - of(runs, other))


def _quantity(name: str, unit: str, keys: Sequence[Key], values: Values, measure: str = ACCURACY) -> Quantity:
    def has(run: Run) -> bool:
        if measure == "class_accuracy":
            return len(accuracies(run, run.tasks)) > 1
        return bool(np.isfinite(run.measure(measure)).all())

    def compute(runs: Comparison) -> Effect:
        return by_seed(values(runs), runs.tasks)

    return quantity(name, unit, keys, compute, RULES, measure, has, over_time=True)


def _against(setting: str, other: str) -> str:
    return f"{VIT_SETTING_LABELS[setting]} minus {VIT_SETTING_LABELS[other]}"
