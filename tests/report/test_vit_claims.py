"""Every statement on CIFAR-100 can hold and can fail, only with enough runs, and says what is missing."""

import json
import re
from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest
from scipy import stats as scipy_stats
from vit_frames import AS_IN_THE_PAPER, SHRINKING, Kind, run, runs

from regrow.lab.studies import choose
from regrow.lab.studies.vit_values import chosen, scaled
from regrow.report.claims import CONFIRMED, CONTRADICTED, NOT_RUN, UNDECIDED, Verdict, evaluate, to_json
from regrow.report.claims.vit import STATEMENTS
from regrow.report.claims.vit_quantities import class_order, last_gap, rate
from regrow.report.margins import NEVER, SMALLEST_P, VIT_MARGINS
from regrow.report.results_vit import scope
from regrow.report.runs import Runs
from regrow.report.tables.vit import permutation_p

BY_ID = {statement.id: statement for statement in STATEMENTS}
COUNTED = ("14c", "14d")

CONTRARY: dict[str, Mapping[tuple[str, str], Kind]] = {
    "13a": {("vit", "base"): Kind(10, scale=0.8)},
    "13b": {("vit", "base"): Kind(10, scale=1.2)},
    "13c": {("vit", "base"): Kind(2)},
    "13d": {("vit-reparam", "base"): Kind(10)},
    "13e": {("vit-reparam", "base"): Kind(14)},
    "14a": {("vit-reparam", "redo"): Kind(0.5)},
    "14b": {("vit-reparam", "swr"): Kind(-2)},
    "15a": {("vit", "swr"): Kind(-1)},
    "15b": {("vit", "cbp"): Kind(5)},
    "16a": {("vit-nodecay-scaled", "base"): Kind(2)},
    "16b": {("vit-nodecay", "base"): Kind(1)},
    "16c": {("vit-nodecay", "base"): Kind(14)},
    "16d": {("vit-nodecay", "base"): Kind(6, scale=0.2)},
    "17a": {("vit-reparam", "redo"): Kind(3)},
    "17b": {("vit-reparam", "shrink-perturb"): Kind(4, queries=SHRINKING)},
    "17c": {("vit-reparam", "cbp"): Kind(3)},
    "17d": {("vit-reparam", "swr"): Kind(1.5, mlp=-20)},
    "17e": {("vit-reparam", "cbp"): Kind(3, mlp_mean=-20)},
    "18a": {("vit", "base"): Kind(10, order=1.0)},
    "18b": {("vit-scaled", "base"): Kind(16, order=-1.0)},
}


def judged(frame: pl.DataFrame, *ids: str) -> list[Verdict]:
    """The verdicts on some statements; all, where none is named."""
    return evaluate(Runs(frame, scope()), [BY_ID[name] for name in ids or BY_ID])


def only(statement: str, kinds: Mapping[tuple[str, str], Kind], **more) -> Verdict:
    """The verdict on one statement from just the runs that it needs."""
    quantities = [test.quantity for test in BY_ID[statement].tests]
    needed = {(setting, system) for q in quantities for setting in q.settings for system in q.systems}
    (verdict,) = judged(runs({key: kinds[key] for key in needed if key in kinds}, **more), statement)
    return verdict


@pytest.fixture(scope="module")
def as_in_the_paper() -> pl.DataFrame:
    return runs(AS_IN_THE_PAPER, seeds=range(24))


def test_what_the_paper_describes_holds(as_in_the_paper: pl.DataFrame) -> None:
    """That some diverge and others never do is of other runs: here none does."""
    verdicts = judged(as_in_the_paper)
    assert {v.id: v.grade for v in verdicts if v.id not in COUNTED} == dict.fromkeys(CONTRARY, CONFIRMED)
    assert all(v.p is not None and v.p_holm is not None and v.p <= v.p_holm for v in verdicts)
    assert all("24 seeds × 20 tasks" in v.reason for v in verdicts)


@pytest.mark.parametrize("statement", CONTRARY)
def test_the_contrary_fails(statement: str) -> None:
    verdict = only(statement, {**AS_IN_THE_PAPER, **CONTRARY[statement]}, seeds=range(24))
    assert verdict.grade == CONTRADICTED, verdict.reason


def test_every_claim_from_13_to_18_has_statements_of_its_own() -> None:
    assert sorted(BY_ID) == sorted([*CONTRARY, *COUNTED]) and len(BY_ID) == len(STATEMENTS)
    assert {int(re.sub(r"\D", "", name)) for name in BY_ID} == set(range(13, 19))


def diverging(system: str, lost: int, of: int) -> pl.DataFrame:
    """So many of some runs diverge on their last task."""
    return pl.concat(
        [run("vit-reparam", system, tasks=4, seed=s, diverged_at=3 if s < lost else None) for s in range(of)]
    )


def test_some_diverge_where_one_did_and_never_needs_many_runs() -> None:
    three = [diverging(system, 1, 5) for system in ("base", "cbp", "redo")]
    assert judged(pl.concat(three), "14d")[0].grade == CONFIRMED
    for of, said in ((5, UNDECIDED), (20, UNDECIDED), (120, CONTRADICTED)):
        two = [*three[:2], diverging("redo", 0, of)]
        assert judged(pl.concat(two), "14d")[0].grade == said, of
    for lost, of, said in ((0, 5, UNDECIDED), (0, 20, CONFIRMED), (1, 20, CONTRADICTED)):
        frame = pl.concat([diverging("shrink-perturb", 0, of), diverging("swr", lost, of)])
        (verdict,) = judged(frame, "14c")
        assert verdict.grade == said, (lost, of)
    assert verdict.effect and verdict.p == SMALLEST_P and verdict.effect.value == 1 / 20
    assert (verdict.effect.low, verdict.effect.high) == pytest.approx((0.00127, 0.2487), rel=1e-2)
    (verdict,) = judged(pl.concat([diverging(s, 0, 20) for s in ("shrink-perturb", "swr")]), "14c")
    assert verdict.p == pytest.approx(2 * (1 - NEVER) ** 20)


def test_the_last_gap_is_paired_by_seed() -> None:
    """By hand: base 3, 4 and 5 points below its own fresh network, whose levels lie far apart."""
    parts = []
    for seed, (level, gap) in enumerate(((0.9, 0.03), (0.5, 0.04), (0.7, 0.05))):
        parts.append(run("vit", "scratch", tasks=4, seed=seed, best_test_accuracy=level))
        parts.append(run("vit", "base", tasks=4, seed=seed, best_test_accuracy=[level] * 3 + [level - gap]))
    (effect,) = last_gap("vit", "base").measure(Runs(pl.concat(parts), scope())).effects
    assert effect.value == pytest.approx(-4) and effect.error == pytest.approx(1 / np.sqrt(3))
    assert (effect.seeds, effect.tasks) == (3, 4)


def test_rates_and_correlations_are_scipys() -> None:
    frame = runs({("vit", "base"): Kind(queries=-20, order=0.5)}, seeds=range(3))
    stored = Runs(frame, scope())
    by_seed = frame["qk_median_last"].to_numpy().reshape(3, 20)
    slopes = [scipy_stats.linregress(range(20), np.log(row)).slope for row in by_seed]
    (effect,) = rate("vit", "base", "qk_median_last", "").measure(stored).effects
    assert effect.value == pytest.approx(100 * np.expm1(slopes).mean()) and abs(effect.value + 20) < 0.3
    final = frame.filter(pl.col("task") == 19)["class_accuracy"].to_list()
    rho = [scipy_stats.spearmanr(range(100), row)[0] for row in final]
    (effect,) = class_order("vit").measure(stored).effects
    assert effect.value == pytest.approx(np.mean(rho))


def test_the_permutation_test_is_scipys() -> None:
    accuracy = np.random.default_rng(1).normal(size=(1, 100)) + 0.002 * np.arange(100)

    def statistic(places: np.ndarray) -> float:
        return scipy_stats.spearmanr(places, accuracy[0])[0]

    expected = scipy_stats.permutation_test(
        (np.arange(100),), statistic, permutation_type="pairings", n_resamples=400, rng=np.random.default_rng(0)
    ).pvalue
    assert permutation_p(accuracy) == pytest.approx(expected, abs=0.07)


def test_no_order_is_seldom_taken_for_one() -> None:
    rng = np.random.default_rng(0)
    p_values = np.array([permutation_p(rng.normal(size=(5, 20)), draws=199) for _ in range(200)])
    assert 0.01 <= np.mean(p_values <= 0.05) <= 0.10  # 0.05 expected, three standard errors


def test_without_runs_every_statement_names_a_command_that_the_laboratory_takes() -> None:
    options = "--width 24 --depth 2"
    for verdict in evaluate(Runs(pl.DataFrame(), scope()), STATEMENTS, options):
        assert verdict.grade == NOT_RUN and verdict.reason.startswith("missing: ")
        words = re.fullmatch(
            r"regrow run vit-cifar --settings (.+) --systems (.+) --tasks 20 --seeds 5 --out results/claim-(\S+) (.+)",
            verdict.command,
        )
        assert words and (words[3], words[4]) == (verdict.id, options)
        choose("vit-cifar", words[1].split(), words[2].split())


@pytest.mark.parametrize(
    ("seeds", "tasks", "says"),
    [
        (2, 20, "missing: base in vit and fresh network in vit: 2 of the 3 seeds needed, with 4 tasks in all"),
        (5, 3, "missing: base in vit: 3 of the 4 tasks needed"),
    ],
)
def test_few_runs_are_not_enough(seeds: int, tasks: int, says: str) -> None:
    kinds = {("vit", system): AS_IN_THE_PAPER["vit", system] for system in ("base", "scratch")}
    (verdict,) = judged(runs(kinds, range(seeds), tasks=tasks), "13c")
    assert (verdict.grade, verdict.reason) == (NOT_RUN, says)


def test_shorter_runs_say_so() -> None:
    verdict = only("13c", AS_IN_THE_PAPER, tasks=4)
    assert verdict.grade == CONFIRMED and "judged over 4 tasks; the paper's statement is of 20" in verdict.notes
    assert not any("judged over" in note for note in only("13c", AS_IN_THE_PAPER).notes)


def test_a_diverged_run_stays_in_at_chance_and_out_of_measures_of_weights() -> None:
    kinds = {("vit", "base"): Kind(10), ("vit", "scratch"): Kind()}
    lost = run("vit", "base", Kind(10), seed=8, diverged_at=10)
    frame = pl.concat([runs(kinds), lost, run("vit", "scratch", seed=8)])
    gap, scale = judged(frame, "13c", "13a")
    assert "base in vit: 1 of 9 runs diverged; they stay in, at chance" in gap.notes
    assert gap.effect and gap.effect.seeds == 9 and gap.effect.value == pytest.approx((8 * -10 - 59) / 9, abs=0.4)
    assert "base in vit: 1 of 9 runs left out, diverged or without ln_scale" in scale.notes
    assert scale.effect and scale.effect.seeds == 8
    (accuracy,) = [r.measure("best_test_accuracy") for r in Runs(lost, scope()).main("vit", "base")]
    np.testing.assert_allclose(accuracy[10:], 100 / (5 * np.arange(11, 21)))


def test_other_values_than_the_chosen_are_noted() -> None:
    config = {**chosen("vit", "base"), "decay": 1e-5}
    frame = pl.concat([run("vit", "base", Kind(scale=0.1), seed=seed, config=config) for seed in range(3)])
    (verdict,) = judged(frame, "13a")
    assert verdict.grade == CONFIRMED and "base in vit: not the chosen values" in verdict.notes
    short = {"config": scaled(chosen("vit-reparam", "swr"), 0.1), "seed": 0}
    assert Runs(run("vit-reparam", "swr", **short), scope(ratio=0.1)).main("vit-reparam", "swr")


def test_the_other_optimizer_is_another_scope() -> None:
    frame = pl.concat([run("vit", "base", optimizer=way) for way in ("authors", "clean")])
    authors, clean = (Runs(frame, scope(way)).main("vit", "base") for way in ("authors", "clean"))
    assert [r.config["optimizer"] for r in (*authors, *clean)] == ["authors", "clean"]


def test_json_holds_every_claim_in_finite_numbers() -> None:
    frame = pl.concat([diverging("base", 1, 5), diverging("scratch", 0, 5)])
    content = json.loads(to_json(judged(frame), VIT_MARGINS), parse_constant=lambda name: pytest.fail(name))
    assert [claim["id"] for claim in content["claims"]] == list(BY_ID)
    assert content["claims"][0]["claim"] == 13 and content["margins"]["never"]["value"] == NEVER
