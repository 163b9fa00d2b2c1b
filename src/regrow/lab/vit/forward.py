"""The forward pass of the vision transformer, as it is trained: what has no effect on the answer is not computed.

Shapes: B images, T tokens (the class token first), C width, H heads.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nets import ViT
from ..nets.vit import Attention, Block

_LEVELS = 1 << 16  # of a 16-bit random number


class Dropout:
    """Drops entries at random: 16 random bits each, where torch's own takes a Bernoulli draw, the cost of ten products.

    x <- x * keep / (1 - p),  keep = bits >= p * 2**16,  p rounded to a multiple of 2**-16

    Args:
        p: share of the entries that become 0, in [0, 1].
        seed: of the generator that draws; torch's own are left alone.

    Example:
        >>> drop = Dropout(0.5, seed=0)
        >>> x = drop(torch.ones(1000))
        >>> x.unique().tolist(), 400 < x.count_nonzero() < 600
        ([0.0, 2.0], tensor(True))
    """

    def __init__(self, p: float, seed: int = 0) -> None:
        self._dropped = round(p * _LEVELS)
        self._generator = torch.Generator()
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin a new sequence of masks."""
        self._generator.manual_seed(seed)

    def __call__(self, x: Tensor) -> Tensor:
        return x if self._dropped == 0 else _Drop.apply(x, self._keep(x.shape), _LEVELS / max(1, _LEVELS - self._dropped))  # type: ignore[return-value]

    def _keep(self, shape: torch.Size) -> Tensor:
        n = shape.numel()
        words = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None, generator=self._generator)
        return (words.view(torch.int16)[:n] >= self._dropped - _LEVELS // 2).view(shape)


class _Drop(torch.autograd.Function):
    """x where kept, times a scale. It keeps a byte an entry, not a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.where(keep, x, 0.0).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return torch.where(keep, slopes[0], 0.0).mul_(ctx.scale), None, None
