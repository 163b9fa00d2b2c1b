"""On real MNIST, over twenty tasks of the paper, every system is what an independent slow loop makes of it."""

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from lab_twins import Told, plain_loop

from regrow.lab.data.mnist import load_mnist
from regrow.lab.mlp.trainer import Trainer
from regrow.lab.problems.permuted import MNIST, PermutedImages
from regrow.lab.studies import SETTINGS, Member, StackPlan
from regrow.lab.studies.permuted_values import chosen

TASKS, SEED = 20, 7
NUDGE = 1e-13  # as far as rounding takes weights within a few updates
BAR = 0.005  # of mean accuracies
SYSTEMS = (
    "base", "l2", "shrink-perturb", "cbp", "redo", "swr", "cbp-authors", "redo-authors", "scratch",
    "swr-magnitude-proportional-mean", "swr-random-threshold-resample",
)  # fmt: skip


def stacked(plan: StackPlan, problem: PermutedImages) -> Iterator[Told]:
    """What the laboratory makes of a stack's second member."""
    trainer = Trainer(plan, problem, dtype=torch.float64)
    for _ in range(TASKS):
        _, row = trainer.run_task()
        weights = {name: stack[1].clone() for name, stack in trainer.net.parameters.items()}
        yield Told(row["online_accuracy"], row["loss"], weights)


def parted(some: Sequence[Told], others: Sequence[Told]) -> set[int]:
    """Tasks at which two are not the same but for rounding."""
    return {task for task, (one, other) in enumerate(zip(some, others, strict=True)) if not alike(one, other)}


def alike(one: Told, other: Told) -> bool:
    """Accuracies to one image of 60,000, losses to what float32 tells, weights to far more than rounding."""
    close = abs(one.online_accuracy - other.online_accuracy) < 2e-5 and math.isclose(one.loss, other.loss, rel_tol=1e-5)
    pairs = ((one.weights[name], weight) for name, weight in other.weights.items())
    return close and all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def mean(told: Sequence[Told]) -> float:
    return statistics.mean(each.online_accuracy for each in told)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("setting", ["large", "large-ln", "small", "small-ln"])
def test_twenty_tasks_equal_a_slow_loop(setting: str, system: str, real_mnist: Path) -> None:
    """The paper's values, 40,000 updates in float64; the stack's other member shall not be noticed.

    As a rule rounding does not grow: weights were seen to differ by 2e-14, in `small-ln` by 1e-10. Some networks of ten
    normalised units are chaotic at first, though: rounding grows to 0.1 in 200 updates. They are told by a second loop
    that begins a `NUDGE` away, and at tasks where the loops part, the stack may too. An accuracy of such a task has a
    standard deviation of some 1.4 percentage points, and the mean over all tasks can still tell 0.5.
    """
    own, other = (Member(name, chosen(setting, name), SEED) for name in (system, "swr-random-proportional-mean"))
    plan = StackPlan("stack", SETTINGS[setting], SEED, (other, own))
    problem = PermutedImages(load_mnist(real_mnist)[0], MNIST)
    lab, slow = list(stacked(plan, problem)), list(plain_loop(plan, own, problem, TASKS))
    if apart := parted(lab, slow):
        assert apart <= parted(list(plain_loop(plan, own, problem, TASKS, nudge=NUDGE)), slow)
        assert mean(lab) == pytest.approx(mean(slow), abs=BAR)
