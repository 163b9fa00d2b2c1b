"""A member of a stack is a plain PyTorch loop with the library's own maintainers, for every system and setting."""

import itertools

import pytest
import torch
from torch.nn import functional as F

import regrow
from regrow.core import random, select, utility
from regrow.lab.nets import MLP
from regrow.lab.problems.data import load_digits_images
from regrow.lab.problems.permuted import Course, PermutedImages
from regrow.lab.studies import Member, Setting, StackPlan
from regrow.lab.train import Trainer

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


# The twin.


def plain_optimizer(net, config, kind):
    if kind == "adamw":
        betas = config["beta1"], config["beta2"]
        return torch.optim.AdamW(net.parameters(), config["step_size"], betas, weight_decay=0.0)
    return torch.optim.SGD(net.parameters(), config["step_size"], momentum=config.get("momentum", 0.0))


def plain_maintainers(net, system, config, units_read):
    if config["decay"]:
        shrink, noise = config["decay"], config["noise_variance"]
        return [regrow.ShrinkPerturb(net, shrink=shrink, noise_variance=noise, seed=SEED)]
    knobs = {k: config[k] for k in config if k in SYSTEMS[system]}
    common = {"clear_moments": False, "seed": SEED}
    if system.startswith("swr"):
        return [regrow.SWR(net, **knobs, **common)]
    if system in UNITS:
        common["units"] = units_of(net, units_read)
        maker = regrow.ContinualBackprop if system == "cbp" else regrow.ReDo
        return [maker(net, **knobs, **common)]
    return []


def units_of(net, read):
    """The units of an MLP; the activation is what flows into the norm, or out of it."""
    found = regrow.find_units(net)
    if read == "before":
        return found
    return [
        regrow.Units(u.weight_in, u.bias, u.norm, u.weight_out, activation=f"norm{i}") for i, u in enumerate(found, 1)
    ]


class AuthorsRenewal:
    """CBP and ReDo inside the backward pass, as the authors wrote them: a full backward hook after each activation."""

    def __init__(self, net, method, config):
        self.net, self.method, self.config, self.step = net, method, config, 0
        self.ages = [torch.zeros(net.fc1.out_features) for _ in range(3)]
        self.owed = [0.0] * 3
        self.seen = [torch.empty(0)] * 3
        for i in range(3):
            norm = getattr(net, f"norm{i + 1}")
            norm.register_forward_pre_hook(lambda module, args, i=i: self.see(i, args[0]))
            norm.register_full_backward_hook(lambda module, grad_in, grad_out, i=i: self.renew(i))

    def see(self, i, h):
        self.seen[i] = h.detach()

    @torch.no_grad()
    def renew(self, i):
        layer = (self.net.fc1, self.net.fc2, self.net.fc3)[i]
        above = (self.net.fc2, self.net.fc3, self.net.out)[i]
        name, activity = f"fc{i + 1}", self.seen[i].abs().mean(0)
        chosen = torch.zeros(len(activity), dtype=torch.bool)
        if self.method == "cbp":
            self.ages[i] += 1
            eligible = self.ages[i] > self.config["maturity"]
            self.owed[i] += self.config["replacement_rate"] * int(eligible.sum())
            count = int(self.owed[i])
            if count:
                self.owed[i] -= count
                ranks = random.order(
                    random.bits(random.key(SEED, "cbp", 0, self.step, name, "order"), torch.arange(len(chosen)))
                )
                u = utility.contribution(activity, 1, above.weight.T)
                chosen = select.eligible_lowest(u, eligible, count, order=ranks)
                self.ages[i][chosen] = 0
        elif self.step % self.config["every"] == 0:
            chosen = activity <= self.config["threshold"] * activity.mean()
        for unit in chosen.nonzero().flatten().tolist():
            key = random.key(SEED, self.method, 0, self.step, f"{name}.weight", "value")
            index = unit * layer.in_features + torch.arange(layer.in_features)
            law = self.net.init_laws()[f"{name}.weight"]
            layer.weight.data[unit] = law.draw(random.bits(key, index)).double()
            layer.bias.data[unit] = 0
            above.weight.data[:, unit] = 0
            norm = getattr(self.net, f"norm{i + 1}")
            if isinstance(norm, torch.nn.LayerNorm):
                norm.weight.data[unit], norm.bias.data[unit] = 1, 0


def fresh(setting, problem, key, ln_position):
    generator = torch.Generator().manual_seed(key)
    return MLP(setting.hidden, setting.layer_norm, ln_position, problem.pixels, problem.classes, generator=generator)


def plain_loop(plan, member):
    """One network trained alone; returns it and its online accuracy and loss per task."""
    setting, config, system = plan.setting, dict(member.config), member.system
    problem = PermutedImages(load_digits_images(), COURSE)
    net = fresh(setting, problem, random.key(SEED, "initial"), plan.ln_position).double()
    optimizer = plain_optimizer(net, config, setting.optimizer)
    for maintainer in plain_maintainers(net, system, config, plan.units_read):
        maintainer.attach(optimizer)
    method = system.split("-")[0]
    inside = AuthorsRenewal(net, method, config) if system.endswith("-authors") else None
    measured = []
    for number in range(TASKS):
        task = problem.task(SEED, number)
        shuffled = [
            net.fc1.weight.data,
            *(v for v in optimizer.state[net.fc1.weight].values() if torch.is_tensor(v) and v.dim()),
        ]
        for tensor in shuffled:
            tensor.copy_(tensor[:, task.shuffle])
        if system == "scratch" and number:
            net.load_state_dict(
                fresh(setting, problem, random.key(SEED, "scratch", number), plan.ln_position).state_dict()
            )
            optimizer = plain_optimizer(net, config, setting.optimizer)
        right, losses = 0, []
        for order, y in zip(task.order, task.labels):
            x = problem.inputs(order, problem.pixels)
            if inside:
                inside.step += 1
            logits = net(x.double())
            loss = F.cross_entropy(logits, y)
            right, losses = right + int((logits.argmax(1) == y).sum()), [*losses, loss.item()]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        measured.append((right / task.order.numel(), sum(losses) / len(losses)))
    return net, measured


def check_equal(plan):
    lab = trainer(plan)
    rows = [lab.run_task() for _ in range(TASKS)]
    for i, member in enumerate(plan.members):
        net, measured = plain_loop(plan, member)
        for name, parameter in net.named_parameters():
            got, at = lab.net.parameters[name][i], f"{member.system}, {name}"
            # Rounding (1e-16) grows a billionfold in 300 updates where layer norm divides by small deviations.
            torch.testing.assert_close(got, parameter.data, rtol=1e-4, atol=1e-5, msg=lambda m, at=at: f"{at}: {m}")
        for task, (accuracy, loss) in enumerate(measured):
            assert rows[task][i]["online_accuracy"] == pytest.approx(accuracy, abs=1e-12), member.system
            assert rows[task][i]["loss"] == pytest.approx(loss, rel=1e-5), member.system
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
