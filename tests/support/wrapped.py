"""Optimizers around optimizers, as public packages write them, cut down to what matters here."""

from collections import defaultdict

import torch
from torch import nn
from torch.optim import Optimizer


class Accelerated(Optimizer):
    """As Accelerate's: never calls `Optimizer.__init__`, hands everything on, and may leave a step out."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.skips = optimizer, False

    @property
    def state(self):
        return self.optimizer.state

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    @property
    def defaults(self):
        return self.optimizer.defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None) -> None:
        if not self.skips:
            self.optimizer.step(closure)


class Lookahead(Optimizer):
    """As torch_optimizer's: k steps forward, one back; never calls `Optimizer.__init__`."""

    def __init__(self, optimizer: Optimizer, k: int = 3, alpha: float = 0.5) -> None:
        self.optimizer, self.k, self.alpha = optimizer, k, alpha
        self.param_groups, self.state, self.counter = optimizer.param_groups, defaultdict(dict), 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure=None) -> None:
        self.optimizer.step(closure)
        self.counter += 1
        for p in (p for group in self.param_groups for p in group["params"]):
            slow = self.state[p].setdefault("slow_param", p.detach().clone())
            if self.counter % self.k == 0:
                slow += self.alpha * (p - slow)
                p.copy_(slow)


class SAM(Optimizer):
    """As davda54/sam: climbs first, then lets a base optimizer step from where it was."""

    def __init__(self, params, base: type[Optimizer], rho: float = 0.05, **options) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        for p in (p for group in self.param_groups for p in group["params"]):
            self.state[p]["old_p"] = p.detach().clone()
            p += 0.01 * p.grad.sign()

    @torch.no_grad()
    def second_step(self) -> None:
        for p in (p for group in self.param_groups for p in group["params"]):
            p.copy_(self.state[p]["old_p"])
        self.base_optimizer.step()

    @torch.no_grad()
    def step(self, closure=None) -> None:
        closure = torch.enable_grad()(closure)
        self.first_step()
        closure()
        self.second_step()


def adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=0.01)
