"""The forward pass of the vision transformer in training: the same output with less work.

Of the last block only the class token is answered with, so its queries, its MLP and what follows are made for that
token alone: a tenth of all products at depth 8. On a CPU dropout draws 16 bits an entry, where torch's takes as long as
a sixth of the network.

Shapes: B images, T tokens (the class token first), C width, H heads.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..nets import ViT
from ..nets.vit import Attention

_LEVELS = 1 << 16  # of a 16-bit random number


class Dropout(Protocol):
    """Drops entries, and begins a new sequence of masks."""

    p: float

    def __call__(self, x: Tensor) -> Tensor: ...

    def seed(self, seed: int) -> None: ...


class HostDropout:
    """Dropout on a CPU, from a generator of its own.

    x <- x * keep / (1 - p),  keep = bits >= 2**16 p  with p rounded to a multiple of 2**-16

    Args:
        p: share of the entries that become 0, in [0, 1].

    Example:
        >>> drop = HostDropout(0.5)
        >>> drop.seed(0)
        >>> x = drop(torch.ones(1000))
        >>> x.unique().tolist(), bool(400 < x.count_nonzero() < 600)
        ([0.0, 2.0], True)
    """

    def __init__(self, p: float) -> None:
        self._dropped = round(p * _LEVELS)
        self.p = self._dropped / _LEVELS
        self._generator = torch.Generator()

    def seed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def __call__(self, x: Tensor) -> Tensor:
        if self._dropped == 0:
            return x
        n = x.numel()
        words = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None, generator=self._generator)
        keep = (words.view(torch.int16)[:n] >= self._dropped - _LEVELS // 2).view(x.shape)
        return _Keep.apply(x, keep, _LEVELS / max(1, _LEVELS - self._dropped))  # type: ignore[return-value]


class _Keep(torch.autograd.Function):
    """x where `keep` holds, times a scale, else 0. Stores one byte per entry for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return torch.where(keep, x, 0.0).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return torch.where(keep, grads[0], 0.0).mul_(ctx.scale), None, None


class DeviceDropout:
    """torch's own dropout, from the generator of a device; for within `torch.random.fork_rng`.

    Args:
        p: share of the entries that become 0, in [0, 1].
    """

    def __init__(self, p: float) -> None:
        self.p = p

    def seed(self, seed: int) -> None:
        torch.cuda.manual_seed(seed)

    def __call__(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p)


def make_dropout(p: float, device: torch.device) -> Dropout:
    """The dropout for a device."""
    return HostDropout(p) if device.type == "cpu" else DeviceDropout(p)


def logits(net: ViT, images: Tensor, drop: Dropout | None = None, whole: bool = False) -> Tensor:
    """The output of `net(images)`, in training with dropout, in evaluation without.

    Args:
        net: the network; its mode does not matter.
        images: (B, 3, image_size, image_size)
        drop: None for evaluation.
        whole: compute all tokens of the last block, for methods that observe its units.

    Returns:
        (B, classes)

    Example:
        >>> net = ViT(width=16, depth=2, heads=2, mlp=32).eval()
        >>> images = torch.rand(2, 3, 32, 32)
        >>> torch.allclose(logits(net, images), net(images), atol=1e-6)
        True
    """
    x = net.patch(images).flatten(2).transpose(1, 2)  # (B, T - 1, C)
    x = _drop(drop, torch.cat([net.class_token.expand(x.shape[0], -1, -1), x], dim=1) + net.position)
    blocks: list[Any] = list(net.blocks)
    last = None if whole else blocks[-1]
    for block in blocks:
        inputs = block.norm1(x)
        if block is last:
            x, asked = x[:, :1], inputs[:, :1]
        else:
            asked = inputs
        x = x + _drop(drop, _attend(block.attention, asked, inputs, drop))
        hidden = _drop(drop, block.mlp.gelu(block.mlp.fc1(block.norm2(x))))
        x = x + _drop(drop, block.mlp.fc2(hidden))
    return net.head(net.norm(x[:, 0]))


def _drop(drop: Dropout | None, x: Tensor) -> Tensor:
    return x if drop is None else drop(x)


def _attend(attention: Attention, asked: Tensor, inputs: Tensor, drop: Dropout | None) -> Tensor:
    """Attention of some tokens to all: `asked` may be fewer than `inputs`."""
    if asked is inputs:
        q, k, v = attention.qkv(inputs).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    else:
        width, weight, bias = inputs.shape[-1], attention.qkv.weight, attention.qkv.bias
        q = F.linear(asked, weight[:width], bias[:width]).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        both = F.linear(inputs, weight[width:], bias[width:])
        k, v = both.unflatten(-1, (2, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, T, C / H)
    if isinstance(drop, HostDropout) and drop.p:
        share = drop((q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1))
        mixed = share @ v
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0 if drop is None else drop.p)
    return attention.out(mixed.transpose(1, 2).flatten(2))
