"""Figures 1, 2, 4 to 7 and 10 to 14 of the paper, on permuted images, and those beyond it of the same runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from ...lab.studies import CONTROLS, SIX, System
from ...lab.studies.systems import Dashes, Variant
from ...methods.swr import PRUNINGS, UTILITIES
from ..format import run_command
from ..runs import FRESH, Run, Runs, entries
from ..style import FOUR, SETTING_LABELS, SYSTEMS, Look, look
from .line import Curve
from .panels import (
    FigurePlan,
    Filled,
    Line,
    Panel,
    around_zero,
    by_setting,
    compose,
    draw,
    fill,
    on_log,
    standard_error,
)
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

AGAINST_FRESH = (*SIX, *AUTHORS)


def against_fresh(runs: Runs) -> Drawing | Missing:
    """Online accuracy minus that of a fresh network of the same seed, over tasks; below 0 plasticity is lost.

    A fresh network's tasks are all alike, so the mean over some of them stands for every task.
    """
    levels = {s: {run.seed: float(_accuracy(run).mean()) for run in runs.main(s, FRESH)} for s in FOUR}
    drawn = {setting: fill(*_minus_fresh(runs, setting, levels[setting])) for setting in FOUR}
    shown = [each for each in drawn.values() if each.lines]
    absent = [(setting, FRESH) for setting in FOUR if not levels[setting]]
    for setting, each in drawn.items():
        paired = {line.system for line, _ in each.lines}
        absent += [(setting, system) for system in AGAINST_FRESH if levels[setting] and system not in paired]
    topic = Topic("against-fresh", "Every system against a fresh network", WEIGHTS)
    if not shown:
        return topic.nothing("no fresh network beside another system of the same seed", absent)
    seeds = sorted({len(each) for each in levels.values() if each})
    plan = FigurePlan(
        topic,
        tuple(each.panel for each in shown),
        caption="Online accuracy minus that of a network that starts fresh on every task, of the same seed; dotted: "
        f"the fresh network, ± 1 standard error over its {' or '.join(map(str, seeds))} seeds.",
        columns=min(2, len(shown)),
        shows="Lines of accuracy minus that of a fresh network",
        remarks=lambda groups: "",
    )
    return compose(plan, shown, topic.gaps(absent))


def _minus_fresh(
    runs: Runs, setting: str, levels: Mapping[int, float]
) -> tuple[Panel, list[tuple[Line, Sequence[Run]]]]:
    """A panel, and the runs of its lines."""
    mains: list[tuple[Line, Sequence[Run]]] = [
        (Line(setting, system), runs.main(setting, system)) for system in AGAINST_FRESH
    ]
    panel = Panel(
        SETTING_LABELS[setting],
        tuple(line for line, _ in mains),
        axis="points above a fresh network",
        measure=lambda run: _accuracy(run) - levels[run.seed],
        keep=lambda run: run.seed in levels,
        frame=around_zero,
        against_fresh=True,
        band=standard_error(list(levels.values())),
        unit="",
    )
    return panel, mains


def _accuracy(run: Run) -> np.ndarray:
    return run.measure("online_accuracy")


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


RENEWALS_SYSTEMS = (
    *UNITS,
    "swr",
    "swr-gradient-proportional-resample",
    "swr-magnitude-threshold-resample",
    "swr-random-threshold-resample",
)


def renewals(runs: Runs, pixels: int = 784) -> Drawing | Missing:
    """Entries renewed in a task as a share of all, and the share of the renewed whose utility was exactly 0.

    Args:
        runs: of any systems.
        pixels: of an image, for the number of entries that a network has.
    """
    plan = FigurePlan(
        Topic("renewals", "What is renewed, and how much of it had utility 0", WEIGHTS),
        tuple(panel for setting in FOUR for panel in _of_renewals(runs, setting, pixels)),
        caption="Left: entries renewed in a task, as a share of all parameters (more than 100 % where one is renewed "
        "several times; of tasks in which something was). Right: the share of what was renewed whose utility was "
        "exactly 0, of entries for weights, of units for CBP and ReDo; {points}.",
        height=2.1,
        share="none",
        nothing="no run that renewed anything",
        shows="Lines of what is renewed",
        remarks=lambda groups: "",
        needs=[(setting, system) for setting in FOUR for system in (*UNITS, "swr")],
    )
    return draw(runs, plan)


def _of_renewals(runs: Runs, setting: str, pixels: int) -> tuple[Panel, ...]:
    """Two panels, none where nothing was renewed."""

    def renewed(run: Run) -> np.ndarray:
        return run.measure("renewed")

    def share(run: Run) -> np.ndarray:
        """Of all entries, in tasks in which something was renewed: a logarithmic axis has no 0."""
        return np.where(renewed(run) > 0, 100 * renewed(run) / entries(setting, pixels), np.nan)

    def of(run: Run) -> np.ndarray:
        """What the share of utility 0 counts: units, where entries have no utility of their own."""
        return np.nan_to_num(run.measure("renewed_units" if System.of(run.system).by_unit else "renewed"))

    def percent(axes: Axes, curves: Sequence[Curve]) -> None:
        del curves
        axes.set_ylim(-4, 104)

    def anything(system: str) -> bool:
        return any(np.nansum(renewed(run)) > 0 for run in runs.main(setting, system))

    lines, title = tuple(Line(setting, s) for s in RENEWALS_SYSTEMS if anything(s)), SETTING_LABELS[setting]
    if not lines:
        return ()
    zero = Panel(
        f"{title}: utility 0",
        lines,
        axis="% of what was renewed",
        measure=lambda run: 100 * run.measure("renewed_zero"),
        per=of,
        frame=percent,
    )
    axis = "% of all entries in a task"
    return Panel(f"{title}: renewed", lines, axis=axis, measure=share, frame=on_log, digits=2), zero
