"""Which tasks are compared where a course of accuracy is said to fall, to rise or to stay.

Shapes: S seeds, T tasks.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .margins import FIRST, LAST, PEAK


class Ends(NamedTuple):
    """Two windows of tasks of equal length, fixed before any run is read: the best of many would lie above the mean."""

    early: slice
    late: slice


def ends(tasks: int) -> Ends:
    """Tasks 20 to 119 and the last 100; below 220 tasks, which are too short for both, 20 to 99 and the last 80.

    Args:
        tasks: of the runs, at least 180.

    Raises:
        ValueError: for fewer, whose two windows would overlap.

    Example:
        >>> ends(1000).early, ends(1000).late, ends(200).early
        (slice(20, 120, None), slice(900, 1000, None), slice(20, 100, None))
    """
    length = 100 if tasks >= 220 else 80
    if tasks < 20 + 2 * length:
        raise ValueError(f"two windows of {length} tasks after the first 20 need {20 + 2 * length} tasks; got {tasks}")
    return Ends(slice(20, 20 + length), slice(tasks - length, tasks))


def end_minus_start(tasks: int) -> np.ndarray:
    """Weights of the mean over the late window minus that over the early one, (T,)."""
    early, late = ends(tasks)
    return mean_over(tasks, late) - mean_over(tasks, early)


def last(tasks: int) -> np.ndarray:
    """Weights of the mean over the last 100 tasks, (T,)."""
    return mean_over(tasks, slice(tasks - LAST, tasks))


def mean_over(tasks: int, window: slice) -> np.ndarray:
    """Weights of the mean over a window of tasks, (T,)."""
    weights = np.zeros(tasks)
    weights[window] = 1 / len(weights[window])
    return weights


def end_minus_peak(tasks: int) -> np.ndarray:
    """Weights of the mean over the late window minus that over tasks 1 to 5, an early peak, (T,).

    Which tasks are the peak is fixed. A peak that the runs choose themselves lies above their mean; one that the other
    seeds choose does not, but then the seeds are no longer independent (`docs/statistics.md`).

    Example:
        >>> course = np.repeat([0.0, 1.0, 0.0], [1, 5, 194])
        >>> round(float(end_minus_peak(200) @ course), 6)
        -1.0
    """
    return mean_over(tasks, ends(tasks).late) - mean_over(tasks, slice(1, 1 + PEAK))


def last_minus_own_peak(series: np.ndarray) -> np.ndarray:
    """Each run's weights of the last 100 tasks minus its own early peak, (S, T): what the rules before these took.

    It is biased: of a level course the best window lies above the mean (`docs/statistics.md`).
    """
    return last(series.shape[1]) - peaks(series)


def peaks(series: np.ndarray) -> np.ndarray:
    """Weights of the mean over the best 5 successive of the first 50 tasks, of each row, (S, T)."""
    starts = sliding_window_view(series[:, :FIRST], PEAK, axis=1).mean(-1).argmax(1)
    return np.stack([mean_over(series.shape[1], slice(start, start + PEAK)) for start in starts])
