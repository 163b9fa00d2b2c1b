"""All figures of the report, in order."""

from collections.abc import Callable, Mapping

from ..runs import Runs
from .cost import Cost, cost
from .permuted import (
    against_fresh,
    authors_order,
    figure_1,
    figure_2,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_10,
    figure_11,
    figure_12,
    figure_13,
    figure_14,
    options,
    renewals,
    variants_figure,
    zero_gradient,
)
from .sheet import Drawing, Missing
from .sweeps import figure_8, figure_9

PAPERS: tuple[Callable[[Runs], Drawing | Missing], ...] = (
    figure_1,
    figure_2,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_8,
    figure_9,
    figure_10,
    figure_11,
    figure_12,
    figure_13,
    figure_14,
)
"""The paper's figures on permuted images; 3 and 15 to 18 are in `vit.py`."""


def figures(
    runs: Runs, others: Mapping[str, Runs] | None = None, spent: Cost | None = None, pixels: int = 784
) -> list[Drawing | Missing]:
    """Every figure: those of the paper, then those beyond it.

    Args:
        runs: with the usual options.
        others: as for `options`.
        spent: as for `cost`.
        pixels: of an image.
    """
    beyond = [against_fresh(runs), renewals(runs, pixels), variants_figure(runs)]
    beyond += [zero_gradient(runs), authors_order(runs)]
    return [*(draw(runs) for draw in PAPERS), *beyond, options(runs, others or {}), cost(runs, spent)]
