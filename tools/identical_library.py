"""The library: a group of maintainers with every optimizer, on one kind of network."""

import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from identical_nets import made, stream
from identical_tables import LOOSE, Table, array, flat
from torch import nn
from torch.nn import functional as F

import regrow

STEPS, BATCH = 300, 12
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.01),
    "sgdw": lambda p: regrow.SGDW(p, 0.02, momentum=0.9, weight_decay=1e-3, decay="constant"),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
}
ENOUGH = {"conv": tuple(OPTIMIZERS), "tokens": ("sgd", "adamw", "adagrad")}
"""What is cleared of an optimizer does not depend on the network: one of each kind will do for the second."""
Makers = dict[str, Callable[[nn.Module], list[Any]]]
"""{name: a model -> its maintainers, in the order in which they are attached}"""
FACTORS = {"gradient-threshold": 0.05, "magnitude-threshold": 0.2, "random-threshold": 0.2}
UTILITIES = ("contribution", "activation", "gradient", "magnitude")


def swr(model: nn.Module, **knobs: Any) -> Any:
    return regrow.SWR(model, **{"every": 25, "factor": 0.05, "seed": 5, "clear_moments": True} | knobs)


def cbp(model: nn.Module, **knobs: Any) -> Any:
    common = {"replacement_rate": 0.004, "maturity": 20, "seed": 6, "clear_moments": True}
    return regrow.ContinualBackprop(model, **common | knobs)


def redo(model: nn.Module, **knobs: Any) -> Any:
    return regrow.ReDo(model, **{"every": 25, "threshold": 0.4, "seed": 7, "clear_moments": True} | knobs)


def noise(model: nn.Module, **knobs: Any) -> Any:
    return regrow.ShrinkPerturb(model, **{"seed": 8} | knobs)


def one(make: Callable[..., Any], **knobs: Any) -> Callable[[nn.Module], list[Any]]:
    return lambda model: [make(model, **knobs)]


def group(name: str) -> Makers:
    """The maintainers of a group, by name."""
    if name == "swr":
        ways = product(("gradient", "magnitude", "random"), ("threshold", "proportional"), ("resample", "mean"))
        return {
            "-".join(way): one(swr, **dict(zip(("utility", "prune", "reinit"), way, strict=True)),
                               factor=FACTORS.get("-".join(way[:2]), 0.05))
            for way in ways
        }  # fmt: skip
    if name == "cbp":
        return {f"{u}-{decay}": one(cbp, utility=u, decay=decay) for u in UTILITIES for decay in (0.0, 0.99)}
    if name == "redo":
        return {u: one(redo, utility=u, threshold=0.9 if u == "magnitude" else 0.4) for u in UTILITIES}
    if name == "noise":
        some = {"shrink": {"shrink": 1e-3}, "perturb": {"noise_variance": 1e-6}}
        return {key: one(noise, **knobs) for key, knobs in (some | {"both": some["shrink"] | some["perturb"]}).items()}
    return {
        "swr, all rows, overlap": one(swr, absent_rows="renew", track_overlap=True),
        "swr, moments zero": one(swr, clear_moments="zero"),
        "swr, moments stay": one(swr, clear_moments=False),
        "cbp, moments zero": one(cbp, clear_moments="zero"),
        "cbp, moments stay": one(cbp, clear_moments=False),
        "redo, moments stay": one(redo, clear_moments=False),
        "noise, swr, cbp": lambda model: [noise(model, shrink=1e-4, noise_variance=1e-6), swr(model), cbp(model)],
        "none": lambda model: [],
    }


class Loop:
    """A training loop with maintainers, which can be stored and gone on with."""

    def __init__(self, net: str, optimizer: str, make: Callable[[nn.Module], list[Any]], attach: bool = True) -> None:
        self.model = made(net, 1)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.maintainers, self.attach = make(self.model), attach
        for maintainer in self.maintainers if attach else ():
            maintainer.attach(self.optimizer)
        self.losses: list[float] = []

    def steps(self, batches: Any) -> "Loop":
        for x, y in batches:
            loss = F.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            for maintainer in self.maintainers if not self.attach else ():
                maintainer.step()
            self.losses.append(loss.item())
        return self

    def go_on_from(self, other: "Loop") -> "Loop":
        self.model.load_state_dict(other.model.state_dict())
        self.optimizer.load_state_dict(other.optimizer.state_dict())
        for own, stored in zip(self.maintainers, other.maintainers, strict=True):
            own.load_state_dict(stored.state_dict())
        return self

    def numbers(self) -> dict[str, Any]:
        """Losses, weights, and the optimizer's memory."""
        return {
            "loss": self.losses,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
        }

    def told(self) -> dict[str, Any]:
        """What the maintainers say and store, and what they would renew next."""
        masks = [_preview(maintainer) for maintainer in self.maintainers]
        return {
            "report": [maintainer.report() for maintainer in self.maintainers],
            "state": [maintainer.state_dict() for maintainer in self.maintainers],
            "preview": masks,
        }


def _preview(maintainer: Any) -> Any:
    """Continual backpropagation and ReDo cannot tell without a watched pass."""
    try:
        return maintainer.preview()
    except RuntimeError as error:
        return f"{type(error).__name__}"


def tables(net: str, name: str) -> dict[str, Table]:
    torch.manual_seed(0)
    x, y = stream(net, 0, STEPS, BATCH)
    batches, half = list(zip(x, y, strict=True)), STEPS // 2
    numbers, told = {}, {}
    for (kind, make), optimizer in product(group(name).items(), ENOUGH[net]):
        loop = Loop(net, optimizer, make).steps(batches)
        numbers[f"{kind}, {optimizer}"], told[f"{kind}, {optimizer}"] = loop.numbers(), loop.told()
    if name == "other":
        for make in (swr, cbp, redo):
            kind = f"{make.__name__}, stored, step() by hand"
            first = Loop(net, "adamw", one(make), attach=False).steps(batches[:half])
            loop = Loop(net, "adamw", one(make), attach=False).go_on_from(first).steps(batches[half:])
            numbers[kind], told[kind] = loop.numbers(), loop.told()
        numbers["diagnose"] = regrow.diagnose(made(net, 1), x[0], lambda out: F.cross_entropy(out, y[0]))
        told["laws"] = {key: repr(law) for key, law in regrow.init_laws(made(net, 1)).items()}
    strict = {key: array(value) for key, value in flat(numbers)}
    return {"numbers": Table(strict), "reports and states": Table({k: array(v) for k, v in flat(told)}, LOOSE)}


warnings.filterwarnings("ignore", category=UserWarning)  # of torch's transformer, and of laws that were snapped
