"""Stored rows as runs: which count, how far, and from which folder."""

import polars as pl
import pytest
from results_frames import LOST, Kind, run, runs, sweep
from statements import FALLING, FLAT

from regrow.report.runs import Runs


def test_a_run_counts_up_to_its_first_gap() -> None:
    whole = run("large", "base", LOST, 300)
    for broken in (
        whole.filter(pl.col("task") != 230),
        whole.with_columns(
            online_accuracy=pl.when(pl.col("task") == 230).then(None).otherwise(pl.col("online_accuracy"))
        ),
        pl.concat([whole.head(230), whole.head(50)]),
    ):
        assert Runs(broken).main("large", "base")[0].tasks == 230


def test_of_a_sweep_and_a_long_run_the_long_run_is_the_system() -> None:
    small = sweep("large", "swr", lambda c: 90.0, tasks=30, seeds=range(2))
    long = runs({("large", "swr"): Kind(92.8)}, tasks=200, seeds=range(2))
    both = Runs(pl.concat([small, long]))
    assert {r.tasks for r in both.main("large", "swr")} == {200} and len(both.configs("large", "swr")) == 36
    papers = Runs(small).main("large", "swr")  # all as long: the paper's values
    assert (papers[0].config["every"], papers[0].config["factor"]) == (2048, 1e-5)
    others = small.filter(pl.col("config_id") != papers[0].config_id)
    assert Runs(others).main("large", "swr") == ()


def test_a_run_is_of_one_study() -> None:
    one = run("large", "base", FLAT, 100, study="initial-assessment")
    two = run("large", "base", FALLING, 220, study="weights-vs-units")
    (taken,) = Runs(pl.concat([one, two])).main("large", "base")
    assert (taken.study, taken.tasks) == ("weights-vs-units", 220)


def test_a_run_is_of_one_folder() -> None:
    """Two folders with one member, one after the other: their tasks are not mixed."""
    short, long = run("large", "base", Kind(90.0), 200), run("large", "base", Kind(80.0), 300)
    for frame in (pl.concat([short, long]), pl.concat([long, short])):
        (taken,) = Runs(frame).main("large", "base")
        assert taken.tasks == 300 and taken.measure("online_accuracy")[:200].mean() == pytest.approx(80, abs=0.1)
