"""Shrink and perturb (Ash & Adams 2020); with shrink alone, the L2 baseline of Hernandez-Garcia et al. 2025."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import draw, random
from ..core.noise import Normals, parts, scale_
from ..core.precision import wide_type
from .dates import Dates
from .knobs import each, number, per_member
from .members import Members
from .method import Method


@dataclass(frozen=True, kw_only=True)
class ShrinkPerturb(Method):
    """Shrink and perturb: pull every parameter to zero and add noise, at each update.

        w <- (1 - shrink) * w,  then the optimizer's step,  then  w <- w + sqrt(noise_variance) * z,  z ~ Normal(0, 1)

    `shrink` alone is the L2 baseline: decoupled, and not multiplied by the learning rate. Attached, the shrink comes
    before the optimizer's step; `step()`, called after it, shrinks there, which also shrinks the step just made.

    Raises:
        ValueError, TypeError: for an argument out of its range, a pattern that matches nothing, or no trainable
            parameter.

    Example:
        >>> import torch, regrow
        >>> model = torch.nn.Linear(4, 2)
        >>> opt = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> keep = regrow.ShrinkPerturb(model, shrink=1e-4, noise_variance=1e-7).attach(opt)

    Reference:
        Ash & Adams, "On warm-starting neural network training", NeurIPS 2020; Hernandez-Garcia et al. 2025, section 3.
    """

    name = "shrink-perturb"
    on_shards = True
    draws = renews = False
    is_noise = True
    at_every_attempt = True

    shrink: float = number(0, 1, "share of every weight lost at each update", 0.0, config="decay")
    noise_variance: float = number(0, math.inf, "variance of the noise", 0.0)

    @property
    def off(self) -> bool:
        return self.shrink == 0 and self.noise_variance == 0

    @classmethod
    def dates(cls, methods: Sequence[Any]) -> "Noise":
        return Noise([0 if method.off else 1 for method in methods])

    def before(self, members: Members) -> None:
        if isinstance(self.shrink, float) and not self.shrink:
            return
        weights = {name: members.weights(name) for name in members.parameters}
        if isinstance(self.shrink, float) and members.skipped is None:
            scale_(list(weights.values()), 1 - self.shrink)
        else:
            for w in weights.values():
                w.mul_(1 - per_member(self.shrink, w) * _kept(members.skipped, w))
        for name, w in weights.items():
            members.write(name, w)

    def act(self, members: Members) -> None:
        variances = each(self.noise_variance, len(members))
        if not any(variances):
            return
        members.counters.begin()
        weights = {name: members.weights(name) for name in members.parameters}
        for row, (key, variance) in enumerate(zip(members.keys(), variances, strict=True)):
            if variance:
                own = {name: w[row] for name, w in weights.items()}
                _perturb(members, own, math.sqrt(variance), key)
        for name, w in weights.items():
            members.write(name, w)


class Noise(Dates):
    """Noise at every update; it has no memory, but keeps its generators and buffers."""

    def __init__(self, every: Sequence[int]) -> None:
        super().__init__(every)
        self.normals = Normals()


def _perturb(members: Members, weights: dict[str, Tensor], std: float, key: int) -> None:
    """Add std z to the weights of one network, z ~ Normal(0, 1) under a key."""
    members.memory.normals.seed(key)  # counter-based numbers take much longer, and noise is drawn often
    names = iter(weights)
    sizes = [members.network.shape(name).numel() for name in weights]
    for number_, part in enumerate(parts(list(weights.values()), sizes=sizes)):
        of = {name: w for w, name in zip(part, names, strict=False)}  # in this order: no name is lost
        noise = _noise(members, of, random.key(key, number_))
        if members.skipped is not None:
            torch._foreach_mul_(noise, _kept(members.skipped, noise[0]))  # type: ignore[reportPrivateImportUsage]
        torch._foreach_add_(part, noise, alpha=std)  # type: ignore[reportPrivateImportUsage]


def _noise(members: Members, weights: dict[str, Tensor], key: int | Tensor) -> list[Tensor]:
    """z for some neighbours: one sequence over all of their entries, wherever these lie."""
    network, like = members.network, next(iter(weights.values()))
    shapes = [network.shape(name) for name in weights]
    starts = itertools.accumulate((shape.numel() for shape in shapes), initial=0)
    if like.device.type != "cpu" and any(network.index(name) is not None for name in weights):
        return [
            random.field(key, w.shape, _standard_normal, w.device, _from(start, network.index(name)))
            for (name, w), start in zip(weights.items(), starts, strict=False)
        ]
    *starts, size = starts
    if like.device.type == "cpu":
        z = members.memory.normals.fill(torch.empty(size, dtype=wide_type(like), device=like.device))
    else:
        z = random.field(key, torch.Size([size]), _standard_normal, like.device)
    pieces = z.tensor_split(starts[1:])
    return [network.part(name, p.view(s)) for name, p, s in zip(weights, pieces, shapes, strict=True)]


def _from(start: int, index: Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor]:
    """Numbers of a tensor's entries in the sequence, where the tensor begins at `start`."""
    return lambda i: start + (i if index is None else index(i))


def _kept(skipped: Tensor | None, w: Tensor) -> Tensor | float:
    """1 where the step takes place, 0 where a gradient scaler skips it, without waiting to know."""
    if skipped is None:
        return 1.0
    return (skipped.detach().reshape(()).to(w.device) == 0).to(wide_type(w))


def _standard_normal(words: Tensor) -> Tensor:
    return draw.from_table(words, draw.normal_table(words.device))
