"""The picture of the demo: accuracy of each system over the tasks, from fresh numbers."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..style import SETTINGS, SUBTITLE, SYSTEMS

WINDOW = 10  # tasks in a running mean


def accuracy_by_task(accuracy: Mapping[str, np.ndarray], path: Path, title: str) -> None:
    """Draw the online accuracy of each system over the tasks.

    Thin: each task, mean over seeds. Bold: running mean of 10 tasks, with a band of one standard error over seeds.

    Args:
        accuracy: {system: (seeds, tasks)}, in [0, 1]; systems of `style.SYSTEMS`, at least two seeds.
        path: PNG to write.
        title: one line.
    """
    seeds = min(len(values) for values in accuracy.values())
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        ends = {system: _draw(axes, system, 100 * values) for system, values in accuracy.items()}
        _label(axes, ends)
        axes.set(title=title, xlabel="task", ylabel="online accuracy (%)")
        axes.set_title(f"mean of {seeds} seeds; bold: over {WINDOW} tasks, ± standard error", loc="right", **SUBTITLE)
        axes.margins(x=0.01)
        figure.savefig(path)


def _draw(axes: Axes, system: str, values: np.ndarray) -> float:
    """One system, in percent; returns where its bold line ends."""
    look, (seeds, tasks) = SYSTEMS[system], values.shape
    window = min(WINDOW, tasks)
    smooth = np.lib.stride_tricks.sliding_window_view(values, window, axis=1).mean(-1)
    mean, error = smooth.mean(0), smooth.std(0, ddof=1) / np.sqrt(seeds)
    middle = np.arange(len(mean)) + (window + 1) / 2
    axes.plot(np.arange(1, tasks + 1), values.mean(0), color=look.colour, linewidth=0.6, alpha=0.4)
    axes.fill_between(middle, mean - error, mean + error, color=look.colour, alpha=0.2, linewidth=0)
    axes.plot(middle, mean, color=look.colour, linestyle=look.dashes)
    return float(mean[-1])


def _label(axes: Axes, ends: Mapping[str, float]) -> None:
    """Name each line at its right end, names pushed apart where lines meet."""
    low, high = axes.get_ylim()
    gap, height = 0.055 * (high - low), -np.inf
    for system, end in sorted(ends.items(), key=lambda item: item[1]):
        height = max(end, height + gap)
        look = SYSTEMS[system]
        place = (1.01, (height - low) / (high - low))
        axes.annotate(look.label, place, xycoords="axes fraction", color=look.colour, va="center", weight="bold")
    axes.set_ylim(low, high)
