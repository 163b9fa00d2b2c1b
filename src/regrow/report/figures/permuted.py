"""Figures 1, 2, 4 to 7 and 10 to 14 of the paper, on permuted images, and those beyond it of the same runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from ...lab.studies import CONTROLS, SIX, System
from ...lab.studies.systems import Dashes, Variant
from ...methods.swr import PRUNINGS, UTILITIES
from ..format import run_command
from ..runs import Run, Runs
from ..style import FOUR, SETTING_LABELS, SYSTEMS, Look, look
from .line import Curve
from .panels import Filled, compose, fill
from .plan import FigurePlan, Line, Panel, by_setting
from .sheet import Drawing, Missing, Topic, logarithmic

BASELINES = ("base", "l2", "shrink-perturb")
UNITS, AUTHORS = ("cbp", "redo"), ("cbp-authors", "redo-authors")
BY_POSITION = ("swr-gradient-proportional-resample-authors", "swr-gradient-proportional-mean-authors")
ASSESSMENT, WEIGHTS = "initial-assessment", "weights-vs-units"


def variants(utility: str, pruning: str) -> tuple[str, str]:
    """SWR with both ways of giving new values: resample, mean.

    Example:
        >>> variants("gradient", "threshold")
        ('swr', 'swr-gradient-threshold-mean')
    """
    return Variant(utility, pruning, "resample").name, Variant(utility, pruning, "mean").name


def _by_pruning(systems: Callable[[str], Sequence[str]]) -> tuple[Panel, ...]:
    """A panel for each pruning, in the large network.

    Args:
        systems: of a pruning.
    """
    return tuple(
        Panel(f"{pruning} pruning", tuple(Line("large", system) for system in systems(pruning)))
        for pruning in PRUNINGS[::-1]
    )


def _optimizers() -> tuple[Panel, ...]:
    """The base system under three optimizers, a dash each, then all systems under two of them."""
    bases: tuple[tuple[str, str, Dashes], ...] = (
        ("large", "SGD", "--"),
        ("large-sgdw", "momentum", "-."),
        ("large-adamw", "AdamW", ":"),
    )
    plain, momentum, adam = (
        Line(setting, "base", Look(f"base, {name}", SYSTEMS["base"].colour, dashes)) for setting, name, dashes in bases
    )
    return (
        Panel("base system", (plain, momentum, adam)),
        Panel("SGD with momentum", (momentum, *(Line("large-sgdw", system) for system in SIX[1:]))),
        Panel("AdamW", (adam, *(Line("large-adamw", system) for system in SIX[1:]))),
    )


def _no_baseline(line: Line) -> bool:
    return line.system not in BASELINES


def _assessment() -> list[FigurePlan]:
    """Accuracy in the large network, by the ways of selective weight reinitialization."""
    figure = partial(FigurePlan, share="all", own=_no_baseline)
    return [
        figure(
            Topic("figure-01", "Figure 1: renewing weights by gradient utility", ASSESSMENT),
            _by_pruning(lambda pruning: BASELINES + variants("gradient", pruning)),
        ),
        figure(
            Topic("figure-04", "Figure 4: renewing weights by magnitude utility", ASSESSMENT),
            _by_pruning(lambda pruning: BASELINES + variants("magnitude", pruning)),
        ),
        figure(
            Topic("variants", "All ways of selective weight reinitialization", ASSESSMENT),
            _by_pruning(lambda pruning: ("base", *(s for utility in UTILITIES for s in variants(utility, pruning)))),
            own=lambda line: System.of(line.system).utility == "random",
        ),
    ]


def _weights_and_units() -> list[FigurePlan]:
    """Accuracy in four settings, and with other optimizers."""
    proportional, threshold = (variants("gradient", pruning) for pruning in ("proportional", "threshold"))
    return [
        FigurePlan(
            Topic("figure-02", "Figure 2: renewing weights or units", WEIGHTS), by_setting(FOUR, SIX), own=_no_baseline
        ),
        FigurePlan(
            Topic("figure-05", "Figure 5: renewing weights by proportional pruning, or units", WEIGHTS),
            by_setting(FOUR, (*BASELINES, *UNITS, *proportional)),
            own=lambda line: line.system in proportional,
        ),
        FigurePlan(
            Topic("figure-06", "Figure 6: renewing weights by threshold pruning, or units", WEIGHTS),
            by_setting(FOUR, (*BASELINES, *UNITS, *threshold)),
            own=lambda line: line.system == threshold[1],
        ),
        FigurePlan(
            Topic("figure-07", "Figure 7: with other optimizers", "optimizers"),
            _optimizers(),
            columns=3,
            share="all",
            own=lambda line: line.setting != "large",
        ),
        FigurePlan(
            Topic("zero-gradient", "Renewing only what has utility 0, or all but that", "zero-gradient"),
            by_setting(FOUR, ("base", "swr", *CONTROLS, "swr-random-threshold-resample")),
            share="none",
            own=lambda line: line.system in CONTROLS,
        ),
        FigurePlan(
            Topic("ties", "Proportional pruning with ties at random, or by position as the authors' code", WEIGHTS),
            by_setting(FOUR, ("base", *proportional, *BY_POSITION)),
            own=lambda line: line.system in BY_POSITION,
        ),
        FigurePlan(
            Topic("authors-order", "Renewing units after the update, or within it as the authors do", WEIGHTS),
            by_setting(FOUR, ("base", *UNITS, *AUTHORS)),
            own=lambda line: line.system in AUTHORS,
        ),
    ]


SPREAD = 30.0  # an axis that spans more than this factor is logarithmic


def _from_zero(axes: Axes, curves: Sequence[Curve], may_be_log: bool = True) -> None:
    """An axis from 0, or a logarithmic one where systems lie far apart."""
    means = np.concatenate([curve.mean for curve in curves])
    means = means[np.isfinite(means)]
    if not len(means):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    elif may_be_log and means.min() > 0 and means.max() > SPREAD * means.min():
        logarithmic(axes)
    else:
        top = means.max() or 1.0
        axes.set_ylim(-0.03 * top, 1.06 * top)


def _correlates(name: str, what: str, setting: str, systems: Sequence[str], study: str) -> FigurePlan:
    """Dead units, weight magnitude, rank and gradient magnitude over tasks, a line for each system."""
    lines = tuple(Line(setting, system) for system in systems)
    of = partial(Panel, lines=lines, unit="", frame=_from_zero)
    return FigurePlan(
        Topic(name, f"{name.replace('f', 'F', 1).replace('-', ' ')}: correlates of the loss, {what}", study),
        (
            of(
                "dead units",
                axis="% of hidden units",
                measure=lambda run: 100.0 * run.measure("dead_units"),
                frame=partial(_from_zero, may_be_log=False),
            ),
            of("weight magnitude", axis="mean |w|", measure="weight_magnitude", digits=3),
            of("rank", axis="singular values", measure="rank99"),
            of("gradient magnitude", axis="mean |g|", measure="gradient_magnitude", digits=5),
        ),
        caption=f"Correlates of the loss of plasticity, {SETTING_LABELS[setting]}; {{points}}. a, c: before the "
        "first update of each task, on images under its new permutation; rank: the number of singular values of the "
        "last hidden layer that hold 99 % of their sum, as the paper counts. b: after a task; d: during it.",
        height=2.1,
        share="none",
        nothing=f"no run of any of its systems in {SETTING_LABELS[setting]}",
        shows="Lines over tasks",
        remarks=lambda groups: "",
    )


INITIAL = (*BASELINES, *variants("gradient", "threshold"), *variants("gradient", "proportional"))
PLANS = {
    plan.topic.name: plan
    for plan in (
        *_assessment(),
        *_weights_and_units(),
        _correlates("figure-10", "initial assessment", "large", INITIAL, ASSESSMENT),
        _correlates("figure-11", "large", "large", SIX, WEIGHTS),
        _correlates("figure-12", "large with layer norm", "large-ln", SIX, WEIGHTS),
        _correlates("figure-13", "small", "small", SIX, WEIGHTS),
        _correlates("figure-14", "small with layer norm", "small-ln", SIX, WEIGHTS),
    )
}
"""Figures of systems at their chosen values, whatever the runs."""


def options(runs: Runs, others: Mapping[str, Runs]) -> Drawing | Missing:
    """Unit methods as in the other figures, and the same with another option of the laboratory.

    Args:
        runs: with the usual options.
        others: {how they differ: their runs}
    """
    topic = Topic("options", "Choices that the paper leaves open", WEIGHTS)
    settings = ("large-ln", "small-ln")
    drawn = [_with_options(runs, others, setting) for setting in settings]
    drawn = [each for each in drawn if any(line.own for line, _ in each.lines)]
    if not drawn:
        command = run_command(WEIGHTS, settings, UNITS) + " --units-read after"
        return Missing(topic.name, topic.title, "no run with units read after the norm", command)
    return compose(FigurePlan(topic, tuple(each.panel for each in drawn), columns=len(drawn)), drawn, ())


def _with_options(runs: Runs, others: Mapping[str, Runs], setting: str) -> Filled:
    """Systems that have runs with another option: the usual line, and beside it that one, dotted."""
    mains: list[tuple[Line, Sequence[Run]]] = []
    for system in (*SIX[len(BASELINES) :], *BASELINES):
        beside = [(name, main) for name, other in others.items() if (main := other.main(setting, system))]
        if beside:
            mains.append((Line(setting, system), runs.main(setting, system)))
        for name, main in beside:
            own = look(system)._replace(label=f"{look(system).label}, {name}", dashes=":")
            mains.append((Line(setting, system, own), main))
    return fill(Panel(SETTING_LABELS[setting], tuple(line for line, _ in mains)), mains)
