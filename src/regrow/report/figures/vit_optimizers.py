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

from ...lab.studies.vit_values import OPTIMIZERS
from ..notes import SHORT
from ..results_vit import ACCURACY as COLUMN
from ..results_vit import ViTResults
from ..runs import FRESH, Run, panels
from ..style import NORMS, REPARAM, STANDARD, Look
from . import line
from .sheet import Drawing, Missing, axis_of_tasks, counts, heading, legend_of, sheet, styled
from .vit import ACCURACY
from .vit_panels import remarks, topic

NAME, TITLE = "optimizer", "The authors' optimizer and a clean one, at the boundaries of tasks"
LOOKS = {
    ("authors", "base"): Look("base, authors' optimizer", "#111111", "--"),
    ("clean", "base"): Look("base, clean optimizer", "#111111", "-"),
    ("authors", FRESH): Look("fresh network, authors' optimizer", "#545E5F", ":"),
    ("clean", FRESH): Look("fresh network, clean optimizer", "#545E5F", "-."),
}
OTHER = "clean"


@styled
def boundaries(results: ViTResults) -> Drawing | Missing:
    """Accuracy after each task with both optimizers, and the magnitude of the weights after each epoch.

    Both are of the same seeds; there must be a base of each in one setting at least.
    """
    about = topic(results, NAME, TITLE)._replace(options=f"--optimizer {OTHER} {results.scale.options}".strip())
    found = {setting: _paired(results, setting) for setting in (STANDARD, REPARAM)}
    absent = [(s, system) for s in found for system in ("base", FRESH) if not results.runs[OTHER].main(s, system)]
    shown = [setting for setting, groups in found.items() if groups]
    if not shown:
        wanted = absent or [(STANDARD, "base"), (REPARAM, "base")]
        return about.nothing("no runs of the base with both optimizers and the same seeds", wanted)
    figure, grid = sheet(2, len(shown), 2.3, "none")
    told = []
    for i, setting in enumerate(shown):
        top, below = grid[i], grid[len(shown) + i]
        heading(top, i, NORMS[setting])
        heading(below, len(shown) + i, "weights")
        courses = _accuracy(top, found[setting])
        _weights(below, results.epochs, {key: runs for key, runs in found[setting].items() if key[1] == "base"})
        top.set_ylabel(ACCURACY if i == 0 else "")
        below.set_ylabel("mean |w| after each epoch" if i == 0 else "")
        told.append(f"{NORMS[setting]}: {line.ends(courses, ' %')}")
    legend_of(figure, [look for key, look in LOOKS.items() if any(key in found[setting] for setting in shown)])
    alt = f"Lines over tasks, from the first point to the last. {'. '.join(told)}."
    return Drawing(NAME, TITLE, _caption(results, found), alt, figure, about.gaps(absent))


def _paired(results: ViTResults, setting: str) -> dict[tuple[str, str], tuple[Run, ...]]:
    """{(optimizer, system): runs}, base and fresh, of the seeds that the base has with both optimizers."""
    every = {(way, system): results.runs[way].main(setting, system) for way, system in LOOKS}
    seeds = set.intersection(*({run.seed for run in every[way, "base"]} for way in OPTIMIZERS))
    kept = {key: tuple(run for run in runs if run.seed in seeds) for key, runs in every.items()}
    return {key: runs for key, runs in kept.items() if runs}


def _accuracy(axes: Axes, groups: Mapping[tuple[str, str], Sequence[Run]]) -> list[tuple[str, line.Course]]:
    courses = []
    for key, runs in groups.items():
        course = line.course(runs, COLUMN, 1)
        line.draw(axes, course, LOOKS[key])
        courses.append((LOOKS[key].label, course))
    axis_of_tasks(axes, groups.values())
    return courses


def _weights(axes: Axes, epochs: pl.DataFrame, groups: Mapping[tuple[str, str], Sequence[Run]]) -> None:
    """Mean magnitude of all weights, epoch by epoch, at the place of the epoch within its task."""
    drawn = False
    for key, runs in groups.items():
        found = [values for run in runs if len(values := by_epoch(epochs, run))]
        if found:
            length = min(map(len, found))
            a_task = max(1, round(length / max(1, runs[0].tasks)))
            centres = (np.arange(length) + 1) / a_task - 0.5
            line.draw(axes, line.Course(centres, np.stack([values[:length] for values in found])), LOOKS[key])
            drawn = True
    if drawn:
        axis_of_tasks(axes, groups.values())
        axes.set_ylim(bottom=0)
    else:
        axes.text(0.5, 0.5, "no epochs stored", transform=axes.transAxes, ha="center")
        axes.tick_params(bottom=False, labelbottom=False)


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
    found = panels(groups)
    if not found:
        return None
    panel, epochs = found[-1], results.epochs
    end = {name: panel.series(name, COLUMN)[:, -1] for name in groups}
    of_base = {way: panel.groups[f"{way} base"] for way in OPTIMIZERS}
    return Boundary(
        seeds=len(panel.seeds),
        tasks=panel.tasks,
        end={way: end[f"{way} base"] for way in OPTIMIZERS},
        gap={way: end[f"{way} base"] - end[f"{way} {FRESH}"] for way in OPTIMIZERS},
        kept={way: np.array([kept_over_boundaries(epochs, run) for run in runs]) for way, runs in of_base.items()},
    )


def _caption(results: ViTResults, found: Mapping[str, Mapping[tuple[str, str], Sequence[Run]]]) -> str:
    every = [runs for groups in found.values() for runs in groups.values()]
    sizes = {counts({LOOKS[key].label: runs for key, runs in groups.items()}) for groups in found.values() if groups}
    return (
        "Above: the best test accuracy of each task's epochs. Below: mean magnitude of all weights after each epoch. "
        "Authors': the momentum buffer, full of decay divided by a step size near 0, goes on into the next task, where "
        "steps are 10,000 times as long. Clean: it begins each task empty; its momentum stays at 0.9, and its decay is "
        f"a seventh to a twentieth as strong, so not all of the difference is the boundary's. "
        f"{SHORT + ' ' if results.scale.ratio < 1 else ''}{line.bands(every)} "
        f"{' '.join(sorted(sizes))}{remarks(results, every, both=True)}"
    )
