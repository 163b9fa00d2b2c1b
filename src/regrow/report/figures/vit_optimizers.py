"""The authors' optimizer against a clean one: how much is lost because the momentum buffer outlives its task.

In the authors' code the decay enters the momentum buffer, divided by a step size that ends near 0, and the buffer goes
on into the next task. The clean optimizer begins each task with an empty buffer and decays beside it.

Shapes: S seeds, E epochs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from ..notes import SHORT
from ..results_vit import ACCURACY, ViTResults
from ..runs import FRESH, Run, comparisons
from ..style import NORMS, REPARAM, STANDARD, SYSTEMS, Look
from .line import Curve
from .panels import Drawn, Filled, compose, fill
from .plan import FigurePlan, Line, Panel
from .sheet import Drawing, Missing
from .vit import remarks, topic

NAME, TITLE = "optimizer", "The authors' optimizer and a clean one, at the boundaries of tasks"
LOOKS = {
    ("authors", "base"): Look("base, authors' optimizer", SYSTEMS["base"].colour, "--"),
    ("clean", "base"): Look("base, clean optimizer", SYSTEMS["base"].colour, "-"),
    ("authors", FRESH): Look("fresh network, authors' optimizer", SYSTEMS[FRESH].colour, ":"),
    ("clean", FRESH): Look("fresh network, clean optimizer", SYSTEMS[FRESH].colour, "-."),
}
OTHER = "clean"
PAIR = ("authors", OTHER)
CAPTION = (
    "Above: the best test accuracy of each task's epochs. Below: mean magnitude of all weights after each epoch. "
    "Authors': the momentum buffer, full of decay divided by a step size near 0, carries over to the next task, where "
    "steps are 10,000 times as long. Clean: it begins each task empty; its momentum stays at 0.9, and its decay is "
    "a seventh to a twentieth as strong, so not all of the difference is the boundary's."
)

Groups = Mapping[tuple[str, str], Sequence[Run]]
"""{(optimizer, system): runs}"""


def boundaries(results: ViTResults) -> Drawing | Missing:
    """Accuracy after each task with both optimizers, and the magnitude of the weights after each epoch.

    Both are of the same seeds; there must be a base of each in one setting at least.
    """
    about = topic(results, NAME, TITLE)._replace(options=f"--optimizer {OTHER} {results.scale.options}".strip())
    paired = {setting: _paired(results, setting) for setting in (STANDARD, REPARAM)}
    absent = [(s, system) for s in paired for system in ("base", FRESH) if not results.runs[OTHER].main(s, system)]
    shown = {setting: groups for setting, groups in paired.items() if groups}
    if not shown:
        wanted = absent or [(STANDARD, "base"), (REPARAM, "base")]
        return about.nothing("no runs of the base with both optimizers and the same seeds", wanted)
    above = [_accuracy(setting, groups) for setting, groups in shown.items()]
    below = [_weights(results.epochs, setting, groups) for setting, groups in shown.items()]
    plan = FigurePlan(
        about,
        tuple(each.panel for each in (*above, *below)),
        caption=f"{CAPTION} {SHORT}" if results.scale.ratio < 1 else CAPTION,
        columns=len(shown),
        share="none",
        shows="Lines over tasks",
        remarks=lambda groups: remarks(results, groups, both=True),
    )
    return compose(plan, (*above, *below), about.gaps(absent))


def _paired(results: ViTResults, setting: str) -> Groups:
    """Base and fresh, of the seeds that the base has with both optimizers."""
    every = {(way, system): results.runs[way].main(setting, system) for way, system in LOOKS}
    seeds = set.intersection(*({run.seed for run in every[way, "base"]} for way in PAIR))
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
    """What both optimizers do to the base in one setting, over the same seeds, {optimizer: (S,)}.

    end: accuracy on the last task; gap: that minus a fresh network's; kept: see `kept_over_boundaries`.
    """

    seeds: int
    tasks: int
    end: Mapping[str, np.ndarray]
    gap: Mapping[str, np.ndarray]
    kept: Mapping[str, np.ndarray]


def compare(results: ViTResults, setting: str) -> Boundary | None:
    """Both optimizers over the seeds that base and fresh network have with both; None where there is no such seed."""
    groups = {f"{way} {system}": results.runs[way].main(setting, system) for way, system in LOOKS}
    shared = comparisons(groups)
    if not shared:
        return None
    widest, epochs = shared[-1], results.epochs
    end = {name: widest.series(name, ACCURACY)[:, -1] for name in groups}
    of_base = {way: widest.groups[f"{way} base"] for way in PAIR}
    return Boundary(
        seeds=len(widest.seeds),
        tasks=widest.tasks,
        end={way: end[f"{way} base"] for way in PAIR},
        gap={way: end[f"{way} base"] - end[f"{way} {FRESH}"] for way in PAIR},
        kept={way: np.array([kept_over_boundaries(epochs, run) for run in runs]) for way, runs in of_base.items()},
    )
