"""The vision transformer's optimizer: as in the authors' code, or as intended."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from ...optim import SGDW
from ..studies import Config, ViTSetting
from .schedule import one_cycle

MOMENTUM = 0.9  # of the clean way


class Descent(ABC):
    """Steps of one network, along a schedule that begins anew with each task.

    Args:
        net: its parameters.
        setting: what decays, and whether the decay follows the step size.
        config: `step_size`, the peak of the schedule, and `decay`, W below.
    """

    optimizer: Optimizer

    def __init__(self, net: nn.Module, setting: ViTSetting, config: Config) -> None:
        self._peak, self._decay = float(config["step_size"]), float(config["decay"])
        self._scaled, self._updates = setting.scaled, 0
        self._named = dict(net.named_parameters())
        spared = [p for p in self._named.values() if setting.spares_vectors and p.dim() < 2]
        out = {id(p) for p in spared}
        groups = [{"params": [p for p in self._named.values() if id(p) not in out], "decays": True}]
        self.optimizer = self._make(groups + ([{"params": spared, "decays": False}] if spared else []))

    @abstractmethod
    def _make(self, groups: list[dict[str, Any]]) -> Optimizer: ...

    @abstractmethod
    def _set(self, step_size: float, momentum: float) -> None:
        """Set the optimizer's hyper-parameters for one update."""

    def begin_task(self, updates: int) -> None:
        """Begin a task of so many updates."""
        self._updates = updates

    def step(self, update: int) -> None:
        """One update of the task, counted from 0, gradients in place."""
        self._set(*one_cycle(update, self._updates, self._peak))
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The length of the task, and the momentum of every parameter by name."""
        buffers = {name: self.optimizer.state[p].get("momentum_buffer") for name, p in self._named.items()}
        return {
            "updates": self._updates,
            "momentum": {name: buffer.cpu().clone() for name, buffer in buffers.items() if buffer is not None},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state, bit for bit."""
        self._updates = state["updates"]
        self.optimizer.state.clear()
        for name, buffer in state["momentum"].items():
            p = self._named[name]
            self.optimizer.state[p]["momentum_buffer"] = buffer.to(p, copy=True)


class Authors(Descent):
    """As the authors' code: SGD whose decay is part of the gradient, momentum cycled, the buffer kept across tasks.

    b <- m(t) b + g + w(t) theta;  theta <- theta - a(t) b;  w(t) = W / a(t), or W in scaled settings

    Their code calls this decoupled, but the decay enters the buffer b: it shrinks a weight by about W / (1 - m) an
    update, not W. At the last update of a task a(t) has come down to 4e-8 and b is near w(t) theta = 150 theta (for W
    = 6e-6); the next task begins with steps 10,000 times as long along that b. Over its first updates this multiplies
    every weight that decays by -0.4 to -0.6, or by about 0.5 for W = 2e-6, whatever the loss. A network trained from
    scratch has no such b. Short tasks make it worse, as their schedule rises faster: -2 at a tenth of the updates.

    Reference:
        The authors' public code for Hernandez-Garcia et al. 2025, section 5.
    """

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        on_device = next(iter(self._named.values())).is_cuda
        return SGD(groups, lr=self._peak, momentum=MOMENTUM, fused=True if on_device else None)

    def _set(self, step_size: float, momentum: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"], group["momentum"] = step_size, momentum
            if group["decays"]:
                group["weight_decay"] = self._decay if self._scaled else self._decay / step_size


class AuthorsCleared(Authors):
    """The authors' optimizer, but for the momentum buffer, which is cleared at each task's start: a control.

    Schedule, momentum and decay are the authors', so what it does otherwise is the kept buffer's doing alone.
    """

    def begin_task(self, updates: int) -> None:
        super().begin_task(updates)
        self.optimizer.state.clear()


class Clean(Descent):
    """As intended: momentum 0.9, decay decoupled from the gradient, and a momentum buffer cleared at each task.

    theta <- (1 - d(t)) theta;  b <- 0.9 b + g;  theta <- theta - a(t) b;  d(t) = W, or a(t) W in scaled settings

    The share lost at each update is W itself, a seventh to a twentieth of the authors' share.
    """

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        for group in groups:
            group["weight_decay"] = self._decay if group["decays"] else 0.0
        return SGDW(groups, lr=self._peak, momentum=MOMENTUM, decay="lr" if self._scaled else "constant")

    def _set(self, step_size: float, momentum: float) -> None:
        del momentum
        for group in self.optimizer.param_groups:
            group["lr"] = step_size

    def begin_task(self, updates: int) -> None:
        super().begin_task(updates)
        self.optimizer.state.clear()


DESCENTS: dict[str, type[Descent]] = {"authors": Authors, "authors-cleared": AuthorsCleared, "clean": Clean}


@torch.no_grad()
def guard_(parameters: list[Tensor], flush_below: float, clip_at: float) -> None:
    """Keep weights away from where 32-bit numbers fail: tiny ones become 0, large ones stay at a safe magnitude.

    w <- 0 where |w| < flush_below;  w <- clamp(w, -clip_at, clip_at)

    Args:
        parameters: changed in place. A NaN stays.
        flush_below: magnitude, >= 0; 0 is off.
        clip_at: magnitude, > 0; infinity is off.

    Example:
        >>> w = torch.tensor([1e-30, -0.5, 9.0])
        >>> guard_([w], flush_below=1e-20, clip_at=4.0)
        >>> w
        tensor([ 0.0000, -0.5000,  4.0000])

    Reference:
        Hernandez-Garcia et al. 2025, appendix E, which suggests both.
    """
    for w in parameters:
        if flush_below > 0:
            w.masked_fill_(w.abs() < flush_below, 0.0)
        if clip_at < float("inf"):
            w.clamp_(-clip_at, clip_at)
