"""Small class-incremental problems, and slow twins of how a vision transformer is trained on them."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regrow
from regrow.core import random
from regrow.lab.data.cifar import LabelledImages
from regrow.lab.nets import ViT
from regrow.lab.problems.incremental import ClassIncremental
from regrow.lab.studies import VIT_SETTINGS, Member, StackPlan
from regrow.lab.studies.vit_values import chosen
from regrow.lab.vit.options import Options
from regrow.lab.vit.trainer import ViTTrainer
from regrow.laws import Constant, Uniform

SMALL: dict[str, Any] = {"epochs_per_task": 2, "images_per_class": 90, "width": 16, "depth": 2}
KNOBS: dict[str, dict[str, Any]] = {  # that renew something within a few updates
    "swr": {"every": 2, "factor": 0.5},
    "cbp": {"replacement_rate": 0.02, "maturity": 1},
    "redo": {"every": 2, "threshold": 0.7},
    "shrink-perturb": {"noise_variance": 1e-6},
}


def images(per_class: int, seed: int) -> LabelledImages:
    """Of each class a pattern of its own, and noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(100).repeat_interleave(per_class)
    pattern = F.interpolate(torch.randint(160, (100, 3, 4, 4), generator=generator).float(), size=32).byte()
    size = (len(labels), 3, 32, 32)
    noise = torch.randint(96, size, generator=generator.manual_seed(seed), dtype=torch.uint8)
    return LabelledImages(pattern[labels].add_(noise), labels)


@functools.cache
def problem() -> ClassIncremental:
    """Two classes a task: two updates an epoch in the first, four in the second."""
    return ClassIncremental(images(140, 1), images(4, 2), seed=0, classes_a_task=2)


def plan(system: str = "base", setting: str = "vit-reparam", seed: int = 3, **changed: Any) -> StackPlan:
    """One network of a system whose knobs act soon."""
    way = changed.pop("optimizer", "authors")
    config = dict(chosen(setting, system, way)) | KNOBS.get(system.removesuffix("-authors"), {}) | changed
    return StackPlan(f"{setting}.seed{seed}.0", VIT_SETTINGS[setting], seed, (Member(system, config, seed),))


def trainer(system: str = "base", options: Mapping[str, Any] | None = None, **changed: Any) -> ViTTrainer:
    return ViTTrainer(plan(system, **changed), problem(), options=Options(**SMALL | dict(options or {})))


class InsideTwin(nn.Module):
    """ReDo as the authors have it: a module after the activation whose full backward hook writes into `.data`.

    Random draws are the laboratory's, so that both renew with the same numbers.
    """

    def __init__(self, net: ViT, i: int, seed: int, every: int, threshold: float) -> None:
        super().__init__()
        block: Any = net.blocks[i]
        self.layers = (block.mlp.fc1, block.mlp.fc2)  # in a tuple, or they would be parts of this module
        self.name, self.seed, self.every, self.threshold = f"blocks.{i}.mlp.fc1", seed, every, threshold
        self.step = self.renewed = 0
        self.register_full_backward_hook(self.renew)

    def forward(self, h: Tensor) -> Tensor:
        self.h = h.detach()
        return h.clone()

    def renew(self, *_: Any) -> None:
        self.step += 1
        if self.step % self.every:
            return
        (into, out), utility = self.layers, self.h.abs().mean((0, 1))
        width, wide = into.in_features, (3 / into.in_features) ** 0.5
        for unit in (utility <= self.threshold * utility.mean()).nonzero().flatten().tolist():
            key = random.key(self.seed, "redo", 0, self.step, f"{self.name}.weight", "value")
            words = random.bits(key, torch.arange(unit * width, (unit + 1) * width))
            into.weight.data[unit] = Uniform(-wide, wide).draw(words).to(into.weight.dtype)
            into.bias.data[unit] = Constant(0.0).value
            out.weight.data[:, unit] = 0
            self.renewed += 1


def library(system: str, net: ViT, config: Mapping[str, Any], seed: int, optimizer: torch.optim.Optimizer) -> None:
    """What a user would write."""
    common: dict[str, Any] = {"seed": seed, "clear_moments": False}
    if system == "swr":
        regrow.SWR(net, every=config["every"], factor=config["factor"], **common).attach(optimizer)
    elif system == "cbp":
        rate, maturity = config["replacement_rate"], config["maturity"]
        regrow.ContinualBackprop(net, replacement_rate=rate, maturity=maturity, **common).attach(optimizer)
    elif system == "redo":
        regrow.ReDo(net, every=config["every"], threshold=config["threshold"], **common).attach(optimizer)
    elif system == "shrink-perturb":
        regrow.ShrinkPerturb(net, noise_variance=config["noise_variance"], seed=seed).attach(optimizer)


class Twin:
    """A plain loop: one network, torch's optimizer and scheduler, all tokens, no dropout.

    Shapes: as the trainer's. It keeps the losses of all updates and the test accuracies of all epochs.
    """

    def __init__(self, plan: StackPlan, options: Options) -> None:
        (member,) = plan.members
        setting: Any = plan.setting
        self.config, self.options, self.system = dict(member.config), options, member.system
        self.problem = problem().with_seed(plan.seed)
        generator = torch.Generator().manual_seed(int(random.key(plan.seed, "initial")))
        self.net = options.network(setting.norm, 0.0, generator).double()
        self.seed, self.losses, self.tests = plan.seed, [], []
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
        library(member.system, self.net, self.config, plan.seed, self.optimizer)
        self.inside: list[InsideTwin] = []
        if member.system == "redo-authors":
            for i, block in enumerate(self.net.blocks):
                found: Any = block
                hook = InsideTwin(self.net, i, plan.seed, self.config["every"], self.config["threshold"])
                found.mlp.dropout1 = hook
                self.inside.append(hook)

    def run_task(self, k: int) -> None:
        task, best, kept = self.problem.task(k), -1.0, {}
        total = self.options.epochs_per_task * self.problem.updates(k)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=0.01, anneal_strategy="linear", total_steps=total
        )
        self.rescale(scheduler)
        for epoch in range(self.options.epochs_per_task):
            self.net.train()
            for order, words in zip(self.problem.epoch(k, epoch), self.problem.words(k, epoch)):
                x, y = self.problem.batch(order, words)
                self.optimizer.zero_grad()
                loss = F.cross_entropy(self.answer(x, task.classes), (task.classes == y[:, None]).int().argmax(1))
                loss.backward()
                self.optimizer.step()
                scheduler.step()
                self.rescale(scheduler)
                self.losses.append(loss.item())
            self.net.eval()
            validation = self.accuracy(task.validation, task.classes)
            self.tests.append(self.accuracy(task.test, task.classes))
            if validation > best:
                best, kept = validation, {name: w.clone() for name, w in self.net.state_dict().items()}
        self.net.load_state_dict(kept)

    def rescale(self, scheduler: torch.optim.lr_scheduler.LRScheduler) -> None:
        rate = float(scheduler.get_last_lr()[0])
        if rate > 0:
            self.optimizer.param_groups[0]["weight_decay"] = self.config["decay"] / rate

    def answer(self, x: Tensor, classes: Tensor) -> Tensor:
        return self.net(x.double())[:, classes]

    @torch.no_grad()
    def accuracy(self, indices: Tensor, classes: Tensor) -> float:
        x, y = self.problem.batch(indices)
        return (classes[self.answer(x, classes).argmax(1)] == y).double().mean().item()
