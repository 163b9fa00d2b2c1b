"""Figures 1, 2 and 4 to 7 of the paper: accuracy over tasks."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from ...lab.studies import CONTROLS, SIX, System
from ...lab.studies.systems import Dashes, Variant
from ...methods.swr import PRUNINGS, UTILITIES
from ..format import run_command
from ..runs import Run, Runs, entries
from ..style import SETTING_LABELS, SYSTEMS, Look, look
from . import line as lines
from .panels import Found, Line, Panel, Sheet, accuracy, by_setting, compose
from .sheet import Drawing, Missing, Topic, axis_of_tasks, counts, heading, legend, logarithmic, sheet, styled

BASELINES = ("base", "l2", "shrink-perturb")
UNITS, AUTHORS = ("cbp", "redo"), ("cbp-authors", "redo-authors")
FOUR = ("large", "large-ln", "small", "small-ln")


def variants(utility: str, pruning: str) -> tuple[str, str]:
    """SWR with both ways of giving new values: resample, mean.

    Example:
        >>> variants("gradient", "threshold")
        ('swr', 'swr-gradient-threshold-mean')
    """
    return Variant(utility, pruning, "resample").name, Variant(utility, pruning, "mean").name


def _by_pruning(utility: str) -> tuple[Panel, ...]:
    """Proportional and threshold pruning beside the baselines."""
    return tuple(
        Panel(f"{pruning} pruning", tuple(Line("large", s) for s in BASELINES + variants(utility, pruning)))
        for pruning in PRUNINGS[::-1]
    )


def _all_ways() -> tuple[Panel, ...]:
    """Base and every utility, a panel for each pruning."""
    return tuple(
        Panel(
            f"{pruning} pruning",
            tuple(Line("large", s) for s in ("base", *(s for u in UTILITIES for s in variants(u, pruning)))),
        )
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


ASSESSMENT, WEIGHTS = "initial-assessment", "weights-vs-units"
SHEETS = {
    sheet.topic.name: sheet
    for sheet in (
        Sheet(
            Topic("figure-01", "Figure 1: renewing weights by gradient utility", ASSESSMENT),
            _by_pruning("gradient"),
            share="all",
            own=lambda line: line.system not in BASELINES,
        ),
        Sheet(
            Topic("figure-02", "Figure 2: renewing weights or units", WEIGHTS),
            by_setting(FOUR, SIX),
            own=lambda line: line.system not in BASELINES,
        ),
        Sheet(
            Topic("figure-04", "Figure 4: renewing weights by magnitude utility", ASSESSMENT),
            _by_pruning("magnitude"),
            share="all",
            own=lambda line: line.system not in BASELINES,
        ),
        Sheet(
            Topic("figure-05", "Figure 5: renewing weights by proportional pruning, or units", WEIGHTS),
            by_setting(FOUR, (*BASELINES, *UNITS, *variants("gradient", "proportional"))),
            own=lambda line: line.system in variants("gradient", "proportional"),
        ),
        Sheet(
            Topic("figure-06", "Figure 6: renewing weights by threshold pruning, or units", WEIGHTS),
            by_setting(FOUR, (*BASELINES, *UNITS, *variants("gradient", "threshold"))),
            own=lambda line: line.system == "swr-gradient-threshold-mean",
        ),
        Sheet(
            Topic("figure-07", "Figure 7: with other optimizers", "optimizers"),
            _optimizers(),
            columns=3,
            share="all",
            own=lambda line: line.setting != "large",
        ),
        Sheet(
            Topic("variants", "All ways of selective weight reinitialization", ASSESSMENT),
            _all_ways(),
            share="all",
            own=lambda line: System.of(line.system).utility == "random",
        ),
        Sheet(
            Topic("zero-gradient", "Renewing only what has utility 0, or all but that", "zero-gradient"),
            by_setting(FOUR, ("base", "swr", *CONTROLS, "swr-random-threshold-resample")),
            own=lambda line: line.system in CONTROLS,
        ),
        Sheet(
            Topic("authors-order", "Renewing units after the update, or within it as the authors do", WEIGHTS),
            by_setting(FOUR, ("base", *UNITS, *AUTHORS)),
            own=lambda line: line.system in AUTHORS,
        ),
    )
}
"""What each figure shows."""


def figure_1(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """SWR by gradient utility with proportional and with threshold pruning, beside the baselines."""
    return accuracy(results, SHEETS["figure-01"])


def figure_2(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """Renewing weights and renewing units, in four settings."""
    return accuracy(results, SHEETS["figure-02"])


def figure_4(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """As figure 1, with magnitude utility."""
    return accuracy(results, SHEETS["figure-04"])


def figure_5(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """As figure 2, with SWR by proportional pruning, resampled and set to the mean."""
    return accuracy(results, SHEETS["figure-05"])


def figure_6(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """As figure 2, with SWR by threshold pruning, resampled and set to the mean."""
    return accuracy(results, SHEETS["figure-06"])


def figure_7(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The base system under three optimizers, and all systems under the two that are not plain SGD."""
    return accuracy(results, SHEETS["figure-07"])


def variants_figure(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """All twelve ways of SWR, random utility among them: the control."""
    return accuracy(results, SHEETS["variants"])


def zero_gradient(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """SWR, what it does to entries of utility 0 alone, what it does to the others alone, and as many at random."""
    return accuracy(results, SHEETS["zero-gradient"])


def authors_order(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """Our unit methods beside those that act within the backward pass, as the authors' do."""
    return accuracy(results, SHEETS["authors-order"])


SPREAD = 30.0  # an axis that spans more than this factor is logarithmic


class Correlate(NamedTuple):
    """A column of the results, its name and unit, and the factor that brings it to that unit."""

    column: str
    title: str
    axis: str
    factor: float = 1.0
    digits: int = 1


CORRELATES = (
    Correlate("dead_units", "dead units", "% of hidden units", 100.0),
    Correlate("weight_magnitude", "weight magnitude", "mean |w|", digits=3),
    Correlate("rank99", "rank", "singular values"),
    Correlate("gradient_magnitude", "gradient magnitude", "mean |g|", digits=5),
)
INITIAL = (*BASELINES, *variants("gradient", "threshold"), *variants("gradient", "proportional"))
OF = {
    "figure-10": ("large", INITIAL, "initial-assessment"),
    "figure-11": ("large", SIX, "weights-vs-units"),
    "figure-12": ("large-ln", SIX, "weights-vs-units"),
    "figure-13": ("small", SIX, "weights-vs-units"),
    "figure-14": ("small-ln", SIX, "weights-vs-units"),
}
"""{figure: its setting, its systems, the study that makes them}"""


def figure_10(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the initial assessment."""
    return correlates(results, "figure-10", "Figure 10: correlates of the loss, initial assessment")


def figure_11(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the large network."""
    return correlates(results, "figure-11", "Figure 11: correlates of the loss, large")


def figure_12(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the large network with layer norm."""
    return correlates(results, "figure-12", "Figure 12: correlates of the loss, large with layer norm")


def figure_13(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the small network."""
    return correlates(results, "figure-13", "Figure 13: correlates of the loss, small")


def figure_14(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """The four correlates in the small network with layer norm."""
    return correlates(results, "figure-14", "Figure 14: correlates of the loss, small with layer norm")


@styled
def correlates(results: pl.DataFrame | Runs, name: str, title: str) -> Drawing | Missing:
    """Dead units, weight magnitude, rank and gradient magnitude over tasks, a line for each system.

    Args:
        results: rows as `regrow.load` returns them, or their runs.
        name: of the figure, a key of `OF`.
        title: one line.
    """
    setting, systems, study = OF[name]
    runs = Runs.of(results)
    found = {system: main for system in systems if (main := runs.main(setting, system))}
    topic, absent = Topic(name, title, study), [(setting, system) for system in systems if system not in found]
    if not found:
        return topic.nothing(f"no run of any of its systems in {SETTING_LABELS[setting]}", absent)
    width = lines.bin_width(lines.longest(found.values()))
    figure, grid = sheet(2, 2, 2.1, "none")
    told = []
    for i, (axes, correlate) in enumerate(zip(grid, CORRELATES, strict=True)):
        courses = {system: _course(main, correlate, width) for system, main in found.items()}
        heading(axes, i, correlate.title)
        axis_of_tasks(axes, found.values())
        for system, course in courses.items():
            lines.draw(axes, course, look(system))
        _frame(axes, correlate, list(courses.values()))
        ends = lines.ends([(look(s).label, c) for s, c in courses.items()], "", correlate.digits)
        told.append(f"{correlate.title}: {ends or 'not measured'}")
    legend(figure, found)
    alt = f"Lines over tasks, from the first point to the last. {'. '.join(told)}."
    return Drawing(name, title, _correlates_caption(setting, found, width), alt, figure, topic.gaps(absent))


def _course(runs: Sequence[Run], correlate: Correlate, width: int) -> lines.Course:
    return lines.course(runs, lambda run: run.measure(correlate.column) * correlate.factor, width)


def _frame(axes, correlate: Correlate, courses: Sequence[lines.Course]) -> None:
    """Axes of one correlate: from 0, or logarithmic where systems lie far apart."""
    axes.set_ylabel(correlate.axis)
    means = np.concatenate([course.mean for course in courses])
    means = means[np.isfinite(means)]
    if not len(means):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    elif means.min() > 0 and means.max() > SPREAD * means.min() and correlate.column != "dead_units":
        logarithmic(axes)
    else:
        top = means.max() or 1.0
        axes.set_ylim(-0.03 * top, 1.06 * top)


def _correlates_caption(setting: str, found: Mapping[str, Sequence[Run]], width: int) -> str:
    n = counts({look(system).label: runs for system, runs in found.items()})
    return (
        f"Correlates of the loss of plasticity, {SETTING_LABELS[setting]}; {lines.binned(width)}. a, c: before the "
        "first update of each task, on images under its new permutation; rank: the number of singular values of the "
        "last hidden layer that hold 99 % of their sum, as the paper counts. b: after a task; d: during it. "
        f"{lines.bands(found.values())} {n}"
    )


FRESH_TOPIC = Topic("against-fresh", "Every system against a fresh network", "weights-vs-units")
AGAINST_FRESH = (*SIX, *AUTHORS)


def _measure(run: Run) -> np.ndarray:
    return run.measure("online_accuracy")


@styled
def against_fresh(results: pl.DataFrame | Runs) -> Drawing | Missing:
    """Online accuracy minus that of a fresh network of the same seed, over tasks; below 0 plasticity is lost.

    A fresh network's tasks are all alike, so that its mean over a few of them stands for every task.

    Args:
        results: rows as `regrow.load` returns them, or their runs.
    """
    runs = Runs.of(results)
    levels = {s: {run.seed: float(_measure(run).mean()) for run in runs.main(s, "scratch")} for s in FOUR}
    found = {setting: _paired(runs, setting, levels[setting]) for setting in FOUR}
    absent = [(setting, "scratch") for setting in FOUR if not levels[setting]]
    absent += [(s, system) for s in FOUR if levels[s] for system in AGAINST_FRESH if system not in found[s]]
    shown = [setting for setting in FOUR if found[setting]]
    if not shown:
        return FRESH_TOPIC.nothing("no fresh network beside another system of the same seed", absent)
    columns = min(2, len(shown))
    figure, grid = sheet(-(-len(shown) // columns), columns, 2.3, "row")
    for axes in grid[len(shown) :]:
        axes.remove()
    told, rows = [], {}
    for i, (axes, setting) in enumerate(zip(grid, shown, strict=False)):
        heading(axes, i if len(shown) > 1 else None, SETTING_LABELS[setting])
        courses = _draw_against_fresh(axes, found[setting], levels[setting])
        axes.set_ylabel("points above a fresh network" if i % columns == 0 else "")
        told.append(f"{SETTING_LABELS[setting]}: {lines.ends(courses, '')}")
        rows.setdefault(i // columns, []).extend(course for _, course in courses)
    for row, together in rows.items():
        if ends := lines.limits(together, lines.REACH):
            grid[row * columns].set_ylim(min(ends[0], -0.5), max(ends[1], 0.5))
    legend(figure, {"scratch", *(system for each in found.values() for system in each)})
    alt = f"Lines of accuracy minus that of a fresh network, from the first point to the last. {'. '.join(told)}."
    return Drawing(
        FRESH_TOPIC.name, FRESH_TOPIC.title, _fresh_caption(found, levels), alt, figure, FRESH_TOPIC.gaps(absent)
    )


def _paired(runs: Runs, setting: str, levels: Mapping[int, float]) -> dict[str, list[Run]]:
    """Runs of each system whose seed has a fresh network."""
    paired = {s: [run for run in runs.main(setting, s) if run.seed in levels] for s in AGAINST_FRESH}
    return {system: each for system, each in paired.items() if each}


def _draw_against_fresh(
    axes, found: Mapping[str, Sequence[Run]], levels: Mapping[int, float]
) -> list[tuple[str, lines.Course]]:
    width = lines.bin_width(lines.longest(found.values()))
    fresh, yardstick = np.array(list(levels.values())), look("scratch")
    axes.axhline(0, color=yardstick.colour, linestyle=yardstick.dashes, linewidth=1.2, zorder=1)
    if len(fresh) > 1:
        error = fresh.std(ddof=1) / np.sqrt(len(fresh))
        axes.axhspan(-error, error, color=yardstick.colour, alpha=0.15, linewidth=0, zorder=1)
    courses = []
    for system, runs in found.items():
        course = lines.course(runs, lambda run: _measure(run) - levels[run.seed], width)
        lines.draw(axes, course, look(system))
        courses.append((system, course))
    axis_of_tasks(axes, found.values())
    return [(look(system).label, course) for system, course in courses]


def _fresh_caption(found: Mapping[str, Mapping[str, Sequence[Run]]], levels: Mapping[str, Mapping[int, float]]) -> str:
    every = [runs for each in found.values() for runs in each.values()]
    sizes = {counts({look(s).label: runs for s, runs in each.items()}) for each in found.values() if each}
    n = sizes.pop() if len(sizes) == 1 else ""
    seeds = sorted({len(each) for each in levels.values() if each})
    return (
        "Online accuracy minus that of a network that starts fresh on every task, of the same seed; dotted: the fresh "
        f"network, ± 1 standard error over its {' or '.join(map(str, seeds))} seeds. {lines.bands(every)} {n}"
    ).strip()


OPTIONS_NAME, OPTIONS_TITLE, OPTIONS_STUDY = "options", "Choices that the paper leaves open", "weights-vs-units"
OPTIONS_SETTINGS, OPTIONS_SYSTEMS = ("large-ln", "small-ln"), ("cbp", "redo")


@styled
def options(results: Runs, others: Mapping[str, Runs]) -> Drawing | Missing:
    """Unit methods as in the other figures, and the same with another option of the laboratory.

    Args:
        results: runs with the usual options.
        others: {what is different, in a few words: its runs}
    """
    found = [_find_options(results, others, setting) for setting in OPTIONS_SETTINGS]
    found = [panel for panel in found if any(line.own for line, *_ in panel.drawn)]
    if not found:
        command = run_command(OPTIONS_STUDY, OPTIONS_SETTINGS, OPTIONS_SYSTEMS) + " --units-read after"
        return Missing(OPTIONS_NAME, OPTIONS_TITLE, "no run with units read after the norm", command)
    plan = Sheet(Topic(OPTIONS_NAME, OPTIONS_TITLE, OPTIONS_STUDY), (), columns=len(found))
    return compose(plan, found, ())


def _find_options(results: Runs, others: Mapping[str, Runs], setting: str) -> Found:
    """The usual lines of systems that also have others, and the others dotted in the same colour."""
    drawn = []
    for system in (*SIX[len(BASELINES) :], *BASELINES):
        beside = [(name, main) for name, runs in others.items() if (main := runs.main(setting, system))]
        usual = results.main(setting, system)
        if beside and usual:
            drawn.append((Line(setting, system), usual))
        for name, main in beside:
            own = look(system)._replace(label=f"{look(system).label}, {name}", dashes=":")
            drawn.append((Line(setting, system, own), main))
    width = lines.bin_width(lines.longest(main for _, main in drawn))
    courses = ((line, main, lines.course(main, "online_accuracy", width)) for line, main in drawn)
    return Found(SETTING_LABELS[setting], width, tuple(courses))


RENEWALS_TOPIC = Topic("renewals", "What is renewed, and how much of it had utility 0", "weights-vs-units")
RENEWALS_SYSTEMS = (
    "cbp",
    "redo",
    "swr",
    "swr-gradient-proportional-resample",
    "swr-magnitude-threshold-resample",
    "swr-random-threshold-resample",
)


@styled
def renewals(results: pl.DataFrame | Runs, pixels: int = 784) -> Drawing | Missing:
    """Entries renewed in a task as a share of all, and the share of the renewed whose utility was exactly 0.

    Args:
        results: rows as `regrow.load` returns them, or their runs.
        pixels: of an image, for the number of entries that a network has.
    """
    runs = Runs.of(results)
    found = {setting: _renewing(runs, setting) for setting in FOUR}
    shown = [setting for setting in FOUR if found[setting]]
    absent = [(setting, s) for setting in FOUR for s in ("cbp", "redo", "swr") if not runs.main(setting, s)]
    if not shown:
        return RENEWALS_TOPIC.nothing("no run that renewed anything", absent)
    figure, grid = sheet(len(shown), 2, 2.1, "none")
    told = []
    for row, setting in enumerate(shown):
        share, zero = grid[2 * row : 2 * row + 2]
        label = SETTING_LABELS[setting]
        heading(share, 2 * row, f"{label}: renewed")
        heading(zero, 2 * row + 1, f"{label}: utility 0")
        ends = [_draw_renewals(share, found[setting], setting, pixels), _draw_renewals(zero, found[setting])]
        logarithmic(share)
        share.set_ylabel("% of all entries in a task")
        zero.set(ylim=(-4, 104), ylabel="% of what was renewed")
        told.append(f"{label}: renewed, {lines.ends(ends[0], ' %', 2)}; utility 0, {lines.ends(ends[1], ' %')}")
    legend(figure, (system for each in found.values() for system in each))
    alt = f"Lines of what is renewed, from the first point to the last. {'. '.join(told)}."
    return Drawing(
        RENEWALS_TOPIC.name, RENEWALS_TOPIC.title, _renewals_caption(found), alt, figure, RENEWALS_TOPIC.gaps(absent)
    )


def _renewing(runs: Runs, setting: str) -> dict[str, Sequence[Run]]:
    """Systems that renewed anything."""
    found = {system: runs.main(setting, system) for system in RENEWALS_SYSTEMS}
    return {s: each for s, each in found.items() if any(np.nansum(run.measure("renewed")) > 0 for run in each)}


def _draw_renewals(
    axes, found: Mapping[str, Sequence[Run]], setting: str | None = None, pixels: int = 0
) -> list[tuple[str, lines.Course]]:
    """The share of all entries of a setting's network; without a setting, that of utility 0."""
    width, courses = lines.bin_width(lines.longest(found.values())), []
    for system, runs in found.items():
        if setting is not None:
            size = entries(setting, pixels)
            course = lines.course(runs, lambda run: _positive(100 * run.measure("renewed") / size), width)  # noqa: B023
        else:
            # Of units the share is one of units: an entry of a unit has no utility of its own.
            of = "renewed_units" if System.of(system).by_unit else "renewed"
            by = lambda run: np.nan_to_num(run.measure(of))  # noqa: B023, E731
            course = lines.course(runs, lambda run: 100 * run.measure("renewed_zero"), width, by)
        lines.draw(axes, course, look(system))
        courses.append((look(system).label, course))
    axis_of_tasks(axes, found.values())
    return courses


def _positive(values: np.ndarray) -> np.ndarray:
    """Tasks in which something was renewed: a logarithmic axis has no 0."""
    return np.where(values > 0, values, np.nan)


def _renewals_caption(found: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    every = [runs for each in found.values() for runs in each.values()]
    width = lines.bin_width(lines.longest(every))
    sizes = {counts({look(s).label: runs for s, runs in each.items()}) for each in found.values() if each}
    n = sizes.pop() if len(sizes) == 1 else ""
    return (
        "Left: entries renewed in a task, as a share of all parameters (more than 100 % where one is renewed several "
        "times; of tasks in which something was). Right: the share of what was renewed whose utility was exactly 0, of "
        f"entries for weights, of units for CBP and ReDo; {lines.binned(width)}. {lines.bands(every)} {n}"
    ).strip()
