"""The one-cycle schedule of step size and momentum, as a function of the update."""

from typing import NamedTuple

FIRST, LAST = 25.0, 1e4  # a task starts at peak / FIRST and ends at peak / FIRST / LAST
RISE = 0.3  # share of the updates that lead up to the peak
LOW, HIGH = 0.85, 0.95  # momentum at the peak, and at both ends


class Point(NamedTuple):
    step_size: float
    momentum: float


def one_cycle(update: int, updates: int, peak: float) -> Point:
    """Step size and momentum of an update of a task: linear up to the peak of the step size, then down.

    step size: peak / 25 at update 0, peak at 0.3 T - 1, peak / 250,000 at T - 1;  momentum: 0.95, 0.85, 0.95

    To the bit what `torch.optim.lr_scheduler.OneCycleLR` gives with `anneal_strategy="linear"` and its defaults, which
    cycle the momentum too, so that an optimizer's own is never used.

    Args:
        update: u, from 0 to T - 1.
        updates: T, of the task, >= 1.
        peak: largest step size.

    Returns:
        `Point(step_size, momentum)`.

    Raises:
        ValueError: for an update that the task has not.

    Example:
        >>> one_cycle(0, 2500, 0.01), one_cycle(749, 2500, 0.01).step_size
        (Point(step_size=0.0004, momentum=0.95), 0.01)

    Reference:
        Smith & Topin 2018; Hernandez-Garcia et al. 2025, section 5, and the authors' public code.
    """
    if not 0 <= update < updates:
        raise ValueError(f"`update` must be from 0 to {updates - 1}, one of the task's; got {update}")
    start, turn = peak / FIRST, RISE * updates - 1
    if update <= turn:
        share = update / turn
        return Point((peak - start) * share + start, (LOW - HIGH) * share + HIGH)
    share = (update - turn) / ((updates - 1) - turn)
    return Point((start / LAST - peak) * share + peak, (HIGH - LOW) * share + LOW)
