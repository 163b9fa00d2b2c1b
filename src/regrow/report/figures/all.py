"""All figures on permuted images, in order; those on CIFAR-100 are in `vit` and `vit_optimizers`."""

from collections.abc import Mapping

from ..runs import STANDARDIZED, Runs
from .against_fresh import against_fresh
from .cost import Cost, cost
from .dense import dense_inputs
from .panels import draw
from .permuted import PLANS, options
from .renewals import renewals
from .sheet import Drawing, Missing
from .sweeps import SENSITIVITIES, sensitivity


def figures(
    runs: Runs, others: Mapping[str, Runs] | None = None, spent: Cost | None = None, pixels: int = 784
) -> list[Drawing | Missing]:
    """Every figure: those of the paper, then those beyond it.

    Args:
        runs: with the usual options.
        others: as for `options`; on standardized pixels, as for `dense_inputs`.
        spent: as for `cost`.
        pixels: of an image.
    """
    others = dict(others or {})
    dense = dense_inputs(others.pop(STANDARDIZED, None))
    of_lines = {name: draw(runs, plan) for name, plan in PLANS.items()}
    of_sweeps = {plan.topic.name: sensitivity(runs, plan) for plan in SENSITIVITIES}
    papers = {name: drawn for name, drawn in (of_lines | of_sweeps).items() if name.startswith("figure-")}
    beyond = [drawn for name, drawn in of_lines.items() if name not in papers]
    return [
        *(papers[name] for name in sorted(papers)),
        against_fresh(runs),
        renewals(runs, pixels),
        *beyond,
        dense,
        options(runs, others),
        cost(runs, spent),
    ]
