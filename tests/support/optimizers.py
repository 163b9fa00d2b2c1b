"""Every optimizer of torch and ours, and a training loop that serves them all."""

import torch
from models import backward, train
from torch import Tensor, nn

import regrow

KINDS = {
    "sgd": (torch.optim.SGD, {"lr": 0.01}),
    "sgd-momentum": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "dampening": 0.5}),
    "sgd-nesterov": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "sgdw": (regrow.SGDW, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {"lr": 1e-2}),
    "adam-amsgrad": (torch.optim.Adam, {"lr": 1e-2, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2}),
    "nadam": (torch.optim.NAdam, {"lr": 1e-2}),
    "radam": (torch.optim.RAdam, {"lr": 1e-2}),
    "adamax": (torch.optim.Adamax, {"lr": 1e-2}),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0}),
    "adagrad": (torch.optim.Adagrad, {"lr": 1e-2, "initial_accumulator_value": 0.3, "lr_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-2, "momentum": 0.9, "centered": True}),
    "rprop": (torch.optim.Rprop, {"lr": 1e-2}),
    "asgd": (torch.optim.ASGD, {"lr": 1e-2, "t0": 2, "lambd": 0.1}),
    "lbfgs": (torch.optim.LBFGS, {"lr": 0.1, "max_iter": 3}),
    "adafactor": (torch.optim.Adafactor, {"lr": 1e-2}),
}
if hasattr(torch.optim, "Muon"):
    KINDS["muon"] = (torch.optim.Muon, {"lr": 1e-2})
FUSED = ("sgd-momentum", "adam", "adam-amsgrad", "adamw", "adagrad")
PLAIN = tuple(name for name in ("lbfgs", "muon") if name in KINDS)
CASES = [
    *((name, {}) for name in PLAIN),
    *((name, {"foreach": foreach}) for name in KINDS if name not in PLAIN for foreach in (True, False)),
    *((name, {"fused": True}) for name in FUSED),
]


def build(name: str, model: nn.Module, **flags: bool) -> torch.optim.Optimizer:
    kind, options = KINDS[name]
    return kind([p for p in model.parameters() if p.dim() == 2 or name != "muon"], **options, **flags)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        if isinstance(optimizer, torch.optim.LBFGS):

            def closure(step: int = step) -> Tensor:
                backward(model, step)
                return sum(p.grad.square().sum() for p in model.parameters())  # type: ignore[return-value]

            optimizer.step(closure)
        else:
            train(model, optimizer, range(step, step + 1))


def tensors(optimizer: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    return [
        {key: torch.as_tensor(value).clone() for key, value in optimizer.state[p].items() if value is not None}
        for group in optimizer.param_groups
        for p in group["params"]
        if p in optimizer.state and not isinstance(optimizer, torch.optim.LBFGS)
    ]
