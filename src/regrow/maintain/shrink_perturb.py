"""Shrink and perturb (Ash & Adams 2020); with shrink alone, the L2 baseline of Hernandez-Garcia et al. 2025."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import check
from ..core import draw, random
from ..core.noise import Normals, parts, scale_
from .base import Maintainer


class ShrinkPerturb(Maintainer):
    """Shrink and perturb: pull every parameter to zero and add noise, at each update.

        w <- (1 - shrink) * w,  then the optimizer's step,  then  w <- w + sqrt(noise_variance) * z,  z ~ Normal(0, 1)

    `shrink` alone is the L2 baseline: decoupled, and not multiplied by the learning rate. Attached, the shrink comes
    before the optimizer's step; `step()`, called after it, shrinks there, which also shrinks the step just made.

    Args:
        model: any module.
        shrink: share of every weight lost at each update (the paper's lambda), in [0, 1].
        noise_variance: variance (not standard deviation) of the noise, >= 0.
        only, skip: name patterns of what to maintain, to leave out.
        seed: keys the noise, >= 0; None: `torch.initial_seed()`, the one of rank 0 on all ranks.

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

    method = "shrink-perturb"
    after_renewers = True

    def __init__(
        self,
        model: nn.Module,
        *,
        shrink: float = 0.0,
        noise_variance: float = 0.0,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        seed: int | None = None,
    ) -> None:
        self._shrink = check.number("shrink", shrink, 0, 1, "share of every weight lost at each update")
        self._variance = check.number("noise_variance", noise_variance, 0, math.inf, "variance of the noise")
        super().__init__(model, only=only, skip=skip, seed=seed)
        self._normals = Normals()

    @property
    def knobs(self) -> dict[str, Any]:
        return {"shrink": self._shrink, "noise_variance": self._variance}

    @property
    def off(self) -> bool:
        return self._shrink == 0 and self._variance == 0

    @torch.no_grad()
    def _before_update(self, found_inf: Tensor | None) -> None:
        if self._shrink:
            weights: list[Tensor] = [entry.parameter for entry in self._entries()]
            if found_inf is None:
                scale_(weights, 1 - self._shrink)
            else:
                for w in weights:
                    w.mul_(1 - self._shrink * _taken(found_inf, w))

    def _fire(self, found_inf: Tensor | None) -> None:
        if not self._variance:
            return
        self._tally.renewals += 1
        std = math.sqrt(self._variance)
        key = random.key(self._seed, self.method, 0, self._clock.attempts)
        assert isinstance(key, int)
        self._normals.seed(key)  # counted numbers, as elsewhere, take much longer, and noise is drawn at each update
        for number, part in enumerate(parts([entry.parameter for entry in self._entries()])):
            sizes, device = [w.numel() for w in part], part[0].device
            if device.type == "cpu":
                z = self._normals.fill(torch.empty(sum(sizes), dtype=_wide(part[0]), device=device))
            else:
                z = random.field(random.key(key, number), torch.Size([sum(sizes)]), _standard_normal, device)
            if found_inf is not None:
                z.mul_(_taken(found_inf, z))
            noise = [piece.view(w.shape) for piece, w in zip(z.split(sizes), part, strict=True)]
            torch._foreach_add_(part, noise, alpha=std)  # type: ignore[reportPrivateImportUsage]

    def _masks(self) -> dict[str, Tensor]:
        return {entry.name: torch.ones_like(entry.parameter, dtype=torch.bool) for entry in self._entries()}


def _taken(found_inf: Tensor, w: Tensor) -> Tensor:
    """1 where the step takes place, 0 where a gradient scaler skips it, without waiting to know."""
    return (found_inf.detach().reshape(()).to(w.device) == 0).to(_wide(w))


def _wide(w: Tensor) -> torch.dtype:
    return torch.float64 if w.dtype == torch.float64 else torch.float32


def _standard_normal(words: Tensor) -> Tensor:
    return draw.from_table(words, draw.normal_table(words.device))
