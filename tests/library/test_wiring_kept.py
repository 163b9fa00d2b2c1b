"""Claim: following a forward leaves nothing in what modules hold, however deep, even where it cannot be followed."""

import copy
from collections import OrderedDict, defaultdict, deque
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regrow
from regrow.wiring import find_units


class Expert(nn.Module):
    """Collects an auxiliary loss at every call, as mixtures of experts do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.gate, self.aux = nn.Linear(8, 16), nn.Linear(16, 2), nn.Linear(8, 4), []

    def forward(self, x: Tensor) -> Tensor:
        self.aux.append(self.gate(x).softmax(-1).mean(0).square().sum())
        return self.b(F.relu(self.a(x)))


class Hoarder(nn.Module):
    """Writes into containers of every kind; where asked, its forward cannot be followed beyond that."""

    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.a, self.b, self.branch = nn.Linear(4, 6), nn.Linear(6, 2), branch
        self.part = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2))
        self.part.seen = []  # type: ignore[assignment]
        self.held: Any = {
            "list": [0], "dict": {"old": 1}, "set": {2}, "deque": deque([3, 4], maxlen=2),
            "ordered": OrderedDict(p=1, q=2), "default": defaultdict(list, r=[1]), "tuple": ([5], {"s": deque([6])}),
        }  # fmt: skip
        self.outside = [nn.Identity()]  # a module that is not registered
        self.outside[0].last = None  # type: ignore[assignment]
        self.itself = [self.held]
        self.itself.append(self.itself)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h, held = F.relu(self.a(x)), self.held
        held["list"][:] = [h]
        held["dict"].clear()
        held["dict"]["new"] = h
        held["set"].add(h)
        held["deque"].append(h)
        held["ordered"].move_to_end("p")
        held["default"]["t"].append(h)
        held["default"]["r"].append(h)
        held["tuple"][0].append(h)
        held["tuple"][1]["s"].appendleft(h)
        held["more"] = [h]
        self.outside[0].last = h  # type: ignore[assignment]
        self.part.seen.append(h)  # type: ignore[operator, union-attr]
        y = self.b(h)
        return self.part(y if not self.branch or y.sum() > 0 else -y)


MAKE = {
    "find_units": lambda net: find_units(net),
    "redo": lambda net: regrow.ReDo(net, every=4, threshold=0.1, skip="gate"),
    "cbp": lambda net: regrow.ContinualBackprop(net, replacement_rate=0.1, maturity=1, skip="gate"),
    "swr": lambda net: regrow.SWR(net, every=4, factor=0.1, absent_rows={"b": "keep"}),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_training_with_an_auxiliary_loss_is_that_without_a_search(make) -> None:  # type: ignore[no-untyped-def]
    """The loss holds what the forward collected: a trace of the search there would end training without a word."""
    net, x = Expert(), torch.randn(4, 8)
    twin = copy.deepcopy(net)
    kept = net.aux
    make(net)
    assert net.aux is kept and kept == []
    for model in (net, twin):
        loss = model(x).square().mean() + sum(model.aux)
        assert type(loss) is Tensor
        loss.backward()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(net.parameters(), twin.parameters(), strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("branch", [False, True])
def test_containers_of_every_kind_are_as_before(branch: bool) -> None:
    net = Hoarder(branch)
    before, objects = copy.deepcopy(net.held), dict(net.held)
    found = find_units(net)
    assert {units.layer for units in found} == ({"part.0"} if branch else {"a", "part.0"})
    assert net.held == before and list(net.held["ordered"]) == ["p", "q"] and net.held["deque"].maxlen == 2
    assert all(net.held[key] is held for key, held in objects.items())  # in place: others may hold them too
    assert net.outside[0].last is None and net.part.seen == []
    assert net.itself[0] is net.held and net.itself[1] is net.itself
    net(torch.randn(3, 4))
    assert net.held != before  # the forward does write
