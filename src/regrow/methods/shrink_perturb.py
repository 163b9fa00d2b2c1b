"""Shrink and perturb (Ash & Adams 2020); with shrink alone, the L2 baseline of Hernandez-Garcia et al. 2025."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import draw, random
from ..core.noise import Normals, parts, scale_
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
                own = [w[row] for w in weights.values()]
                _perturb(own, math.sqrt(variance), key, members.memory.normals, members.skipped)
        for name, w in weights.items():
            members.write(name, w)


class Noise(Dates):
    """Noise at every update; it has no memory, but keeps its generators and buffers."""

    def __init__(self, every: Sequence[int]) -> None:
        super().__init__(every)
        self.normals = Normals()


def _perturb(weights: list[Tensor], std: float, key: int, normals: Normals, skipped: Tensor | None) -> None:
    """Add std z to the weights of one network, z ~ Normal(0, 1) under a key."""
    normals.seed(key)  # counted numbers, as elsewhere, take much longer, and noise is drawn at each update
    for number_, part in enumerate(parts(weights)):
        sizes, device = [w.numel() for w in part], part[0].device
        if device.type == "cpu":
            z = normals.fill(torch.empty(sum(sizes), dtype=_wide(part[0]), device=device))
        else:
            z = random.field(random.key(key, number_), torch.Size([sum(sizes)]), _standard_normal, device)
        if skipped is not None:
            z.mul_(_kept(skipped, z))
        noise = [piece.view(w.shape) for piece, w in zip(z.split(sizes), part, strict=True)]
        torch._foreach_add_(part, noise, alpha=std)  # type: ignore[reportPrivateImportUsage]


def _kept(skipped: Tensor | None, w: Tensor) -> Tensor | float:
    """1 where the step takes place, 0 where a gradient scaler skips it, without waiting to know."""
    if skipped is None:
        return 1.0
    return (skipped.detach().reshape(()).to(w.device) == 0).to(_wide(w))


def _wide(w: Tensor) -> torch.dtype:
    return torch.float64 if w.dtype == torch.float64 else torch.float32


def _standard_normal(words: Tensor) -> Tensor:
    return draw.from_table(words, draw.normal_table(words.device))
