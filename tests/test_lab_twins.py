"""A member of a stack is a plain PyTorch loop with the library's own maintainers, for every system and setting."""

import itertools

import pytest
import torch
from lab_twins import plain_loop

from regrow.lab.data.mnist import load_digits_images
from regrow.lab.mlp.trainer import Trainer
from regrow.lab.problems.permuted import Course
from regrow.lab.studies import Member, Setting, StackPlan

COURSE = Course(images=1600, batch=16)  # three tasks of it are 300 updates
TASKS, SEED = 3, 5
SETTINGS = {
    "wide": Setting("wide", 40, False, "sgd"),
    "wide-ln": Setting("wide-ln", 40, True, "sgd"),
    "narrow": Setting("narrow", 10, False, "sgd"),
    "narrow-ln": Setting("narrow-ln", 10, True, "sgd"),
    "wide-sgdw": Setting("wide-sgdw", 40, False, "sgdw"),
    "wide-adamw": Setting("wide-adamw", 40, False, "adamw"),
}
UNITS = {
    "cbp": {"replacement_rate": 0.002, "maturity": 20, "utility": "contribution"},
    "redo": {"every": 16, "threshold": 0.3, "utility": "activation"},
}
SYSTEMS = {
    "base": {},
    "l2": {"decay": 1e-3},
    "shrink-perturb": {"decay": 1e-3, "noise_variance": 1e-6},
    "scratch": {},
    **UNITS,
    **{f"{name}-authors": config for name, config in UNITS.items()},
    **{
        f"swr-{'-'.join(kind)}": dict(zip(("utility", "prune", "reinit"), kind)) | {"every": 70, "factor": 0.3}
        for kind in itertools.product(
            ("gradient", "magnitude", "random"), ("threshold", "proportional"), ("resample", "mean")
        )
    },
}


def config_of(setting, system):
    optimizer = {
        # Ten normalised units and longer steps are chaotic: rounding grows from 1e-16 to 1 in 300 updates.
        "sgd": {"step_size": 0.01 if setting.name == "narrow-ln" else 0.05},
        "sgdw": {"step_size": 0.01, "momentum": 0.9},
        "adamw": {"step_size": 1e-3, "beta1": 0.9, "beta2": 0.999},
    }[setting.optimizer]
    return {"decay": 0.0, "noise_variance": 0.0, "source": "ours"} | optimizer | SYSTEMS[system]


def plan_of(setting, systems, **options):
    members = tuple(Member(system, config_of(setting, system), SEED) for system in systems)
    return StackPlan("stack", setting, SEED, members, **options)


def trainer(plan, dtype=torch.float64):
    return Trainer(plan, load_digits_images(), course=COURSE, dtype=dtype)


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


def test_norm_before_the_activation_equals_a_plain_loop():
    systems = ["base", "cbp", "redo", "swr-gradient-threshold-resample"]
    check_equal(plan_of(SETTINGS["wide-ln"], systems, ln_position="before"))


def test_units_read_after_the_norm_equal_a_plain_loop():
    check_equal(plan_of(SETTINGS["wide-ln"], ["cbp", "redo"], units_read="after"))
