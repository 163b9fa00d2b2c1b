"""Figures 1, 2 and 4 to 7 of the paper: accuracy over tasks."""

import polars as pl

from ...lab.studies import CONTROLS
from ...maintain.swr import PRUNINGS, UTILITIES
from ..runs import Runs
from ..style import SYSTEMS, LineStyle, Look
from .drawing import Drawing, Missing, Topic
from .panels import Line, Panel, Sheet, accuracy, by_setting

BASELINES = ("base", "l2", "shrink-perturb")
UNITS, AUTHORS = ("cbp", "redo"), ("cbp-authors", "redo-authors")
SIX = (*BASELINES, *UNITS, "swr")
FOUR = ("large", "large-ln", "small", "small-ln")


def variants(utility: str, pruning: str) -> tuple[str, str]:
    """SWR with both ways of giving new values: resample, mean.

    Example:
        >>> variants("gradient", "threshold")
        ('swr', 'swr-gradient-threshold-mean')
    """
    names = [f"swr-{utility}-{pruning}-{reinit}" for reinit in ("resample", "mean")]
    return ("swr" if names[0] == "swr-gradient-threshold-resample" else names[0]), names[1]


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
    bases: tuple[tuple[str, str, LineStyle], ...] = (
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
            own=lambda line: line.system.startswith("swr-random"),
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
