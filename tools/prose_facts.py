"""Numbers of README and docs that are no statement's and in no table: `<!-- number: fact NAME --><!-- end -->`."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import cartpole
import numpy as np
import polars as pl

from regrow.report import windows
from regrow.report.figures.vit_optimizers import Boundary, compare
from regrow.report.format import number
from regrow.report.margins import LAST
from regrow.report.results_vit import ViTResults
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


def overlap(system: str) -> Callable[["Numbers"], str]:
    """How much of a renewal the one before had renewed, in percent, in the settings with runs by both ways to tie."""

    def written(numbers: "Numbers") -> str:
        rows = numbers.rows("ties").filter(system=system).group_by("setting").agg(pl.col("overlap").mean())
        return between(100 * rows["overlap"].to_numpy(), 0)

    return written


def ties_change(system: str) -> Callable[["Numbers"], str]:
    """How much the single runs in folder `ties` change from start to end, in points."""

    def written(numbers: "Numbers") -> str:
        rows = numbers.rows("ties").filter(system=system).sort("task").partition_by("setting", "seed")
        series = [100 * each["online_accuracy"].to_numpy() for each in rows]
        return between((float(windows.end_minus_start(len(each)) @ each) for each in series), 1)

    return written


def ties_runs(numbers: "Numbers") -> str:
    """How many runs of each system folder `ties` holds."""
    return str(numbers.rows("ties").select("setting", "seed").unique().height)


def _order_gap(numbers: "Numbers", setting: str, system: str, longest: bool = False) -> float:
    """A unit method minus the same in the authors' order: last 100 tasks, the same seeds, in points."""
    both = {name: numbers.permuted.runs.main(setting, name) for name in (system, f"{system}-authors")}
    runs = frames(both)[0 if longest else -1]
    one, two = (runs.series(name)[:, -LAST:].mean() for name in both)
    return float(one - two)


def order_difference(cases: Iterable[tuple[str, str]], longest: bool = False) -> Callable[["Numbers"], str]:
    """The largest difference that the authors' order makes to a unit method in a setting."""
    cases = tuple(cases)
    return lambda numbers: number(max(abs(_order_gap(numbers, *case, longest)) for case in cases), 1)


def order_gap(system: str) -> Callable[["Numbers"], str]:
    """What the usual order changes in the small network with layer norm, in the longest run."""
    return lambda numbers: number(_order_gap(numbers, "small-ln", system, longest=True), 1, sign=True)


def one_seed(folder: str) -> Callable[["Numbers"], str]:
    """Accuracy of ReDo in the authors' order, small network with layer norm, seed 0, over tasks 100 to 199."""

    def written(numbers: "Numbers") -> str:
        rows = numbers.rows(folder).filter(setting="small-ln", system="redo-authors", seed=0)
        accuracy = rows.filter(pl.col("task").is_between(100, 199))["online_accuracy"].to_numpy()
        return number(float(100 * accuracy.mean()), 1)

    return written


def per_renewal(setting: str, rest: bool = False) -> Callable[["Numbers"], str]:
    """Entries that a renewal of SWR takes in study `zero-gradient`; rest: only those whose utility is not 0."""

    def written(numbers: "Numbers") -> str:
        rows = numbers.rows("zero-gradient").filter(setting=setting, system="swr")
        taken, zero, times = (rows[name].to_numpy().sum() for name in ("renewed", "renewed_zero", "renewals"))
        return f"{(taken - zero * rest) / times:,.0f}"

    return written


def _boundary(results: ViTResults, setting: str) -> Boundary:
    both = compare(results, setting)
    assert both, f"no runs of {setting} with both optimizers"
    return both


def vit_moved(numbers: "Numbers") -> str:
    """How far the clean optimizer moves the base against a fresh network, in points."""
    gaps = (_boundary(numbers.vit, setting).gap for setting in (STANDARD, REPARAM))
    return between((float((gap["clean"] - gap["authors"]).mean()) for gap in gaps), 0)


def vit_kept(optimizer: str) -> Callable[["Numbers"], str]:
    """How much of the weights' magnitude a boundary leaves, standard norm, in percent."""
    return lambda numbers: number(float(_boundary(numbers.vit, STANDARD).kept[optimizer].mean()), 1)


def vit_fresh(optimizer: str) -> Callable[["Numbers"], str]:
    """Accuracy of a fresh network on the last task, standard norm, in percent."""

    def written(numbers: "Numbers") -> str:
        both = _boundary(numbers.vit, STANDARD)
        return number(float((both.end[optimizer] - both.gap[optimizer]).mean()), 1)

    return written


def vit_grown(numbers: "Numbers") -> str:
    """Mean |w| of the base after the first and after the last task, reparametrized norm, authors' optimizer."""
    runs = numbers.vit.runs["authors"].main(REPARAM, "base")
    course = np.mean([run.measure("weight_magnitude") for run in runs], 0)
    return f"{number(course[0], 2)} to {number(course[-1], 1)}"


def vit_long(what: Callable[[Boundary], float], digits: int) -> Callable[["Numbers"], str]:
    """A number of the runs with tasks three times as long, standard norm."""
    return lambda numbers: number(what(_boundary(numbers.vit_long, STANDARD)), digits)


_CASES = tuple((setting, system) for setting in FOUR for system in ("cbp", "redo"))
FACTS: dict[str, Callable[["Numbers"], str]] = {
    "zero share": zero_share,
    "renewal share": renewal_share,
    "order difference": order_difference([("small-ln", "redo")]),
    "order difference rest": order_difference(case for case in _CASES if case != ("small-ln", "redo")),
    "order difference longest": order_difference((case for case in _CASES if case[0] != "small-ln"), longest=True),
    "ties runs": ties_runs,
    "ties change random": ties_change("swr-gradient-proportional-mean"),
    "ties change position": ties_change("swr-gradient-proportional-mean-authors"),
    "overlap random": overlap("swr-gradient-proportional-mean"),
    "overlap position": overlap("swr-gradient-proportional-mean-authors"),
    **{f"order gap {system}": order_gap(system) for system in ("cbp", "redo")},
    "one seed": one_seed("weights-vs-units"),
    "one seed again": one_seed("authors-long"),
    **{f"per renewal {setting}": per_renewal(setting) for setting in FOUR},
    **{f"per renewal {setting} rest": per_renewal(setting, rest=True) for setting in FOUR},
    "cartpole runs": lambda numbers: cartpole.progress(cartpole.load()),
    "vit moved": vit_moved,
    "vit kept authors": vit_kept("authors"),
    "vit kept clean": vit_kept("clean"),
    "vit fresh authors": vit_fresh("authors"),
    "vit fresh clean": vit_fresh("clean"),
    "vit grown": vit_grown,
    "vit long kept": vit_long(lambda both: float(both.kept["authors"].mean()), 0),
    "vit long behind": vit_long(lambda both: -float(both.gap["authors"].mean()), 1),
    "vit long ahead": vit_long(lambda both: float(both.gap["clean"].mean()), 1),
}
"""{name in a mark: what writes it}"""
