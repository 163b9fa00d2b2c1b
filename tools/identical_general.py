"""The general path of the laboratory: a stack of every system, on one kind of network and by one optimizer."""

from itertools import product
from typing import Any

import torch
from identical_nets import made, stream
from identical_tables import Table, array
from torch.nn import functional as F

from regrow.lab.general import Lab, StackedModule, train
from regrow.lab.nets import MLP, ViT
from regrow.lab.studies import Member

UPDATES, BATCH = 30, 6
STEPS: dict[str, dict[str, Any]] = {
    "sgd": {"step_size": 0.05},
    "sgdw": {"step_size": 0.02, "momentum": 0.9},
    "adamw": {"step_size": 1e-3, "beta1": 0.9, "beta2": 0.99},
}
SYSTEMS: dict[str, list[dict[str, Any]]] = {
    "base": [{}],
    "l2": [{"decay": 1e-2}],
    "shrink-perturb": [{"decay": 1e-3, "noise_variance": 1e-4}, {"noise_variance": 1e-4}],
    "swr": [
        {"utility": utility, "prune": prune, "reinit": reinit, "every": 4, "factor": 0.3 if way else 0.1}
        for utility, (way, prune), reinit in product(
            ("gradient", "magnitude", "random"), enumerate(("threshold", "proportional")), ("resample", "mean")
        )
    ] + [{"every": 7, "factor": 0.2, "decay": 1e-3, "noise_variance": 1e-4}],
    "cbp": [{"replacement_rate": 0.05, "maturity": 3}, {"replacement_rate": 0.3, "maturity": 0}],
    "redo": [{"every": 4, "threshold": 0.6}, {"every": 3, "threshold": 0.1}],
}  # fmt: skip


def members(optimizer: str, seeds: tuple[int, ...] = (0, 1)) -> list[Member]:
    """Every system with every config, of two seeds, each with a step size of its own."""
    configs = [(system, config) for system, several in SYSTEMS.items() for config in several]
    step = STEPS[optimizer]
    return [
        Member(system, step | {"step_size": step["step_size"] * (1 + 0.02 * i)} | config, seed)
        for i, (system, config) in enumerate(configs)
        for seed in seeds
    ]


def told(net: StackedModule, history: dict[str, torch.Tensor], count: int) -> Table:
    """What was recorded at each update, and the final values of every member."""
    columns = {f"history.{name}": array(values) for name, values in history.items()}
    states = [net.member(i).state_dict() for i in range(count)]
    return Table(columns | {name: array(torch.stack([state[name] for state in states])) for name in states[0]})


def stacked(net: str, optimizer: str, dtype: torch.dtype = torch.float64) -> Table:
    """A batch of its own for each member, in double precision."""
    ours = members(optimizer)
    stack = StackedModule([made(net, member.seed).to(dtype) for member in ours])
    right = {"right": lambda prediction, y: (prediction.argmax(1) == y).sum()}
    lab = Lab(stack, ours, F.cross_entropy, optimizer=optimizer, metrics=right)
    streams = [stream(net, member.seed, UPDATES, BATCH) for member in ours]
    x, y = torch.stack([x.to(dtype) for x, _ in streams], 1), torch.stack([y for _, y in streams], 1)
    return told(stack, lab.run(zip(x, y, strict=True)), len(ours))


def shared(net: str, optimizer: str) -> Table:
    """`train`, and one batch for all members, which have one seed; in single precision."""
    ours = members(optimizer, seeds=(2,))
    batches = lambda seed: zip(*stream(net, seed, UPDATES, BATCH), strict=True)  # noqa: E731
    stack, history = train(lambda seed: made(net, seed), ours, batches, F.cross_entropy, optimizer=optimizer)
    return told(stack, history, len(ours))


def initial() -> Table:
    """The first weights of the paper's own networks."""
    generator = torch.Generator().manual_seed(3)
    nets = {"mlp": MLP(10, True, "before", generator=generator), "vit": ViT(width=16, depth=1, heads=2, mlp=24)}
    named = {f"{name}.{key}": w for name, net in nets.items() for key, w in net.state_dict().items()}
    return Table({name: array(w) for name, w in named.items()})


def tables(net: str, optimizer: str) -> dict[str, Table]:
    torch.manual_seed(0)
    found = {"initial weights": initial()} if (net, optimizer) == ("mlp", "sgd") else {}
    return found | {"a batch each": stacked(net, optimizer), "one batch": shared(net, optimizer)}
