"""Numbers of README and docs that are no statement's and in no table: `<!-- number: fact NAME --><!-- end -->`."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import cartpole
import numpy as np

from regrow.report.figures.vit_optimizers import Boundary, compare
from regrow.report.format import number
from regrow.report.margins import LAST
from regrow.report.runs import entries, frames
from regrow.report.style import FOUR, REPARAM, STANDARD

if TYPE_CHECKING:
    from prose import Numbers


def between(values: Iterable[float], digits: int) -> str:
    """The range of some numbers."""
    values = list(values)
    return f"{number(min(values), digits)} to {number(max(values), digits)}"


def _renewed(numbers: "Numbers", setting: str, name: str) -> float:
    runs = frames({"swr": numbers.permuted.runs.main(setting, "swr")})[-1]
    return float(np.nansum(runs.series("swr", name)))


def zero_share(numbers: "Numbers") -> str:
    """Of what SWR renews, how much has a utility of exactly 0, in percent."""
    return between((100 * _renewed(numbers, s, "renewed_zero") / _renewed(numbers, s, "renewed") for s in FOUR), 1)


def renewal_share(numbers: "Numbers") -> str:
    """How much of all entries a renewal of SWR takes, in percent."""
    return between(
        (100 * _renewed(numbers, s, "renewed") / _renewed(numbers, s, "renewals") / entries(s) for s in FOUR), 0
    )


def order_difference(numbers: "Numbers") -> str:
    """The largest difference that the authors' order makes to a unit method, last 100 tasks over most seeds."""
    largest = 0.0
    for setting in FOUR:
        for system in ("cbp", "redo"):
            both = {name: numbers.permuted.runs.main(setting, name) for name in (system, f"{system}-authors")}
            runs = frames(both)[-1]
            one, two = (runs.series(name)[:, -LAST:].mean() for name in both)
            largest = max(largest, abs(float(one - two)))
    return number(largest, 1)


def _boundary(numbers: "Numbers", setting: str) -> Boundary:
    both = compare(numbers.vit, setting)
    assert both, f"no runs of {setting} with both optimizers"
    return both


def vit_moved(numbers: "Numbers") -> str:
    """How far the clean optimizer moves the base against a fresh network, in points."""
    gaps = (_boundary(numbers, setting).gap for setting in (STANDARD, REPARAM))
    return between((float((gap["clean"] - gap["authors"]).mean()) for gap in gaps), 0)


def vit_kept(optimizer: str) -> Callable[["Numbers"], str]:
    """How much of the weights' magnitude a boundary leaves, standard norm, in percent."""
    return lambda numbers: number(float(_boundary(numbers, STANDARD).kept[optimizer].mean()), 1)


FACTS: dict[str, Callable[["Numbers"], str]] = {
    "zero share": zero_share,
    "renewal share": renewal_share,
    "order difference": order_difference,
    "cartpole runs": lambda numbers: cartpole.progress(cartpole.load()),
    "vit moved": vit_moved,
    "vit kept authors": vit_kept("authors"),
    "vit kept clean": vit_kept("clean"),
}
"""{name in a mark: what writes it}"""
