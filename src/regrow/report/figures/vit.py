"""Figures 3 and 15 to 18 of the paper: a vision transformer that learns one class after the other."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ...lab.studies import VIT_SETTINGS
from ...lab.studies.systems import Dashes
from ..results_vit import ACCURACY, TASKS, ViTResults
from ..runs import FRESH, Run
from ..style import METHODS, NORMS, REPARAM, SERIES, STANDARD, SYSTEMS, VIT_SETTING_LABELS, Look
from .panels import draw
from .plan import FigurePlan, Line, Panel, diverged, on_log
from .sheet import Drawing, Missing, Topic


def _own(system: str, label: str, dashes: Dashes) -> Look:
    return Look(label, SYSTEMS[system].colour, dashes)


BASE, BASE_STANDARD = Line(REPARAM, "base"), Line(STANDARD, "base", _own("base", "base, standard norm", "-."))
FRESH_REPARAM = Line(REPARAM, FRESH)
FRESH_STANDARD = Line(STANDARD, FRESH, _own(FRESH, "fresh network, standard norm", "-"))


def _variants() -> tuple[Line, ...]:
    """The base in six settings: a colour for what decays, dashed where the decay is scaled."""
    lines = []
    for name, setting in VIT_SETTINGS.items():
        colour, _ = SERIES[2 * list(NORMS).index(setting.unscaled)]
        look = Look(f"base, {VIT_SETTING_LABELS[name]}", colour, "--" if setting.scaled else "-")
        lines.append(Line(name, "base", look))
    return tuple(lines)


def _systems(setting: str) -> tuple[Line, ...]:
    """The base and all methods in one setting."""
    return tuple(Line(setting, system) for system in ("base", *METHODS))


_of_accuracy = partial(Panel, axis="test accuracy (%)", measure=ACCURACY, frame=None, binned=False, digits=2)
_of_scale = partial(Panel, axis="mean |scale|", measure="ln_scale", frame=None, binned=False, unit="", digits=2)
_of_weights = partial(Panel, frame=on_log, binned=False, unit="", digits=4)


def _against_fresh(results: ViTResults, title: str, setting: str) -> Panel:
    """Accuracy of all systems minus that of a fresh network of the same seed, for the tasks that both have."""
    fresh = {run.seed: run.measure(ACCURACY) for run in results.main.main(setting, FRESH)}

    def difference(run: Run) -> np.ndarray:
        values, other = run.measure(ACCURACY), fresh[run.seed]
        shared = min(len(values), len(other))
        return values[:shared] - other[:shared]

    return _of_accuracy(
        title,
        _systems(setting),
        axis="points above a fresh network",
        measure=difference,
        keep=lambda run: run.seed in fresh,
        against_fresh=True,
        unit="",
    )


BEST = "the best test accuracy of each task's epochs"
MINUS_FRESH = "minus that of a network that starts fresh on every task, of the same seed and norm"


def plans(results: ViTResults) -> tuple[FigurePlan, ...]:
    """The figures of the paper, in its order."""
    in_3 = (
        _of_accuracy("incremental or fresh", (BASE, BASE_STANDARD, FRESH_REPARAM, FRESH_STANDARD)),
        _against_fresh(results, "every method", REPARAM),
    )
    in_18 = (
        _of_accuracy("accuracy", (*_systems(STANDARD), Line(STANDARD, FRESH))),
        _against_fresh(results, "against a fresh network", STANDARD),
    )
    a_and_b = f"a: {BEST}; b: the same {MINUS_FRESH}."
    return (
        _figure(
            results,
            "figure-03",
            "Figure 3: a vision transformer, trained class by class or from scratch",
            f"a: mean |scale| of the layer norms after each task; b: {BEST}; c: the same {MINUS_FRESH}.",
            (_of_scale("scale of the norms", (BASE_STANDARD, FRESH_STANDARD)), *in_3),
            columns=3,
        ),
        _figure_15(results),
        _figure_16(results),
        _figure(
            results,
            "figure-17",
            "Figure 17: as figure 3, without runs that diverged",
            a_and_b,
            tuple(_steady(panel) for panel in in_3),
            note=_same_as_figure_3(results, in_3),
        ),
        _figure(results, "figure-18", "Figure 18: with the standard layer norm", a_and_b, in_18),
    )


def _figure_15(results: ViTResults) -> FigurePlan:
    """Six ways in which the base's weights decay."""
    return _figure(
        results,
        "figure-15",
        "Figure 15: what decays, and when",
        f"The base system in six settings: a: {BEST}; b: mean |scale| of the layer norms after each task, one added "
        "where it is reparametrized. No decay on vectors: biases and norms are spared. Scaled: the decay follows the "
        "schedule of the step size.",
        (
            _of_accuracy("accuracy", (*_variants(), FRESH_REPARAM)),
            _of_scale("scale of the norms", (*_variants(), FRESH_STANDARD)),
        ),
    )


def _figure_16(results: ViTResults) -> FigurePlan:
    """Magnitudes of attention and MLP weights, in the last block and over all."""
    lines = (*_systems(REPARAM), BASE_STANDARD)
    return _figure(
        results,
        "figure-16",
        "Figure 16: weights that shrink",
        "Magnitudes of weights after each task, reparametrized norm unless said: a, c: the packed matrices of queries, "
        "keys and values, as the authors' code has it; b, d: both layers of the MLPs.",
        (
            _of_weights("attention, last block", lines, axis="median |w|", measure="qkv_median_last"),
            _of_weights("MLP, last block", lines, axis="median |w|", measure="mlp_median_last"),
            _of_weights("attention, all blocks", lines, axis="mean |w|", measure="qkv_mean"),
            _of_weights("MLP, all blocks", lines, axis="mean |w|", measure="mlp_mean"),
        ),
    )


def _figure(
    results: ViTResults,
    name: str,
    title: str,
    caption: str,
    panels: tuple[Panel, ...],
    columns: int = 2,
    note: str = "",
) -> FigurePlan:
    needs = [line.key for panel in panels for line in panel.lines]
    needs += [(panel.lines[0].setting, FRESH) for panel in panels if panel.against_fresh]
    return FigurePlan(
        topic(results, name, title),
        panels,
        caption=caption,
        columns=columns,
        share="none",
        own=lambda line: line.system != FRESH,
        shows="Lines over tasks",
        remarks=lambda groups: remarks(results, groups) + note,
        needs=list(dict.fromkeys(needs)),
    )


def _steady(panel: Panel) -> Panel:
    """The same without runs that diverged."""
    return replace(panel, keep=lambda run: panel.keep(run) and not run.diverged)


def _same_as_figure_3(results: ViTResults, panels: Sequence[Panel]) -> str:
    """That no run diverged, where none did."""
    runs = [run for panel in panels for line in panel.lines for run in results.main.main(*line.key)]
    return "" if any(run.diverged for run in runs) else " No run diverged, so these are the lines of figure 3."


def topic(results: ViTResults, name: str, title: str) -> Topic:
    """What a figure is about, and how to make more of the same runs."""
    return Topic(name, title, "vit-cifar", tasks=results.tasks or TASKS, options=results.options)


def remarks(results: ViTResults, groups: Sequence[Sequence[Run]], both: bool = False) -> str:
    """What a reader must know of the runs: those that diverged, another optimizer, a smaller size.

    Args:
        results: from `combine`.
        groups: the runs that are drawn.
        both: whether they are of both optimizers.
    """
    way = results.optimizer
    clean = f" With the {way} optimizer, not the authors'." if way != "authors" and not both else ""
    small = f" Not at the paper's scale: {'; '.join(results.shrunk)}." if results.shrunk else ""
    return diverged(groups) + clean + small


def figures(results: ViTResults) -> list[Drawing | Missing]:
    """All of the paper's figures."""
    return [draw(results.main, plan) for plan in plans(results)]
