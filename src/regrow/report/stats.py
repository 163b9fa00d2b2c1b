"""Means over seeds, contrasts and slopes over tasks, and how sure they are.

Shapes: S seeds (runs), T tasks, n samples, m tests.

Two sources of doubt. *Between seeds*: other initial weights and data; Student's t over one number a seed, whatever the
number of seeds (from ten on it is close to a normal interval, never narrower). *Within runs*: noise from task to task;
a moving-block bootstrap over the tasks, the only one there is for one seed, and then it speaks of that run alone. Many
tasks never make up for missing seeds: degrees of freedom are counted in seeds from two on.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import t as student

from .bootstrap import LEAST, within

SEEDS = 3  # from so many on a statement is decided: with two, Student's interval is 12.7 standard errors to each side

Basis = Literal["seeds", "tasks"]
"""Where the error is from: the spread between seeds, or the noise from task to task within the runs."""


class Estimate(NamedTuple):
    """A mean over seeds, its standard error, and its 95 % interval."""

    mean: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """A number with its standard error, from so many seeds and tasks.

    freedom: degrees of freedom of the error, for Student's t.
    basis: "seeds" (between seeds) or "tasks" (within these runs only).
    standardised: Hedges' g, the mean in standard deviations over seeds; None within runs.
    freedom_before: what the rules before these counted as degrees of freedom, where that is another number.

    Example:
        >>> effect = Effect(1.0, 0.25, 4.0, "seeds", seeds=5, tasks=200)
        >>> round(effect.low, 2), round(effect.high, 2)
        (0.31, 1.69)
        >>> round(effect.above(0.0), 4), round(effect.below(0.0), 4)
        (0.0081, 0.9919)
    """

    value: float
    error: float
    freedom: float
    basis: Basis
    seeds: int
    tasks: int
    standardised: float | None = None
    freedom_before: float | None = None

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval."""
        return float(student.ppf(0.975, self.freedom)) * self.error

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + self.half_width

    def times(self, factor: float) -> "Effect":
        """The effect in another unit."""
        return replace(self, value=self.value * factor, error=self.error * abs(factor))

    def above(self, bound: float) -> float:
        """One-sided p-value: how likely such a value is if the truth is not above the bound."""
        if self.error == 0:
            return 0.5 if self.value == bound else float(self.value < bound)
        return float(student.sf((self.value - bound) / self.error, self.freedom))

    def below(self, bound: float) -> float:
        """One-sided p-value: how likely such a value is if the truth is not below the bound."""
        if self.error == 0:
            return 0.5 if self.value == bound else float(self.value > bound)
        return float(student.cdf((self.value - bound) / self.error, self.freedom))


def standard_error(samples: np.ndarray) -> float:
    """Standard error of a mean: s / sqrt(n), s with n - 1 in its denominator; NaN for one sample.

    Example:
        >>> round(standard_error(np.array([1.0, 2.0, 3.0])), 4)
        0.5774
    """
    if samples.size < 2:
        return math.nan
    return float(samples.std(ddof=1)) / math.sqrt(samples.size)


def estimate(samples: np.ndarray) -> Estimate:
    """Mean of one number a seed, with Student's t interval.

    mean +- t(0.975, n - 1) * s / sqrt(n),  s with n - 1 in its denominator

    For two systems of the same seeds pass their differences: pairing takes out what the seeds have in common.

    Args:
        samples: of shape (n,), n >= 2, one for each seed.

    Returns:
        An `Estimate`, in the unit of the samples.

    Raises:
        ValueError: for fewer than two samples, or another shape.

    Example:
        >>> estimate(np.array([1.0, 2.0, 3.0])).mean
        2.0
    """
    if samples.ndim != 1 or samples.size < 2:
        raise ValueError(f"an estimate needs one number for each of at least two seeds; got shape {samples.shape}")
    mean, error = float(samples.mean()), standard_error(samples)
    half_width = float(student.ppf(0.975, samples.size - 1)) * error
    return Estimate(mean, error, mean - half_width, mean + half_width)


def hedges(samples: np.ndarray) -> float | None:
    """A mean in standard deviations, corrected for small samples: (1 - 3 / (4n - 5)) * mean / s.

    Args:
        samples: of shape (n,); for two systems, their differences by seed.

    Returns:
        Hedges' g; None for fewer than three samples or where they do not differ.

    Example:
        >>> round(hedges(np.array([1.0, 2.0, 3.0])), 4)
        1.1429

    Reference:
        Hedges 1981, Distribution theory for Glass's estimator of effect size.
    """
    if samples.size < 3 or not (spread := float(samples.std(ddof=1))):
        return None
    return (1 - 3 / (4 * samples.size - 5)) * float(samples.mean()) / spread


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's correction: the chance of one false finding among m tests stays below the level, whatever they share.

    Sorted from the smallest, p_(i) becomes max over j <= i of min(1, (m - j) * p_(j)), j from 0.

    Args:
        p_values: of shape (m,), in [0, 1].

    Returns:
        Adjusted p-values, of shape (m,).

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(4).tolist()
        [0.03, 0.06, 0.06]

    Reference:
        Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(1, np.arange(len(p_values), 0, -1) * p_values[order]))
    return adjusted


def contrast(series: np.ndarray, weights: np.ndarray) -> Effect:
    """sum_t w_t y_t of each run, and its mean over the runs: a mean, a difference of two windows of tasks, ...

    From three seeds on: Student's t over one number a seed. Below, within these runs: moving-block bootstrap of what
    is left of each run after a smooth curve a + bt + c log(1 + t) + d / (1 + t), which follows an early rise or fall.
    Of two runs the larger counts of that and half their squared difference, with one degree of freedom.

    Args:
        series: finite, of shape (S, T), a run a row; for two systems, their differences.
        weights: of shape (T,), or (S, T).

    Returns:
        An `Effect` in the unit of the series.

    Raises:
        ValueError: for fewer than 16 tasks where fewer than three runs are given.

    Example:
        >>> late = np.repeat([0.0, 1 / 50], 50)
        >>> effect = contrast(np.random.default_rng(0).normal(5, 1, (1, 100)), late)
        >>> effect.basis, effect.low < 5 < effect.high
        ('tasks', True)
    """
    seeds, tasks = series.shape
    values = (series * weights).sum(-1)
    mean = float(values.mean())
    if seeds >= SEEDS:
        return Effect(mean, standard_error(values), seeds - 1, "seeds", seeds, tasks, hedges(values))
    t = np.arange(tasks)
    curve = np.stack([np.ones(tasks), t, np.log1p(t), 1 / (1 + t)])
    noise, freedom = within(series, np.broadcast_to(weights, series.shape), curve)
    return _of_these_runs(values, noise, freedom, tasks)


def _of_these_runs(values: np.ndarray, noise: float, freedom: float, tasks: int) -> Effect:
    """The mean over one or two runs, from the variance of the noise within a run and its degrees of freedom."""
    seeds = len(values)
    variance = max(noise, float(values.var(ddof=1))) if seeds > 1 else noise
    of_seeds, before = (1, freedom) if seeds > 1 else (freedom, None)
    error = math.sqrt(variance / seeds)
    return Effect(float(values.mean()), error, of_seeds, "tasks", seeds, tasks, freedom_before=before)


def average(series: np.ndarray) -> Effect:
    """Mean over all tasks, see `contrast`; its error is NaN where tasks and seeds are too few.

    Example:
        >>> effect = average(np.full((1, 3), 2.0))
        >>> effect.value, effect.error, effect.tasks
        (2.0, nan, 3)
    """
    seeds, tasks = series.shape
    if seeds < SEEDS and tasks < LEAST:
        return Effect(float(series.mean()), math.nan, 1, "tasks", seeds, tasks)
    return contrast(series, np.full(tasks, 1 / tasks))


def slope(series: np.ndarray) -> Effect:
    """Least-squares slope per task, mean over the runs.

    Its error is the larger of two: that of a moving-block bootstrap over tasks of the residuals from each run's line,
    and, from two seeds on, that of the spread of the slopes over the seeds. So many tasks do not make
    runs certain that bend in different ways.

    Args:
        series: finite, of shape (S, T), T >= 16.

    Returns:
        An `Effect`, per task.

    Raises:
        ValueError: for fewer than 16 tasks.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(1, 100))
        >>> effect = slope(noise + 0.5 * np.arange(100))
        >>> effect.low < 0.5 < effect.high
        True
    """
    seeds, tasks = series.shape
    t = np.arange(tasks) - (tasks - 1) / 2
    weights = t / (t * t).sum()
    values = series @ weights
    noise, freedom = within(series, np.broadcast_to(weights, series.shape), np.stack([np.ones(tasks), t]))
    if seeds < SEEDS:
        return _of_these_runs(values, noise, freedom, tasks)
    between = float(values.var(ddof=1))
    error, before = math.sqrt(max(noise, between) / seeds), None if between > noise else freedom
    return Effect(float(values.mean()), error, seeds - 1, "seeds", seeds, tasks, hedges(values), before)
