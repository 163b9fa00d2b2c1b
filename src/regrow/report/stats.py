"""Means over seeds and how sure they are."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student


class Estimate(NamedTuple):
    """A mean over seeds, its standard error, and its 95 % interval."""

    mean: float
    error: float
    low: float
    high: float


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
    mean, error = float(samples.mean()), float(samples.std(ddof=1)) / math.sqrt(samples.size)
    reach = float(student.ppf(0.975, samples.size - 1)) * error
    return Estimate(mean, error, mean - reach, mean + reach)
