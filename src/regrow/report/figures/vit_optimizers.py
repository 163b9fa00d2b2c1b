"""The authors' optimizer and two controls: how much is lost because the momentum buffer outlives its task.

In the authors' code the decay enters the momentum buffer, divided by a step size that ends near 0, and the buffer is
kept for the next task. One control only empties the buffer between tasks; the clean optimizer also decays weights
directly and keeps its momentum constant.

Shapes: S seeds, E epochs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from ..results_vit import ACCURACY, ViTResults
from ..runs import FRESH, Run, comparisons
from ..style import NORMS, REPARAM, STANDARD, SYSTEMS, Look
from .line import Curve
from .panels import Drawn, Filled, compose, fill
from .plan import FigurePlan, Line, Panel
from .sheet import Drawing, Missing
from .vit import remarks, topic

NAME, TITLE = "optimizer", "The authors' optimizer and its controls, at the boundaries of tasks"
AUTHORS = "authors"
CONTROLS = {"authors-cleared": "buffer cleared", "clean": "clean"}
"""The other optimizers, and how tables and figures call them."""
LOOKS = {
    (AUTHORS, "base"): Look("base, authors' optimizer", SYSTEMS["base"].colour, "--"),
    ("authors-cleared", "base"): Look("base, buffer cleared", SYSTEMS["base"].colour, "-."),
    ("clean", "base"): Look("base, clean optimizer", SYSTEMS["base"].colour, "-"),
    (AUTHORS, FRESH): Look("fresh network, authors' optimizer", SYSTEMS[FRESH].colour, ":"),
    ("authors-cleared", FRESH): Look("fresh network, buffer cleared", SYSTEMS[FRESH].colour, "--"),
    ("clean", FRESH): Look("fresh network, clean optimizer", SYSTEMS[FRESH].colour, "-."),
}
CAPTION = (
    "Above: the best test accuracy of each task's epochs. Below: mean magnitude of all weights after each epoch. "
    "Authors': the momentum buffer, full of decay divided by a step size near 0, carries over to the next task, where "
    "steps are 10,000 times as long."
)
ABOUT = {
    "authors-cleared": "Buffer cleared: the authors' optimizer, its momentum buffer emptied at the start of each task, "
    "so all of the difference is the buffer's.",
    "clean": "Clean: an empty buffer at the start of each task, momentum that stays at 0.9, and a decay a seventh to a "
    "twentieth as strong, so not all of the difference is the boundary's.",
}
"""What a control changes."""

Groups = Mapping[tuple[str, str], Sequence[Run]]
"""{(optimizer, system): runs}"""


def boundaries(results: ViTResults) -> Drawing | Missing:
    """Accuracy after each task with each optimizer, and the magnitude of the weights after each epoch.

    All are of the same seeds; there must be a base of the authors' and of a control in one setting at least.
    """
    others = tuple(dict.fromkeys(way for s in (STANDARD, REPARAM) for way in _paired_controls(results, s)))
    wanted = others[0] if others else "clean"
    about = topic(results, NAME, TITLE)._replace(options=f"--optimizer {wanted} {results.scale.options}".strip())
    paired = {setting: _paired(results, setting) for setting in (STANDARD, REPARAM)}
    absent = [(s, system) for s in paired for system in ("base", FRESH) if not results.runs[wanted].main(s, system)]
    shown = {setting: groups for setting, groups in paired.items() if groups}
    if not shown:
        needed = absent or [(STANDARD, "base"), (REPARAM, "base")]
        return about.nothing("no runs of the base with two optimizers and the same seeds", needed)
    above = [_accuracy(setting, groups) for setting, groups in shown.items()]
    below = [_weights(results.epochs, setting, groups) for setting, groups in shown.items()]
    caption = " ".join(filter(None, (CAPTION, *(ABOUT[way] for way in others), results.scale.about_boundaries)))
    plan = FigurePlan(
        about,
        tuple(each.panel for each in (*above, *below)),
        caption=caption,
        columns=len(shown),
        share="none",
        shows="Lines over tasks",
        remarks=lambda groups: remarks(results, groups, both=True),
    )
    return compose(plan, (*above, *below), about.gaps(absent))


def _paired_controls(results: ViTResults, setting: str) -> tuple[str, ...]:
    """The control whose base shares most seeds with the authors', and those that have all of these seeds too."""
    base = {way: {run.seed for run in results.runs[way].main(setting, "base")} for way in (AUTHORS, *CONTROLS)}
    shared = {way: base[way] & base[AUTHORS] for way in CONTROLS}
    most = max(shared.values(), key=len)
    return tuple(way for way in CONTROLS if most and shared[way] >= most)


def _main_runs(results: ViTResults, setting: str) -> Groups:
    """Base and fresh network, of the authors' optimizer and each control beside it in this setting."""
    ways = (AUTHORS, *_paired_controls(results, setting))
    if ways == (AUTHORS,):
        return {}
    return {(way, system): results.runs[way].main(setting, system) for way, system in LOOKS if way in ways}


def _paired(results: ViTResults, setting: str) -> Groups:
    """The same, of the seeds that the base has with every optimizer."""
    every = _main_runs(results, setting)
    of_base = [{run.seed for run in runs} for (_, system), runs in every.items() if system == "base"]
    seeds = set.intersection(*of_base) if of_base else set()
    kept = {key: tuple(run for run in runs if run.seed in seeds) for key, runs in every.items()}
    return {key: runs for key, runs in kept.items() if runs}


def _accuracy(setting: str, groups: Groups) -> Filled:
    """Accuracy after each task."""
    panel = Panel(NORMS[setting], (), axis="test accuracy (%)", measure=ACCURACY, frame=None, binned=False)
    return fill(panel, [(Line(setting, key[1], LOOKS[key]), runs) for key, runs in groups.items()])


def _weights(epochs: pl.DataFrame, setting: str, groups: Groups) -> Drawn:
    """Mean magnitude of all weights, epoch by epoch, at the place of the epoch within its task."""

    def from_zero(axes: Axes, curves: Sequence[Curve]) -> None:
        del curves
        axes.set_ylim(bottom=0)

    panel = Panel(
        "weights", (), axis="mean |w| after each epoch", frame=from_zero, unit="", digits=3, absent="no epochs stored"
    )
    lines = []
    for key, runs in groups.items():
        series = [values for run in runs if len(values := by_epoch(epochs, run))]
        if key[1] == "base" and series:
            length = min(map(len, series))
            a_task = max(1, round(length / max(1, runs[0].tasks)))
            centres = (np.arange(length) + 1) / a_task - 0.5
            curve = Curve(centres, np.stack([values[:length] for values in series]))
            lines.append((Line(setting, "base", LOOKS[key]), runs, curve))
    return Drawn(panel, 1, tuple(lines))


def by_epoch(epochs: pl.DataFrame, run: Run) -> np.ndarray:
    """Mean |w| of a run after each epoch of its tasks, (E,); NaN where it is no number, empty where none is stored."""
    if not len(epochs):
        return np.empty(0)
    key = {"setting": run.setting, "system": run.system, "config_id": run.config_id, "seed": run.seed}
    mine = epochs.filter(pl.col("task") < run.tasks, **key).sort("task", "epoch")
    return mine["weight_magnitude"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def kept_over_boundaries(epochs: pl.DataFrame, run: Run) -> float:
    """Mean |w| after the first epoch of a task over that before it, in percent: mean over all tasks but the first.

    NaN where no epochs are stored, or there is one task.
    """
    values, before = by_epoch(epochs, run), run.measure("weight_magnitude")
    if not len(values) or run.tasks < 2 or len(values) % run.tasks:
        return float("nan")
    first = values.reshape(run.tasks, -1)[1:, 0]
    return float(100 * np.mean(first / before[:-1]))


@dataclass(frozen=True)
class Boundary:
    """What each optimizer does to the base in one setting, over the same seeds, {optimizer: (S,)}.

    end: accuracy on the last task; gap: that minus a fresh network's; kept: see `kept_over_boundaries`.
    """

    seeds: int
    tasks: int
    end: Mapping[str, np.ndarray]
    gap: Mapping[str, np.ndarray]
    kept: Mapping[str, np.ndarray]


def compare(results: ViTResults, setting: str) -> Boundary | None:
    """The optimizers over the seeds that base and fresh network have with all; None where there is no such seed."""
    groups = _main_runs(results, setting)
    shared = comparisons(groups) if groups else []
    if not shared:
        return None
    widest, epochs = shared[-1], results.epochs
    ways = list(dict.fromkeys(way for way, _ in groups))
    end = {key: widest.series(key, ACCURACY)[:, -1] for key in groups}
    kept = {way: [kept_over_boundaries(epochs, run) for run in widest.groups[way, "base"]] for way in ways}
    return Boundary(
        seeds=len(widest.seeds),
        tasks=widest.tasks,
        end={way: end[way, "base"] for way in ways},
        gap={way: end[way, "base"] - end[way, FRESH] for way in ways},
        kept={way: np.array(values) for way, values in kept.items()},
    )
