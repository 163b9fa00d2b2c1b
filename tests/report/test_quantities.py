"""What is measured of runs: windows, references, and who is left out."""

import numpy as np
import polars as pl
import pytest
from results_frames import LOST, Kind, run, runs, sweep
from statements import BY_ID, FALLING, FLAT

from regrow.lab.studies.permuted_values import chosen
from regrow.report import windows
from regrow.report.claims import CONFIRMED, evaluate
from regrow.report.claims.correlates_quantities import growth, growth_later
from regrow.report.claims.quantities import ahead_of_best, drop, fall, fall_against
from regrow.report.claims.quantity import Quantity
from regrow.report.claims.sweeps import as_grid
from regrow.report.runs import Runs
from regrow.report.stats import Effect


def decisive(quantity: Quantity, frame: pl.DataFrame) -> Effect:
    """The effect that decides."""
    return quantity.measure(Runs(frame)).effects[0]


@pytest.mark.parametrize(
    ("tasks", "early", "late"),
    [(200, (20, 100), (120, 200)), (219, (20, 100), (139, 219)), (220, (20, 120), (120, 220))],
)
def test_windows_are_fixed_equal_and_apart(tasks: int, early: tuple[int, int], late: tuple[int, int]) -> None:
    assert windows.ends(tasks) == (slice(*early), slice(*late))
    weights = windows.end_minus_start(tasks)
    assert weights.sum() == pytest.approx(0) and weights[weights > 0].sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="two windows of 80 tasks after the first 20 need 180 tasks; got 179"):
        windows.ends(179)


def test_a_drop_is_between_fixed_windows_and_a_fall_from_the_first_tasks() -> None:
    """By hand: five tasks at 95 %, then 90 %, the last hundred at 88 %; one seed has its own spike elsewhere."""
    accuracy = np.repeat([0.90, 0.95, 0.90, 0.88], [1, 5, 94, 100])
    frame = pl.concat([run("large", "base", seed=seed, online_accuracy=accuracy) for seed in range(2)])
    spike = accuracy.copy()
    spike[30:35] = 0.99
    frame = pl.concat([frame, run("large", "base", seed=2, online_accuracy=spike)])
    quantity = drop("large", "base")
    assert decisive(quantity, frame).value == pytest.approx(-2 - 100 * 0.45 / 80 / 3)
    assert quantity.before is not None
    assert decisive(quantity.before, frame).value == pytest.approx(-(7 + 7 + 11) / 3)
    assert decisive(fall("large", "base"), frame).value == pytest.approx(-7)  # whatever the spike


def test_of_a_level_course_only_the_own_peak_is_biased() -> None:
    rng = np.random.default_rng(0)
    level = rng.normal(size=(400, 200))
    own = (windows.last_minus_own_peak(level) * level).sum(1)
    assert own.mean() < -0.8  # the best of 46 means of five, whose standard deviation is 0.45
    for weights in (windows.end_minus_peak(200), windows.end_minus_start(200)):
        values = level @ weights
        assert abs(values.mean()) < 4 * values.std() / 20


def test_a_fall_in_one_setting_against_another_is_paired_by_seed() -> None:
    parts = []
    for seed, (deep, shallow) in enumerate(((8.0, 2.0), (7.0, 2.0), (9.0, 2.0))):
        for setting, lost in (("small-ln", deep), ("small", shallow)):
            accuracy = np.repeat([0.85, 0.90, 0.90 - lost / 100], [10, 5, 185])
            parts.append(run(setting, "cbp", seed=seed, online_accuracy=accuracy))
    effect = decisive(fall_against("small-ln", "small", "cbp"), pl.concat(parts))
    assert effect.value == pytest.approx(-6) and effect.error == pytest.approx(1 / np.sqrt(3))


def test_correlates_are_compared_with_the_first_tasks() -> None:
    """Of what is measured before training with tasks 1 to 5, for task 0 has the untrained network."""
    course = np.concatenate([[50.0], np.full(9, 10.0), np.full(190, 5.0)])
    columns = {"rank99": course, "weight_magnitude": course, "dead_units": course / 100}
    frame = pl.concat([run("large", "base", seed=seed, **columns) for seed in range(3)])
    assert decisive(growth("large", "base", "rank99"), frame).value == pytest.approx(-50)
    assert decisive(growth("large", "base", "dead_units"), frame).value == pytest.approx(-5)
    assert decisive(growth("large", "base", "weight_magnitude"), frame).value == pytest.approx(100 * (5 / 18 - 1))
    assert decisive(growth_later("large", "base", "weight_magnitude"), frame).value == pytest.approx(0)


def test_the_best_of_others_is_the_one_that_is_best_on_the_whole() -> None:
    kinds = {("large", "swr"): FLAT, ("large", "l2"): Kind(93.0), ("large", "shrink-perturb"): Kind(91.0)}
    effect = decisive(ahead_of_best("large", "swr", "l2", "shrink-perturb"), runs(kinds))
    assert effect.value == pytest.approx(-1, abs=0.05)


def test_a_diverged_run_stays_in_at_chance_and_is_counted() -> None:
    kinds = {("large", system): Kind(92.0) for system in ("swr", "cbp", "redo")}
    lost = np.repeat([0.92, np.nan], [100, 100])
    diverged = run("large", "redo", seed=0, online_accuracy=lost, diverged=np.isnan(lost))
    frame = runs(kinds).filter(~((pl.col("system") == "redo") & (pl.col("seed") == 0)))
    (verdict,) = evaluate(pl.concat([frame, diverged]), [BY_ID["4b"]])
    assert "ReDo in large: 1 of 5 runs diverged; they stay in, at chance (10 %)" in verdict.notes
    ahead = next(part.effect for part in verdict.parts if "ReDo" in part.test.quantity.name)
    assert ahead and ahead.seeds == 5 and ahead.value == pytest.approx(82 / 2 / 5, abs=0.1)


def test_correlates_leave_diverged_runs_out_and_count_them() -> None:
    frame = pl.concat(
        [runs({("large", "base"): LOST}, seeds=range(1, 5)), run("large", "base", LOST, weight_magnitude=None)]
    )
    (verdict,) = evaluate(frame, [BY_ID["11a"]])
    assert any("base in large: 1 of 5 runs left out" in note for note in verdict.notes)
    seeds = {part.test.quantity.name: part.effect.seeds for part in verdict.parts if part.effect}
    assert seeds["base: change of mean |w|"] == 4 and seeds["base: change of mean |g|"] == 5
    blown_up = run("large", "base", LOST, diverged=np.arange(200) > 100)  # it has no dead units: NaN is not 0
    (verdict,) = evaluate(pl.concat([frame.filter(pl.col("seed") > 0), blown_up]), [BY_ID["11a"]])
    assert {part.effect.seeds for part in verdict.parts if part.effect} == {4}
    nothing = evaluate(frame.with_columns(rank99=pl.lit(None, pl.Int64)), [BY_ID["11a"]])[0]
    assert nothing.reason == "missing: no run of base in large has numbers for rank99 throughout"


def test_other_values_than_the_papers_are_noted() -> None:
    config = {**chosen("large", "base"), "step_size": 0.1}
    frame = pl.concat([run("large", "base", LOST, seed=seed, config=config) for seed in range(3)])
    (verdict,) = evaluate(frame, [BY_ID["1a"]])
    assert verdict.grade == CONFIRMED and "base in large: not the paper's values, or not MNIST" in verdict.notes


def test_neighbours_are_one_step_away_in_one_knob() -> None:
    grid_ = as_grid(Runs(sweep("large", "swr", lambda c: 90.0, seeds=[0])), "large", "swr")
    assert grid_ is not None and grid_.whole and len(grid_.configs) == 36
    assert sorted(grid_.neighbours((256, 1e-6))) == [(256, 1e-5), (512, 1e-6)]
    assert len(grid_.neighbours((1024, 1e-4))) == 4


def test_half_a_sweep_has_no_best_and_worst() -> None:
    one = sweep("large", "swr", lambda c: 92.5, 200)
    part = one.filter(pl.col("config_id") != one["config_id"][0])
    (verdict,) = evaluate(part, [BY_ID["10a"]])
    assert verdict.reason == "missing: swr in large: 35 of the 36 configs of its sweep"
    assert verdict.command.endswith(
        "--settings large --systems swr --tasks 200 --seeds 5 --sweep --out results/claim-10a"
    )
    (short,) = evaluate(one.filter(pl.col("task") < 19), [BY_ID["10a"]])
    assert short.reason == "missing: sweep in large: no seed with 20 tasks in all configs"


def test_a_fresh_network_of_few_tasks_is_the_yardstick() -> None:
    base = runs({("large", "base"): LOST}, tasks=200)
    scratch = runs({("large", "scratch"): Kind(90.5)}, tasks=20)
    (verdict,) = evaluate(pl.concat([base, scratch]), [BY_ID["1b"]])
    expected = 93 - 9 * 149.5 / 199 - 90.5
    assert verdict.grade == CONFIRMED and verdict.effect
    # A fresh network is as good on its last task as on its first; the made-up one needs some tasks.
    assert verdict.effect.value == pytest.approx(expected, abs=0.35)
    beside = evaluate(pl.concat([base, scratch]), [BY_ID["1a"]])[0].beside
    assert len(beside) == 1 and beside[0].startswith("base at the end minus a fresh network, large: −4")
    (unpaired,) = evaluate(pl.concat([base, scratch.with_columns(pl.col("seed") + 9)]), [BY_ID["1b"]])
    assert unpaired.reason == "missing: base and scratch in large: no seed in both"


def test_a_fresh_network_of_few_tasks_leaves_more_doubt() -> None:
    base = run("large", "base", LOST)
    errors = []
    for tasks in (10, 160):
        scratch = run("large", "scratch", Kind(90.5), tasks, noise=2.0)
        (verdict,) = evaluate(pl.concat([base, scratch]), [BY_ID["1b"]])
        assert verdict.effect and verdict.effect.basis == "tasks"
        errors.append(verdict.effect.error)
    assert errors[0] > 2 * errors[1] > 0


def test_the_authors_order_stands_beside() -> None:
    kinds = {("large-ln", "cbp"): FALLING, ("large-ln", "cbp-authors"): FLAT}
    (verdict,) = evaluate(runs(kinds), [BY_ID["5a"]])
    assert len(verdict.beside) == 1 and "end minus start, large-ln: " in verdict.beside[0]
