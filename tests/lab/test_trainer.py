"""A member of a stack is a plain PyTorch loop with the library's own maintainers, for every system and setting."""

import json

import pytest
import torch
from lab_twins import SETTINGS, SYSTEMS, TASKS, plain_loop, plan_of, trainer


def check_equal(plan):
    lab = trainer(plan)
    rows = [lab.run_task() for _ in range(TASKS)]
    for i, member in enumerate(plan.members):
        told = list(plain_loop(plan, member, lab.problem, TASKS))
        for name, weight in told[-1].weights.items():
            got, at = lab.net.parameters[name][i], f"{member.system}, {name}"
            # Rounding (1e-16) grows a billionfold in 300 updates where layer norm divides by small deviations.
            torch.testing.assert_close(got, weight, rtol=1e-4, atol=1e-5, msg=lambda m, at=at: f"{at}: {m}")
        for task, own in enumerate(told):
            assert rows[task][i]["online_accuracy"] == pytest.approx(own.online_accuracy, abs=1e-12), member.system
            assert rows[task][i]["loss"] == pytest.approx(own.loss, rel=1e-5), member.system
    return rows


@pytest.mark.parametrize("setting", ["wide", "wide-ln", "narrow", "narrow-ln"])
def test_every_system_equals_a_plain_loop(setting):
    rows = check_equal(plan_of(SETTINGS[setting], list(SYSTEMS)))
    renewed = {row["system"]: sum(r[i]["renewed"] for r in rows) for i, row in enumerate(rows[0])}
    quiet = {"base", "l2", "shrink-perturb", "scratch"}
    assert all((count > 0) == (system not in quiet) for system, count in renewed.items()), renewed


@pytest.mark.parametrize("setting", ["wide-sgdw", "wide-adamw"])
def test_other_optimizers_equal_a_plain_loop(setting):
    check_equal(
        plan_of(
            SETTINGS[setting], ["base", "scratch", "cbp", "redo", "swr-gradient-threshold-resample", "redo-authors"]
        )
    )
    if setting == "wide-sgdw":
        check_equal(plan_of(SETTINGS[setting], ["l2", "shrink-perturb"]))


@pytest.mark.parametrize("setting", ["wide", "narrow"])
def test_standardized_pixels_equal_a_plain_loop(setting):
    """No input is 0, so no weight is left out of a product, and no gradient is exactly 0 for that."""
    systems = ["base", "swr-gradient-threshold-resample", "swr-silent-input", "redo"]
    plan = plan_of(SETTINGS[setting], systems, pixels="standardized")
    rows = check_equal(plan)
    raw = check_equal(plan_of(SETTINGS[setting], systems))
    assert rows[-1][2]["renewed"] < raw[-1][2]["renewed"] and rows[-1][1]["renewed_zero"] < raw[-1][1]["renewed_zero"]
    assert all("pixels" in json.loads(row["config"]) for row in rows[0])


def test_norm_before_the_activation_equals_a_plain_loop():
    systems = ["base", "cbp", "redo", "swr-gradient-threshold-resample"]
    check_equal(plan_of(SETTINGS["wide-ln"], systems, ln_position="before"))


def test_units_read_after_the_norm_equal_a_plain_loop():
    check_equal(plan_of(SETTINGS["wide-ln"], ["cbp", "redo"], units_read="after"))
