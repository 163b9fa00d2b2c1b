"""Ties by position are those of the authors' code: a stable sort of the flattened tensor, by input slots."""

import pytest
import torch
from lab_twins import COURSE, SEED, SETTINGS, config_of, fresh
from torch.nn import functional as F

from regrow.core import random
from regrow.lab.data.mnist import load_digits_images
from regrow.lab.mlp.trainer import Trainer
from regrow.lab.studies import Member, StackPlan

TASKS, EVERY, FACTOR = 3, 70, 0.3
RANDOM, POSITION = {}, {"ties": "position"}


def plan(setting, reinits, ties):
    common = {"utility": "gradient", "prune": "proportional", "every": EVERY, "factor": FACTOR}
    config = config_of(SETTINGS[setting], "base") | common | ties
    suffix = "-authors" if ties else ""
    members = [
        Member(f"swr-gradient-proportional-{reinit}{suffix}", config | {"reinit": reinit}, SEED) for reinit in reinits
    ]
    return StackPlan("stack", SETTINGS[setting], SEED, tuple(members))


def trained(setting, reinits, ties, dtype=torch.float64, tasks=TASKS):
    lab = Trainer(plan(setting, reinits, ties), load_digits_images(), course=COURSE, dtype=dtype)
    return lab, [lab.run_task() for _ in range(tasks)]


class Slots:
    """As the authors train: pixels are permuted, weights stay where they are, and argsort of all entries is stable."""

    def __init__(self, setting, reinit, problem):
        self.net = fresh(SETTINGS[setting], problem, random.key(SEED, "initial"), "after").double()
        self.laws, self.reinit, self.problem = self.net.init_laws(), reinit, problem
        self.slots, self.step = torch.arange(problem.pixels), 0
        self.step_size = config_of(SETTINGS[setting], "base")["step_size"]

    def run_task(self, number):
        task = self.problem.task(SEED, number)
        self.slots = self.slots[task.shuffle]  # of each stored pixel
        for order, y in zip(task.order, task.labels):
            stored = self.problem.inputs(order, self.problem.pixels).double()
            x = torch.empty_like(stored)
            x[:, self.slots] = stored
            self.step += 1
            self.net.zero_grad()
            F.cross_entropy(self.net(x), y).backward()
            with torch.no_grad():
                for p in self.net.parameters():
                    p -= self.step_size * p.grad
                if self.step % EVERY == 0:
                    for name, p in self.net.named_parameters():
                        self.renew(name, p)

    def renew(self, name, p):
        u = (p * p.grad).abs().flatten()
        share = FACTOR * len(u)
        key = random.key(SEED, "swr", 0, self.step, name, "count")
        chance = random.uniform(random.bits(key, torch.zeros(1, dtype=torch.int64)))
        chosen = torch.argsort(u, stable=True)[: int(share) + bool(chance < share - int(share))]
        law = self.laws[name]
        new = torch.full_like(u, law.mean)
        if self.reinit == "resample":
            values = law.draw(random.bits(random.key(SEED, "swr", 0, self.step, name, "value"), torch.arange(len(u))))
            new = values.double().view_as(p)
            if name == "fc1.weight":  # draws are keyed by where the laboratory stores an entry
                new = new[:, self.slots.argsort()]
            new = new.flatten()
        p.flatten()[chosen] = new[chosen]


@pytest.mark.parametrize("setting", ["wide", "narrow", "wide-ln"])
def test_a_stack_equals_a_loop_that_permutes_pixels_and_sorts_stably(setting):
    reinits = ("resample", "mean")
    lab, rows = trained(setting, reinits, POSITION)
    assert all(row["renewed"] > 0 for task in rows for row in task)
    for i, reinit in enumerate(reinits):
        twin = Slots(setting, reinit, lab.problem)
        for number in range(TASKS):
            twin.run_task(number)
        for name, p in twin.net.named_parameters():
            got = lab.net.parameters[name][i]
            expected = p.detach()[:, twin.slots] if name == "fc1.weight" else p.detach()
            torch.testing.assert_close(
                got, expected, rtol=1e-5, atol=1e-7, msg=lambda m, at=f"{reinit} {name}": f"{at}: {m}"
            )


def test_ties_at_random_choose_others():
    """Overlap of successive renewals: by position the same entries go again and again."""
    overlaps = {}
    for name, ties in (("random", RANDOM), ("position", POSITION)):
        _, rows = trained("wide", ("mean",), ties, torch.float32)
        overlaps[name] = rows[-1][0]["overlap"]
    assert overlaps["position"] > overlaps["random"] + 0.1, overlaps


def test_a_resumed_stack_knows_its_slots():
    one, _ = trained("wide", ("mean",), POSITION, torch.float32, tasks=1)
    state = one.state_dict()
    other, _ = trained("wide", ("mean",), POSITION, torch.float32, tasks=0)
    other.load_state_dict(state)
    assert one.run_task() == other.run_task()
    assert all(torch.equal(w, other.net.parameters[name]) for name, w in one.net.parameters.items())
    old = {key: value for key, value in state.items() if key != "slots"}  # as versions before this one stored it
    other.load_state_dict(old)
    assert not torch.equal(one.net.slots, torch.arange(64))
