"""What is measured of vision transformers for the paper's claims: one number of each seed, and what they say together.

Shapes: S seeds, T tasks, K classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta, rankdata

from ..margins import LEAST, NEVER
from ..results_vit import ACCURACY
from ..runs import FRESH, Panel, Run, Runs, panels
from ..stats import SEEDS, Effect, contrast
from ..style import VIT_SETTING_LABELS
from .quantities import POINTS, Found, Quantity, label

SMALLEST = 1.2e-38  # of normal 32-bit numbers: what is less counts as that
SHARE, CORRELATION, PERCENT, RATE = "of the runs", "rank correlation", "%", "% a task"

Key = tuple[str, str]
"""(setting, system)"""
Compute = Callable[[Panel], np.ndarray]
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
        return _binomial(self._count, self.seeds)[0]

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return _binomial(self._count, self.seeds)[1]

    @property
    def _count(self) -> int:
        return round(self.value * self.seeds)

    def above(self, bound: float) -> float:
        """Whether any did, which needs no chance."""
        del bound
        return float(self._count == 0)

    def below(self, bound: float) -> float:
        """How likely it is that none did, if so many do."""
        del bound
        return 1.0 if self._count else (1 - self.rare) ** self.seeds


def _binomial(count: int, n: int) -> tuple[float, float]:
    """Ends of the exact 95 % interval of a share.

    Example:
        >>> low, high = _binomial(0, 20)
        >>> low, round(high, 3)
        (0.0, 0.168)
    """
    low = float(beta.ppf(0.025, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
    return low, high


def last_gap(setting: str, system: str) -> Quantity:
    """Accuracy on the last task minus that of a fresh network of the same seed and setting."""
    keys = ((setting, system), (setting, FRESH))
    return _quantity(f"{label(system)} minus a fresh network on the last task", POINTS, keys, _differ(last, *keys))


def last_ahead(setting: str, system: str, other: str) -> Quantity:
    """Accuracy on the last task of one system minus that of another."""
    keys = ((setting, system), (setting, other))
    return _quantity(f"{label(system)} minus {label(other)} on the last task", POINTS, keys, _differ(last, *keys))


def closer(setting: str, other: str, system: str = "base") -> Quantity:
    """How much less a system falls behind a fresh network on the last task in one setting than in another."""
    keys = ((setting, system), (setting, FRESH), (other, system), (other, FRESH))

    def compute(panel: Panel) -> np.ndarray:
        one, fresh, two, its_fresh = (last(panel, key) for key in keys)
        return (one - fresh) - (two - its_fresh)

    name = f"{label(system)} minus a fresh network on the last task, {_against(setting, other)}"
    return _quantity(name, POINTS, keys, compute)


def ahead(setting: str, other: str, system: str = "base") -> Quantity:
    """Mean accuracy over all tasks of a system in one setting minus that in another."""
    keys = ((setting, system), (other, system))
    name = f"{label(system)}, mean over tasks, {_against(setting, other)}"
    return _quantity(name, POINTS, keys, _differ(mean, *keys))


def change(setting: str, system: str, measure: str, name: str) -> Quantity:
    """Change of a measure from the first task to the last, in percent."""

    def compute(panel: Panel) -> np.ndarray:
        series = panel.series(_name((setting, system)), measure)
        return 100 * (series[:, -1] / series[:, 0] - 1)

    return _quantity(f"{label(system)}: change of {name}", PERCENT, ((setting, system),), compute, measure)


def below_fresh(setting: str, system: str, measure: str, name: str) -> Quantity:
    """A measure at the last task against that of a fresh network, in percent."""
    keys = ((setting, system), (setting, FRESH))

    def compute(panel: Panel) -> np.ndarray:
        mine, fresh = (panel.series(_name(key), measure)[:, -1] for key in keys)
        return 100 * (mine / fresh - 1)

    return _quantity(f"{label(system)}: {name} against a fresh network's", PERCENT, keys, compute, measure)


def rate(setting: str, system: str, measure: str, name: str) -> Quantity:
    """Exponential rate of a measure: the fitted slope of its logarithm over tasks, as percent a task."""

    def compute(panel: Panel) -> np.ndarray:
        logs = np.log(np.maximum(panel.series(_name((setting, system)), measure), SMALLEST))
        t = np.arange(panel.tasks) - (panel.tasks - 1) / 2
        return 100 * np.expm1(logs @ t / (t @ t))

    return _quantity(f"{label(system)}: rate of {name}", RATE, ((setting, system),), compute, measure)


def class_order(setting: str, system: str = "base") -> Quantity:
    """Spearman's correlation of the order in which classes came and their accuracy after the last task."""

    def compute(panel: Panel) -> np.ndarray:
        return np.array([rank_correlation(accuracies(run, panel.tasks)) for run in panel.groups[_name(key)]])

    key = (setting, system)
    name = f"{label(system)}: correlation of class order and accuracy"
    return _quantity(name, CORRELATION, (key,), compute, "class_accuracy")


def diverging(setting: str, system: str, rare: float) -> Quantity:
    """Share of the runs that diverged.

    Args:
        setting, system: whose runs.
        rare: the share that "never" must rule out, or below which "some" fails.
    """

    def find(runs: Runs) -> Found:
        found = [run for run in runs.main(setting, system) if run.tasks >= LEAST]
        if lacks := _short(runs, ((setting, system),), len(found)):
            return Found(lacks=lacks)
        lost = sum(run.diverged for run in found) / len(found)
        tasks = min(run.tasks for run in found)
        return Found((Share(lost, 0.0, math.inf, "seeds", len(found), tasks, rare=rare),), notes=_notes(runs, found))

    name = f"{label(system)}: runs that diverged ({'never' if rare == NEVER else 'some'})"
    return Quantity(name, SHARE, setting, (system,), find)


# How they are found.


def last(panel: Panel, key: Key) -> np.ndarray:
    """Accuracy on the last task, (S,)."""
    return panel.series(_name(key), ACCURACY)[:, -1]


def mean(panel: Panel, key: Key) -> np.ndarray:
    """Accuracy over all tasks, (S,)."""
    return panel.series(_name(key), ACCURACY).mean(1)


def accuracies(run: Run, tasks: int) -> np.ndarray:
    """Accuracy on each class after so many tasks, classes in the order they came, (K,); empty where there is none."""
    if "class_accuracy" not in run.rows.columns:
        return np.empty(0)
    values = run.rows["class_accuracy"][tasks - 1]
    return np.empty(0) if values is None else np.array(values, dtype=float)


def rank_correlation(accuracy: np.ndarray) -> float:
    """Spearman's correlation of place and accuracy, ties at their mean rank; 0 where all are alike.

    Example:
        >>> rank_correlation(np.array([0.1, 0.2, 0.2, 0.9])) > 0.9, rank_correlation(np.ones(4))
        (True, 0.0)
    """
    if np.ptp(accuracy) == 0:
        return 0.0
    return float(np.corrcoef(np.arange(len(accuracy)), rankdata(accuracy))[0, 1])


def by_seed(values: np.ndarray, tasks: int) -> Effect:
    """One number of each seed, (S,): Student's t from three seeds on; below it there is no error."""
    if len(values) < SEEDS:
        return Effect(float(values.mean()), math.nan, 1, "seeds", len(values), tasks)
    return replace(contrast(values[:, None], np.ones(1)), tasks=tasks)


def _differ(of: Callable[[Panel, Key], np.ndarray], one: Key, other: Key) -> Compute:
    return lambda panel: of(panel, one) - of(panel, other)


def _quantity(name: str, unit: str, keys: Sequence[Key], compute: Compute, measure: str = ACCURACY) -> Quantity:
    settings, systems = (tuple(dict.fromkeys(part)) for part in zip(*keys, strict=True))

    def find(runs: Runs) -> Found:
        return measured(runs, keys, compute, measure)

    return Quantity(name, unit, settings[0], systems, find, also=settings[1:])


def measured(runs: Runs, keys: Sequence[Key], compute: Compute, measure: str = ACCURACY) -> Found:
    """A quantity over the seeds that all runs have, or what they lack for one.

    Args:
        runs: all there are.
        keys: (setting, system) of each group.
        compute: one number of each seed.
        measure: that runs must have throughout; one without is left out, as a run that diverged.
    """
    every = {_name(key): runs.main(*key) for key in keys}
    kept = {name: [run for run in group if _has(run, measure)] for name, group in every.items()}
    found = [panel for panel in panels(kept, LEAST) if len(panel.seeds) >= SEEDS]
    if not found:
        most = max((len(panel.seeds) for panel in panels(kept, LEAST)), default=0)
        gone = [name for name in every if every[name] and not kept[name]]
        lacks = f"{gone[0]}: no run has numbers for {measure} throughout" if gone else _short(runs, keys, most)
        return Found(lacks=lacks or f"{', '.join(every)}: too few seeds in all")
    notes = _notes(runs, [run for group in found[-1].groups.values() for run in group])
    out = [f"{name}: {len(group) - len(kept[name])} of {len(group)} runs left out, diverged or without {measure}"
           for name, group in every.items() if len(group) > len(kept[name])]  # fmt: skip
    return Found(tuple(by_seed(compute(panel), panel.tasks) for panel in found), notes=(*notes, *out))


def _has(run: Run, measure: str) -> bool:
    if measure == "class_accuracy":
        return len(accuracies(run, run.tasks)) > 1
    return bool(np.isfinite(run.measure(measure)).all())


def _short(runs: Runs, keys: Sequence[Key], seeds: int) -> str:
    """What is too little, one line; empty where it is enough."""
    for setting, system in keys:
        most = max((run.tasks for run in runs.main(setting, system)), default=0)
        if not most:
            return f"{system} in {setting}: no run at its chosen values"
        if most < LEAST:
            return f"{system} in {setting}: {most} of the {LEAST} tasks needed"
    if seeds < SEEDS:
        return f"{' and '.join(map(_name, keys))}: {seeds} of the {SEEDS} seeds needed, with {LEAST} tasks in all"
    return ""


def _notes(runs: Runs, found: Sequence[Run]) -> tuple[str, ...]:
    """What a reader must know of the runs that are judged."""
    groups: dict[Key, list[Run]] = {}
    for run in found:
        groups.setdefault((run.setting, run.system), []).append(run)
    notes = []
    for key, group in groups.items():
        if group[0].config_id != runs.problem.chosen_id(*key):
            notes.append(f"{_name(key)}: not the chosen values")
        if lost := sum(run.diverged for run in group):
            notes.append(f"{_name(key)}: {lost} of {len(group)} runs diverged; they stay in, at chance")
    return tuple(notes)


def _name(key: Key) -> str:
    return f"{label(key[1])} in {key[0]}"


def _against(setting: str, other: str) -> str:
    return f"{VIT_SETTING_LABELS[setting]} minus {VIT_SETTING_LABELS[other]}"
