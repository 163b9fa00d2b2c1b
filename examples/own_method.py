"""A method of your own, written once: in the library it keeps any model plastic, in the laboratory a whole stack.

Every so many updates each weight goes a share of the way to a newly drawn one ("partial reinitialization"). Run:
python examples/own_method.py
"""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.lab.general import train
from regrow.lab.studies import Member
from regrow.methods import Method, number, per_member, whole


@dataclass(frozen=True, kw_only=True)
class Partial(Method):
    """w <- (1 - share) w + share v,  v drawn from the law w was initialised from, every `every` updates."""

    name = "partial"  # keys its random numbers
    renews = False  # no entry is replaced as a whole: the optimizer keeps its moments

    every: int = whole(1, "updates between draws")
    share: float = number(0, 1, "of the way to the new values")

    def act(self, members):  # k networks at one update; of a plain model k = 1
        for name in members.parameters:
            w = members.weights(name)  # (k, ...)
            new = members.random(name, "value", members.law(name).draw, like=w)
            members.write(name, w + per_member(self.share, w) * (new - w))


images, labels = map(torch.tensor, load_digits(return_X_y=True))
SYSTEMS = {"base": {}, "swr": {"every": 28, "factor": 1e-3}, "partial": {"every": 28, "share": 0.05}}


def network(seed):  # any nn.Module
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()


def batches(seed, tasks=30):  # any stream of (x, y): here the labels are shuffled anew for every task
    g = torch.Generator().manual_seed(seed)
    for _ in range(tasks):
        shuffled = torch.randperm(10, generator=g)[labels]
        yield from ((images[i] / 16, shuffled[i]) for i in torch.randperm(1792, generator=g).split(64))


if __name__ == "__main__":
    members = [Member(name, {"step_size": 0.3} | knobs, seed) for name, knobs in SYSTEMS.items() for seed in range(3)]
    metrics = {"accuracy": lambda logits, y: (logits.argmax(1) == y).double().mean()}
    stack, history = train(network, members, batches, cross_entropy, own={"partial": Partial}, metrics=metrics)
    for i, member in enumerate(members):
        first, last = (history["accuracy"][part, i].mean() for part in (slice(0, 140), slice(-140, None)))
        print(f"{member.system:8s} seed {member.seed}: online accuracy {first:.1%} at first, {last:.1%} at last")

    alone = network(seed=2)  # the last member again, in plain PyTorch
    partial = regrow.Maintainer(alone, Partial(**SYSTEMS["partial"]), seed=2)
    partial.attach(opt := torch.optim.SGD(alone.parameters(), lr=0.3))
    for x, y in batches(seed=2):
        opt.zero_grad()
        cross_entropy(alone(x), y).backward()
        opt.step()
    gaps = [(p - stack.parameters[name][-1]).abs().max().item() for name, p in alone.named_parameters()]
    print(f"largest difference from a single run in plain PyTorch: {max(gaps):.1e}")
