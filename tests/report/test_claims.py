"""Every statement on permuted images can be confirmed and contradicted."""

import re
from collections.abc import Mapping

import polars as pl
import pytest
from results_frames import AS_IN_THE_PAPER, Kind, runs, sweep, sweeps_as_in_the_paper
from statements import BY_ID, FALLING, FLAT, only

from regrow.report.claims import CONFIRMED, CONTRADICTED, STATEMENTS, UNDECIDED, evaluate, to_json
from regrow.report.margins import LEVEL, LONG
from regrow.report.style import FOUR

SWEPT = ("10a", "10b", "10c")
PROPORTIONAL = "swr-gradient-proportional-resample"

CONTRARY: dict[str, Mapping[tuple[str, str], Kind]] = {
    "1a": {("large", "base"): FLAT},
    "1b": {("large", "base"): FLAT},
    "1c": {("large", "l2"): FALLING},
    "1d": {("large-adamw", "l2"): FLAT},
    "2a": {("large", "swr"): FALLING},
    "2b": {("large", "swr"): Kind(95.0)},
    "2c": {("large-ln", PROPORTIONAL): Kind(80.0)},
    "2d": {("large-ln", "l2"): Kind(95.0)},
    "2e": {("small", PROPORTIONAL): Kind(95.0)},
    "3a": {(place, "swr-gradient-proportional-mean-authors"): FLAT for place in FOUR},
    "3b": {("small-ln", "swr-gradient-proportional-mean"): Kind(80.0)},
    "3c": {("large", "swr-magnitude-threshold-mean"): FLAT},
    "3d": {("large", "swr-magnitude-proportional-mean"): Kind(86.0, drop=6.0)},
    "3e": {("large", "swr-magnitude-threshold-mean"): FLAT},
    "4a": {("large", "redo"): FALLING},
    "4b": {("large", "redo"): Kind(91.0)},
    "5a": {("large-ln", "cbp"): FLAT},
    "5b": {("large-ln", "redo"): Kind(95.0)},
    "5c": {("large-ln", "l2"): Kind(95.0)},
    "6a": {("small", "cbp"): FALLING},
    "6b": {("small", "swr"): FALLING},
    "6c": {("small", "redo"): Kind(92.0)},
    "7a": {("small-ln", "redo"): Kind(89.0, early=1.0)},
    "7d": {("small", "redo"): Kind(89.0, early=14.0)},
    "7b": {("small-ln", "swr"): FALLING},
    "7c": {("small-ln", "shrink-perturb"): Kind(92.0)},
    "8a": {("large", "l2"): Kind(95.0), ("small", "l2"): Kind(95.0)},
    "8b": {("small-ln", "shrink-perturb"): Kind(92.0)},
    "9a": {("large-adamw", "base"): FLAT},
    "9b": {("large-sgdw", "swr"): FALLING},
    "9c": {("large-sgdw", "cbp"): Kind(95.0), ("large-sgdw", "redo"): Kind(95.0)},
    "9d": {("large-adamw", "cbp"): Kind(95.0)},
    "9e": {("large-adamw", "l2"): Kind(93.5)},
    "11a": {("large", "base"): Kind(93.0, drop=9.0, dead=40, weights=1.5, gradients=-0.5)},
    "11b": {("large", "swr"): Kind(92.8, dead=20)},
    "11c": {("small", "redo"): Kind(87.5, dead=10)},
    "11d": {("small", "cbp"): Kind(87.5, weights=1.0)},
    "12a": {("small-ln", "cbp"): Kind(89.0)},
    "12b": {("small-ln", "redo"): Kind(89.0, gradients=-0.5)},
    "12c": {("large-ln", "l2"): Kind(92.8)},
}


@pytest.fixture(scope="module")
def as_in_the_paper() -> pl.DataFrame:
    return runs(AS_IN_THE_PAPER, LONG)


@pytest.fixture(scope="module")
def swept() -> pl.DataFrame:
    return sweeps_as_in_the_paper()


def test_what_the_paper_describes_is_confirmed(as_in_the_paper: pl.DataFrame, swept: pl.DataFrame) -> None:
    verdicts = evaluate(as_in_the_paper) + evaluate(swept, [BY_ID[name] for name in SWEPT])
    said = {verdict.id: verdict.grade for verdict in verdicts if verdict.id not in SWEPT or verdict.effect}
    assert said == dict.fromkeys(BY_ID, CONFIRMED)
    assert all(v.p <= v.p_holm < 0.05 for v in verdicts if v.p is not None and v.p_holm is not None)


@pytest.mark.parametrize("statement", CONTRARY)
def test_the_contrary_is_contradicted(statement: str) -> None:
    verdict = only(statement, {**AS_IN_THE_PAPER, **CONTRARY[statement]})
    assert verdict.grade == CONTRADICTED, verdict.reason
    changed = {setting for setting, _ in CONTRARY[statement]}
    assert any(place in verdict.reason for place in changed) and "5 seeds × 500 tasks" in verdict.reason


def test_a_spiky_sweep_is_sensitive_and_a_bad_corner_the_worst(swept: pl.DataFrame) -> None:
    def changed(setting: str, level) -> pl.DataFrame:
        kept = swept.filter(~((pl.col("setting") == setting) & (pl.col("system") == "swr")))
        return pl.concat([kept, sweep(setting, "swr", level, 200)])

    def grades(frame: pl.DataFrame) -> list[str]:
        return [verdict.grade for verdict in evaluate(frame, [BY_ID[name] for name in SWEPT])]

    spike = changed("large", lambda c: 93.0 if (c["every"], c["factor"]) == (2048, 1e-5) else 85.0)
    corner = changed("small-ln", lambda c: 80.0 if (c["every"], c["factor"]) == (512, 1e-2) else 91.0)
    assert grades(spike) == [CONTRADICTED, CONTRADICTED, CONFIRMED]
    assert grades(corner) == [CONFIRMED, CONFIRMED, CONTRADICTED]
    kept = swept.filter(~((pl.col("setting") == "large-ln") & (pl.col("system") == "redo")))
    lucky = sweep("large-ln", "redo", lambda c: 95.0 if (c["every"], c["threshold"]) == (8, 0.1) else 60.0, 200)
    assert grades(pl.concat([kept, lucky])) == [CONFIRMED, CONFIRMED, CONTRADICTED]


def test_a_sweep_of_thirty_tasks_decides_nothing(swept: pl.DataFrame) -> None:
    for verdict in evaluate(swept.filter(pl.col("task") < 30), [BY_ID[name] for name in SWEPT]):
        assert (verdict.grade, verdict.p) == (UNDECIDED, None) and verdict.effect
        assert verdict.reason.startswith("30 of the 200 tasks without which nothing is decided: ")
        assert "--tasks 200 --seeds 5 --sweep" in verdict.command


def test_every_statement_has_its_contrary_and_an_id_of_its_own() -> None:
    assert sorted(BY_ID) == sorted([*CONTRARY, *SWEPT]) and len(BY_ID) == len(STATEMENTS)
    assert {int(re.sub(r"\D", "", name)) for name in BY_ID} == set(range(1, 13))


@pytest.mark.parametrize("statement", ["2c", "3a", "8a", "9c"])
def test_a_statement_with_an_exception_is_true_with_it_and_false_with_one_more(statement: str) -> None:
    more = next(case for case in CONTRARY[statement].items() if case[0][0] != "small-ln" and case[0] != ("small", "l2"))
    with_one = only(statement, AS_IN_THE_PAPER)  # the paper's own exception
    outside = {
        part.test.quantity.setting if statement == "2c" else part.test.quantity.name + part.test.quantity.setting
        for part in with_one.parts
        if part.effect and (part.effect.value > part.test.bound) != (part.test.side == ">")
    }
    assert (with_one.grade, len(outside)) == (CONFIRMED, 1)
    assert only(statement, {**AS_IN_THE_PAPER, **dict([more])}).grade == CONTRADICTED


def test_level_means_surely_within_the_margin() -> None:
    """A difference of zero that is not known well is not level."""
    close = {("large-adamw", system): Kind(92.0) for system in ("swr", "cbp", "redo")}
    sure, unsure = only("9d", close, noise=0.1), only("9d", close, noise=12.0)
    assert sure.grade == CONFIRMED and unsure.grade == UNDECIDED
    assert unsure.effect and unsure.effect.low < -LEVEL


def test_rows_in_another_order_and_of_other_problems_change_nothing(as_in_the_paper: pl.DataFrame) -> None:
    foreign = as_in_the_paper.head(50).with_columns(setting=pl.lit("vit"), system=pl.lit("base"))
    shuffled = pl.concat([as_in_the_paper, foreign]).sample(fraction=1, shuffle=True, seed=0)
    assert to_json(evaluate(shuffled)) == to_json(evaluate(as_in_the_paper))
