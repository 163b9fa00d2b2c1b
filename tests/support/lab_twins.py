"""A slow twin of the laboratory: one network trained alone, in a plain loop with the library's own maintainers."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.nn import functional as F

import regrow
from regrow.core import random, select, utility
from regrow.lab.data.mnist import load_digits_images
from regrow.lab.mlp.trainer import Trainer
from regrow.lab.nets import MLP
from regrow.lab.problems.permuted import Course, PermutedImages
from regrow.lab.studies import Member, Setting, StackPlan

SHARED = {"step_size", "decay", "noise_variance", "momentum", "beta1", "beta2", "source", "pixels"}
"""Keys of a config that are no maintainer's."""


class Told(NamedTuple):
    """What the loop tells of a task, as the paper counts: of each batch before its update. Weights are of its end."""

    online_accuracy: float
    loss: float
    weights: dict[str, torch.Tensor]


def plain_optimizer(net, config, kind):
    if kind == "adamw":
        betas = config["beta1"], config["beta2"]
        return torch.optim.AdamW(net.parameters(), config["step_size"], betas, weight_decay=0.0)
    return torch.optim.SGD(net.parameters(), config["step_size"], momentum=config.get("momentum", 0.0))


def plain_maintainers(net, system, config, seed, units_read):
    if config["decay"]:
        shrink, noise = config["decay"], config["noise_variance"]
        return [regrow.ShrinkPerturb(net, shrink=shrink, noise_variance=noise, seed=seed)]
    knobs = {key: value for key, value in config.items() if key not in SHARED}
    common = {"clear_moments": False, "seed": seed}
    if system == "swr-silent-input":
        return [regrow.SilentInput(net, **knobs, **common)]
    if system.startswith("swr"):
        return [regrow.SWR(net, **knobs, **common)]
    if system in ("cbp", "redo"):
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

    def __init__(self, net, method, config, seed):
        self.net, self.method, self.config, self.seed, self.step = net, method, config, seed, 0
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
                    random.bits(random.key(self.seed, "cbp", 0, self.step, name, "order"), torch.arange(len(chosen)))
                )
                u = utility.contribution(activity, 1, above.weight.T)
                chosen = select.eligible_lowest(u, eligible, count, order=ranks)
                self.ages[i][chosen] = 0
        elif self.step % self.config["every"] == 0:
            chosen = activity <= self.config["threshold"] * activity.mean()
        for unit in chosen.nonzero().flatten().tolist():
            key = random.key(self.seed, self.method, 0, self.step, f"{name}.weight", "value")
            index = unit * layer.in_features + torch.arange(layer.in_features)
            law = self.net.init_laws()[f"{name}.weight"]
            layer.weight.data[unit] = law.draw(random.bits(key, index)).to(layer.weight.dtype)
            layer.bias.data[unit] = 0
            above.weight.data[:, unit] = 0
            norm = getattr(self.net, f"norm{i + 1}")
            if isinstance(norm, torch.nn.LayerNorm):
                norm.weight.data[unit], norm.bias.data[unit] = 1, 0


def fresh(setting: Setting, problem: PermutedImages, key: int, ln_position: str) -> MLP:
    generator = torch.Generator().manual_seed(key)
    return MLP(setting.hidden, setting.layer_norm, ln_position, problem.pixels, problem.classes, generator=generator)


def nudged(net: MLP, by: float) -> MLP:
    """The network with all parameters larger by this share."""
    for parameter in net.parameters():
        parameter.data.mul_(1 + by)
    return net


def shuffle_pixels(net, optimizer, maintainers, shuffle):
    """A new permutation of the pixels: the first layer's weights follow, and what is kept of them."""
    weight = net.fc1.weight
    kept = (value for value in optimizer.state[weight].values() if torch.is_tensor(value) and value.dim())
    for tensor in (weight.data, *kept):
        tensor.copy_(tensor[:, shuffle])
    for maintainer in maintainers:
        maintainer._loop.stacked.permute("fc1.weight", shuffle)


def plain_loop(
    plan: StackPlan,
    member: Member,
    problem: PermutedImages,
    tasks: int,
    dtype: torch.dtype = torch.float64,
    nudge: float = 0.0,
) -> Iterator[Told]:
    """Train one member of a stack alone, task by task; its networks begin `nudged`."""
    setting, config, system, seed = plan.setting, dict(member.config), member.system, plan.seed

    def begin(*purpose: int | str) -> MLP:
        return nudged(fresh(setting, problem, random.key(seed, *purpose), plan.ln_position).to(dtype), nudge)

    net = begin("initial")
    optimizer = plain_optimizer(net, config, setting.optimizer)
    maintainers = plain_maintainers(net, system, config, seed, plan.units_read)
    for maintainer in maintainers:
        maintainer.attach(optimizer)
    inside = AuthorsRenewal(net, system.split("-")[0], config, seed) if system.endswith("-authors") else None
    for number in range(tasks):
        task = problem.task(seed, number)
        shuffle_pixels(net, optimizer, maintainers, task.shuffle)
        if system == "scratch" and number:
            net.load_state_dict(begin("scratch", number).state_dict())
            optimizer = plain_optimizer(net, config, setting.optimizer)
        right, losses = 0, []
        for order, y in zip(task.order, task.labels):
            x = problem.inputs(order, problem.pixels).to(dtype)
            if inside:
                inside.step += 1
            logits = net(x)
            loss = F.cross_entropy(logits, y)
            right, losses = right + int((logits.argmax(1) == y).sum()), [*losses, loss.item()]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        yield Told(right / task.order.numel(), sum(losses) / len(losses), weights)


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
    "swr-silent-input": {"every": 70},
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


def plan_of(setting, systems, pixels="raw", **options):
    own = {} if pixels == "raw" else {"pixels": pixels}
    members = tuple(Member(system, config_of(setting, system) | own, SEED) for system in systems)
    return StackPlan("stack", setting, SEED, members, **options)


def trainer(plan, dtype=torch.float64):
    return Trainer(plan, load_digits_images(), course=COURSE, dtype=dtype)
