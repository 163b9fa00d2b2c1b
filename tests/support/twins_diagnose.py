"""Slow twins of `diagnose`: explicit loops over units and rows, numpy's singular values."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from regrow.lab.nets import MLP

RANKS = ("stable_rank", "rank99", "effective_rank")


class CReLU(nn.Module):
    """Both halves, side by side."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(x), F.relu(-x)], self.dim)


def energy(out: Tensor) -> Tensor:
    return out.float().square().mean()


def rows(h: Tensor, axis: int = -1) -> np.ndarray:
    """(examples times positions, units) in float64."""
    moved = h.detach().double().movedim(axis, -1)
    return moved.reshape(-1, moved.shape[-1]).numpy()


def by_hand(layers: dict[str, np.ndarray], tau: float = 0.025) -> dict[str, float]:
    """The measures of activations, loop by loop."""
    found: dict[str, float] = {}
    dead_of_all = dormant_of_all = units_of_all = 0
    for name, a in layers.items():
        count, units = a.shape
        means = [sum(abs(a[r, i]) for r in range(count)) / count for i in range(units)]
        dead = sum(any(all(a[r, i] == v for r in range(count)) for v in (0, 1, -1)) for i in range(units))
        dormant = sum(mean <= tau * sum(means) / units for mean in means)
        s = np.linalg.svd(a, compute_uv=False)
        k, reached = 0, 0.0
        while s.sum() > 0 and reached < 0.99 * s.sum():
            reached, k = reached + s[k], k + 1
        p = [x / s.sum() for x in s if x > 0]
        ranks = {
            "stable_rank": (a**2).sum() / s[0] ** 2 if p else 0.0,
            "rank99": float(k),
            "effective_rank": math.exp(-sum(x * math.log(x) for x in p)) if p else 0.0,
        }
        found |= {f"dead_units/{name}": dead / units, f"dormant_units/{name}": dormant / units}
        found |= {f"{key}/{name}": value for key, value in ranks.items()} | ranks
        dead_of_all, dormant_of_all, units_of_all = dead_of_all + dead, dormant_of_all + dormant, units_of_all + units
    return found | {"dead_units": dead_of_all / units_of_all, "dormant_units": dormant_of_all / units_of_all}


def magnitudes(key: str, tensors: dict[str, Tensor]) -> dict[str, float]:
    """Mean |t| of the whole and by module, entry by entry of a list."""
    lists: dict[str, list[float]] = {key: []}
    for name, tensor in tensors.items():
        for k in (key, f"{key}/{name.rpartition('.')[0] or name}"):
            lists.setdefault(k, []).extend(tensor.detach().double().abs().flatten().tolist())
    return {k: sum(values) / len(values) for k, values in lists.items()}


def activity(measures: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in measures.items() if not key.startswith(("weight", "gradient", "moment"))}


def hidden(net: MLP, x: Tensor) -> dict[str, np.ndarray]:
    """The paper's activations: after the ReLU, before a norm that follows it."""
    found = {}
    for name, norm in (("fc1", net.norm1), ("fc2", net.norm2), ("fc3", net.norm3)):
        z = net.get_submodule(name)(x)
        h = F.relu(z) if net.ln_position == "after" else F.relu(norm(z))
        x = norm(h) if net.ln_position == "after" else h
        found[name] = rows(h)
    return found


def frozen(net: nn.Module) -> nn.Module:
    return net.requires_grad_(False)


def without_units(net: nn.Module) -> nn.Module:
    """The same function, with weights computed from others: `find_units` finds nothing in it."""
    for module in list(net.modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            parametrizations.weight_norm(module)
    return net


def dormant(key: str, layers: dict[str, np.ndarray], tau: float = 0.025) -> dict[str, float]:
    """Share of columns whose mean |x| is at most tau times that of the layer, loop by loop."""
    counts = {}
    for name, a in layers.items():
        means = [sum(abs(a[r, i]) for r in range(a.shape[0])) / a.shape[0] for i in range(a.shape[1])]
        counts[name] = sum(mean <= tau * sum(means) / len(means) for mean in means)
    units = sum(a.shape[1] for a in layers.values())
    return {key: sum(counts.values()) / units} | {f"{key}/{n}": c / layers[n].shape[1] for n, c in counts.items()}


def gradients_at(net: MLP, x: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
    """The gradients at what the paper's network gives to its ReLUs."""
    z, h = {}, x
    for name, norm in (("fc1", net.norm1), ("fc2", net.norm2), ("fc3", net.norm3)):
        z[name] = net.get_submodule(name)(h) if net.ln_position == "after" else norm(net.get_submodule(name)(h))
        h = norm(F.relu(z[name])) if net.ln_position == "after" else F.relu(z[name])
    found = torch.autograd.grad(loss(net.out(h)), list(z.values()))
    return {name: rows(g) for name, g in zip(z, found)}


def measured(key: str, found: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in found.items() if k.startswith(key)}


def spread(net: nn.Module) -> None:
    """Units of very different outgoing weights, so that some are dormant and some are not."""
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() > 1:
                p *= torch.logspace(-3, 0, p.shape[1])[torch.randperm(p.shape[1])].view(1, -1, *[1] * (p.dim() - 2))


class Plain(nn.Module):
    """5-12-10-2, its activations written in one of several ways; `norm` before them or behind them."""

    def __init__(
        self, how: str, norm: Callable[[int], nn.Module] = lambda n: nn.Identity(), before: bool = True
    ) -> None:
        super().__init__()
        self.how, self.before = how, before
        self.a, self.b, self.c = nn.Linear(5, 12), nn.Linear(12, 10), nn.Linear(10, 2)
        self.na, self.nb = norm(12), norm(10)
        if how in ("module", "inplace"):
            self.act_a, self.act_b = nn.ReLU(how == "inplace"), nn.ReLU(how == "inplace")
        if how == "shared":
            self.act = nn.Tanh()

    def act_of(self, z: Tensor, name: str) -> Tensor:
        if self.how == "functional":
            return F.gelu(z)
        if self.how == "functional inplace":
            return F.relu_(z)
        return self.act(z) if self.how == "shared" else self.get_submodule(f"act_{name}")(z)

    def forward(self, x: Tensor, seen: dict[str, Tensor] | None = None) -> Tensor:
        for name, layer, norm in (("a", self.a, self.na), ("b", self.b, self.nb)):
            z = norm(layer(x)) if self.before else layer(x)
            if seen is not None:  # a copy of z in the graph, which what works in place leaves as it is
                seen[name] = z
                z = z * 1
            x = self.act_of(z, name)
            x = x if self.before else norm(x)
        return self.c(x)
