"""Noise from task to task within runs: the moving-block bootstrap over the tasks, computed without drawing.

Shapes: S runs, T tasks, n samples.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LEAST = 16  # tasks for a bootstrap: four terms are fitted, and a block is at most a quarter


def block_length(residuals: np.ndarray) -> int:
    """How many successive tasks a block holds: long enough that two blocks have little in common.

    n^(1/3), the order at which the bootstrap's error is least, times (sqrt(6) r / (1 - r^2))^(2/3) where that is more:
    the best length for a first-order autoregression of correlation r (over all series given). At most a quarter of
    the tasks.

    Args:
        residuals: of shape (S, n), about zero.

    Returns:
        Tasks in a block, at least 1.

    Example:
        >>> block_length(np.random.default_rng(0).normal(size=(1, 1000)))
        10

    Reference:
        Carlstein 1986 for the autoregression; Hall, Horowitz & Jing 1995 for the order and the moving blocks.
    """
    power = float((residuals**2).sum())
    r = float((residuals[:, 1:] * residuals[:, :-1]).sum()) / power if power else 0.0
    r = min(max(r, 0.0), 0.99)
    stretch = max(1.0, (math.sqrt(6) * r / (1 - r * r)) ** (2 / 3))
    n = residuals.shape[-1]
    return max(1, min(round(n ** (1 / 3) * stretch), n // 4))


def block_variance(residuals: np.ndarray, weights: np.ndarray, length: int) -> float:
    """Variance of sum_t w_t e_t when e is put together from blocks of the residuals: the moving-block bootstrap.

    A resampled series is ceil(n / length) blocks side by side, each drawn from all n - length + 1 blocks of the
    residuals. The sum is linear in them and the blocks are independent, so its variance over all resamples is a sum of
    variances over the blocks: computed as such, it is that of infinitely many resamples, with nothing drawn.

    Args:
        residuals: of shape (n,).
        weights: of shape (n,).
        length: tasks in a block, in [1, n].

    Returns:
        The variance.

    Example:
        >>> float(block_variance(np.array([1.0, -1.0, 1.0, -1.0]), np.full(4, 0.25), 1))
        0.25

    Reference:
        Kuensch 1989, The jackknife and the bootstrap for general stationary observations.
    """
    padded = np.pad(weights, (0, -len(weights) % length)).reshape(-1, length)  # (blocks placed, length)
    sums = padded @ sliding_window_view(residuals, length).T  # (blocks placed, blocks to draw)
    return float(sums.var(axis=1).sum())


def within(series: np.ndarray, weights: np.ndarray, curve: np.ndarray) -> tuple[float, float]:
    """Mean over the runs of a weighted sum's bootstrap variance, and its degrees of freedom: blocks less fitted terms.

    series, weights (S, T); curve (terms, T), whose fit is taken out.
    """
    (seeds, tasks), terms = series.shape, len(curve)
    if tasks < LEAST:
        raise ValueError(
            f"an interval within runs needs at least {LEAST} tasks; got {tasks}: train more, or more seeds"
        )
    basis = np.linalg.qr(curve.T)[0]
    residuals = series - (series @ basis) @ basis.T
    residuals *= math.sqrt(tasks / (tasks - terms))  # the fit has taken this share out
    length = block_length(residuals)
    variances = [block_variance(*run, length) for run in zip(residuals, weights, strict=True)]
    return float(np.mean(variances)), max(1.0, seeds * tasks / length - terms)
