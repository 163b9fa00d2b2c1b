"""Lines over tasks: means over seeds in bins of tasks, with a band of one standard error, seeds as thin lines.

Shapes: R runs, B bins, T tasks.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from ..runs import Run
from ..style import SYSTEMS, Look

BINS = 50
"""The most points that a line has."""

SPAN = 40.0
"""The longest axis of accuracy, in points: one lost system would flatten all others."""

HEAVY = SYSTEMS["swr"].label
"""The line that a reader looks for first is drawn heavier."""

Measure = Callable[[Run], np.ndarray]


@dataclass(frozen=True)
class Curve:
    """A measure of some runs in bins of tasks.

    centres: the middle task of each bin, (B,).
    values: mean over the tasks of a bin, (R, B); NaN where a run has not all of them, or no number.
    """

    centres: np.ndarray
    values: np.ndarray

    @property
    def seeds(self) -> np.ndarray:
        """Runs in each bin, (B,)."""
        return np.isfinite(self.values).sum(0)

    @property
    def mean(self) -> np.ndarray:
        """Over the runs that have a number, (B,)."""
        return _divide(np.nansum(self.values, 0), self.seeds)

    @property
    def error(self) -> np.ndarray:
        """Standard error of the mean over runs, with n - 1 in its denominator; NaN for a single run, (B,)."""
        n = self.seeds
        squares = np.nansum((self.values - self.mean) ** 2, 0)
        return np.sqrt(_divide(squares, np.where(n > 1, (n - 1) * n, 0)))


def bin_width(tasks: int) -> int:
    """Tasks in a bin: 1, 2, 5, 10, 20, …: the first that makes at most 50 bins.

    Example:
        >>> bin_width(30), bin_width(200), bin_width(1000)
        (1, 5, 20)
    """
    width = 1
    while -(-tasks // width) > BINS:
        width = 5 * width // 2 if str(width)[0] == "2" else 2 * width
    return width


def longest(groups: Iterable[Sequence[Run]]) -> int:
    """Tasks of the longest run."""
    return max((run.tasks for runs in groups for run in runs), default=0)


def to_curve(runs: Sequence[Run], measure: str | Measure, width: int, per: Measure | None = None) -> Curve:
    """A measure of some runs in bins.

    Args:
        runs: at least one.
        measure: a column, or what computes a number for each task.
        width: tasks in a bin.
        per: what the measure is divided by, after both are summed over a bin; default: the number of tasks.
    """
    rows = []
    for run in runs:
        top = run.measure(measure) if isinstance(measure, str) else measure(run)
        below = np.isfinite(top).astype(float) if per is None else per(run)
        rows.append(_divide(_summed(top, width), _summed(below, width)))
    bins = max(len(row) for row in rows)
    values = np.stack([np.pad(row, (0, bins - len(row)), constant_values=np.nan) for row in rows])
    return Curve(np.arange(bins) * width + (width - 1) / 2, values)


def _summed(values: np.ndarray, width: int) -> np.ndarray:
    """Sums over whole bins, numbers only."""
    bins = len(values) // width
    return np.nansum(values[: bins * width].reshape(bins, width), 1)


def _divide(top: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(top, below, out=np.full(len(top), np.nan), where=below > 0)


def draw_curve(axes: Axes, curve: Curve, look: Look) -> None:
    """One system: bold the mean, thin its seeds; a band where there are several."""
    x, n, mean, error = curve.centres, curve.seeds, curve.mean, curve.error
    name, heavy = slug(look.label), look.label == HEAVY
    if n.max(initial=0) > 1:
        # All as one line that is broken between seeds: a path for each would be a quarter of the file.
        seeds = np.pad(curve.values, ((0, 0), (0, 1)), constant_values=np.nan).ravel()
        along = np.tile(np.append(x, np.nan), len(curve.values))
        axes.plot(along, seeds, color=look.colour, linewidth=0.5, alpha=0.35, zorder=1.5, gid=f"seed:{name}")
        low, high = mean - error, mean + error
        axes.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0, zorder=1.8, gid=f"band:{name}")
    marker = {"marker": "o", "markersize": 3} if len(x) == 1 else {}
    width, order = (2.4, 2.2) if heavy else (1.5, 2)
    style = {"color": look.colour, "linestyle": look.dashes, "linewidth": width, "zorder": order}
    axes.plot(x, mean, gid=f"mean:{name}", **style, **marker)


def slug(label: str) -> str:
    """A label as a name in a page.

    Example:
        >>> slug("SWR, utility 0 only")
        'swr-utility-0-only'
    """
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def limits(curves: Iterable[Curve], span: float = np.inf) -> tuple[float, float] | None:
    """Where an axis should begin and end: it holds all means but those of the untrained network's first task.

    Args:
        curves: on axes that share it.
        span: the longest axis.
    """
    edges = []
    for curve in curves:
        mean = curve.mean[1:] if len(curve.mean) > 5 and curve.centres[0] == 0 else curve.mean
        error = np.nan_to_num(curve.error[-len(mean) :]) if len(mean) else mean
        edges += [mean - error, mean + error]
    values = np.concatenate(edges) if edges else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = max(values.min(), values.max() - span), values.max()
    gap = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return float(low - gap), float(high + gap)


def below(axes: Axes, curves: Sequence[tuple[str, Curve]]) -> list[str]:
    """Names of curves whose mean leaves the axes at the bottom, after the first task."""
    low = axes.get_ylim()[0]
    return [name for name, curve in curves if np.isfinite(curve.mean[1:]).any() and np.nanmin(curve.mean[1:]) < low]


def binned(width: int) -> str:
    """What a point is, for a caption."""
    return "each point is a task" if width == 1 else f"each point is the mean of {width} tasks"


def bands(groups: Iterable[Sequence[Run]]) -> str:
    """What bold and thin lines and bands are, for a caption."""
    single = {len(runs) == 1 for runs in groups}
    if single == {True}:
        return "One seed each, so no band."
    alone = " (none for one seed)" if True in single else ""
    return f"Bold: mean over seeds; band: ± 1 standard error{alone}; thin: the seeds."


def ends(curves: Sequence[tuple[str, Curve]], unit: str, digits: int = 1) -> str:
    """Where each curve begins and ends, in words."""
    means = {name: curve.mean[np.isfinite(curve.mean)] for name, curve in curves}
    return "; ".join(
        f"{name} from {mean[0]:.{digits}f} to {mean[-1]:.{digits}f}{unit}" for name, mean in means.items() if len(mean)
    )
