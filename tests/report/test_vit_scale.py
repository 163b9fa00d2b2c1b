"""Statements that runs smaller than the paper's cannot judge are left undecided, and say why."""

from pathlib import Path

import polars as pl
import pytest
from vit_frames import AS_IN_THE_PAPER, run

from regrow.lab.studies.vit_values import chosen, scaled
from regrow.lab.vit.matching import matched_decay, updates
from regrow.report.claims import CONFIRMED, NOT_RUN, UNDECIDED
from regrow.report.claims.scale import ACCUMULATED, AT_BOUNDARIES, factors
from regrow.report.claims.verdict import Verdict
from regrow.report.claims.vit import STATEMENTS
from regrow.report.page.part_vit import judge
from regrow.report.results import Folder
from regrow.report.results_vit import Scale, combine

TASKS, PEAK = 5, 0.01
SHORT = {"width": 48, "depth": 2, "epochs_per_task": 10, "images_per_class": 90}
MATCHED = {"width": 48, "depth": 2, "epochs_per_task": 40, "matched": True}


def verdicts(size: dict[str, int | bool], optimizer: str = "authors", tasks: int = TASKS) -> dict[str, Verdict]:
    """The verdicts on runs whose curves are the paper's, trained at this size."""
    scale, rows = Scale.of(size), []
    for (setting, system), kind in AS_IN_THE_PAPER.items():
        config = scaled(chosen(setting, system, optimizer), scale.ratio)
        if scale.matched and setting in ("vit", "vit-reparam"):
            of_tasks = updates(tasks, scale.epochs_per_task)
            config = {**config, "decay": matched_decay(float(config["decay"]), PEAK, of_tasks), "source": "ours"}
        rows += [run(setting, system, kind, tasks, seed, optimizer, config=config) for seed in range(5)]
    return {v.id: v for v in judge(combine([Folder(Path("made"), {"config": size}, pl.concat(rows), {})]))}


def test_every_statement_that_rests_on_scale_is_one() -> None:
    assert {*ACCUMULATED, *AT_BOUNDARIES} == {s.id for s in STATEMENTS} - {"18a", "18b"}


def test_at_the_papers_size_nothing_is_held_back() -> None:
    assert not [v.reason for v in verdicts({}, tasks=20).values() if "not at scale" in v.reason]


def test_what_accumulates_is_counted_over_the_run_and_boundaries_over_a_task() -> None:
    fewer = verdicts({})  # 5 tasks of the paper's length: 15 of 210 parts of its updates
    assert fewer["13a"].reason.startswith("not at scale: ") and "7.1 % of the paper's updates" in fewer["13a"].reason
    assert fewer["13c"].grade == CONFIRMED
    half = verdicts({"epochs_per_task": 50}, tasks=20)
    assert half["13a"].grade == CONFIRMED


def test_short_tasks_judge_neither_boundaries_nor_decay() -> None:
    short = verdicts(SHORT)
    for name in (*ACCUMULATED, *AT_BOUNDARIES):
        assert short[name].grade in (UNDECIDED, NOT_RUN) and (short[name].p, short[name].p_holm) == (None, None), name
        assert short[name].grade == NOT_RUN or short[name].reason.startswith("not at scale: "), name
    assert "0.14 % of the paper's updates" in short["13a"].reason
    assert "multiplies weights by −4.28 to −3.08, at the paper's size by −0.47 to −0.37" in short["13d"].reason
    assert short["13d"].effect is not None


def test_matched_boundaries_are_judged_but_not_what_accumulates() -> None:
    matched = verdicts(MATCHED)
    assert {matched[name].grade for name in ("13b", "13c", "13d", "14b")} == {CONFIRMED}
    assert "it rests on decay accumulated over the whole run" in matched["13a"].reason
    assert matched["17a"].grade == UNDECIDED


def test_an_optimizer_that_clears_its_buffer_is_no_judge_of_boundaries() -> None:
    clean = verdicts(SHORT, "clean")
    assert "multiplies weights by 1.00, at the paper's size by −0.47 to −0.37" in clean["13d"].reason
    assert clean["13c"].grade == CONFIRMED  # with the standard norm the paper's factors are near 1, too
    assert clean["13a"].reason.startswith("not at scale: ")


@pytest.mark.parametrize(("decay", "paper"), [(6e-6, (-0.47, -0.40, -0.38, -0.37)), (2e-6, (0.51, 0.53, 0.54, 0.54))])
def test_factors_are_those_of_the_size(decay: float, paper: tuple[float, ...]) -> None:
    assert factors(decay, PEAK, TASKS, Scale()) == pytest.approx(paper, abs=0.006)
    assert factors(decay, PEAK, TASKS, Scale(images_per_class=450)) == factors(decay, PEAK, TASKS, Scale())
    assert max(map(abs, factors(6e-6, PEAK, TASKS, Scale.of(SHORT)))) > 3
