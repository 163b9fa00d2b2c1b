"""Shrink the weights, and perturb them."""

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from . import random
from .eager import CHUNK

_WORDS = 1 << 16  # values of 16 random bits


def scale_(tensors: list[Tensor], factor: float | Tensor) -> None:
    """Multiply tensors by a number, in place and rounded once.

    w <- factor * w

    Args:
        tensors: of any shapes, on one device; changed.
        factor: a number, or a tensor of one element.

    Example:
        >>> import torch
        >>> w = torch.ones(2)
        >>> scale_([w], 0.5)
        >>> w
        tensor([0.5000, 0.5000])
    """
    if not isinstance(factor, Tensor) and any(w.dtype.itemsize == 2 for w in tensors):
        # Where foreach has no kernel, a number is rounded to the tensors' type first (0.999 is 1 in bfloat16).
        factor = torch.tensor(factor, device="cpu")
    torch._foreach_mul_(tensors, factor)  # type: ignore[reportPrivateImportUsage]


def shrink(w: Tensor, rate: float | Tensor) -> Tensor:
    """Decoupled decay.

    w' = (1 - rate) * w

    Args:
        w: weights, of shape (*members, *entries).
        rate: share lost at each update, in [0, 1]; a number or a tensor that broadcasts against `w`.

    Returns:
        A new tensor like `w`.

    Example:
        >>> import torch
        >>> shrink(torch.tensor([2.0]), 0.25)
        tensor([1.5000])

    Reference:
        Hernandez-Garcia et al. 2025, section 3, the L2 baseline.
    """
    return w * (1 - rate)


def perturb(w: Tensor, standard_normal: Tensor, variance: float | Tensor) -> Tensor:
    """Add normal noise.

    w' = w + sqrt(variance) * z,  z ~ Normal(0, 1)

    Args:
        w: weights, of shape (*members, *entries).
        standard_normal: z, of the same shape.
        variance: >= 0; a number or a tensor that broadcasts against `w`.

    Returns:
        A new tensor like `w`.

    Example:
        >>> import torch
        >>> perturb(torch.tensor([2.0]), torch.tensor([1.0]), 0.25)
        tensor([2.5000])

    Reference:
        Ash & Adams 2020; Hernandez-Garcia et al. 2025, section 3, shrink and perturb.
    """
    return w + (variance**0.5 * standard_normal).to(w.dtype)


class Normals:
    """A sequence of standard normal numbers from a key, on a CPU, in half the time that torch takes.

        z = v[u],  u: the next 16 bits of SFC64, which starts at three words made of the key

    v holds the means of the normal distribution over 65,536 stretches of equal probability, scaled to variance 1: out
    to 4.4 standard deviations, and fine enough for noise that is added over and over.

    Example:
        >>> normals = Normals()
        >>> normals.seed(0)
        >>> normals.fill(torch.empty(3))
        tensor([-1.6129,  0.9361,  0.7936])

    Reference:
        SFC64 of C. Doty-Humphrey's PractRand, by NumPy.
    """

    def __init__(self) -> None:
        self._bits = np.random.SFC64(0)

    def seed(self, key: int) -> None:
        """Begin the numbers of a key, from `random.key`."""
        words = np.array([*(int(random.key(key, i)) % (1 << 64) for i in range(3)), 1], np.uint64)
        self._bits.state = {  # a seventh of the time of another generator
            "bit_generator": "SFC64", "state": {"state": words}, "has_uint32": 0, "uinteger": 0,
        }  # fmt: skip
        self._bits.random_raw(12, output=False)  # as its author advises

    def fill(self, out: Tensor) -> Tensor:
        """Write the next numbers, and return them.

        Args:
            out: float32 or float64 (n), contiguous, on the CPU; changed.
        """
        for part in out.split(CHUNK):
            words = self._bits.random_raw(-(-len(part) // 4)).view(np.uint16)[: len(part)]
            torch.index_select(stretches(out.dtype), 0, torch.from_numpy(words.astype(np.int32)), out=part)
        return out


@functools.cache
def stretches(dtype: torch.dtype) -> Tensor:
    """Means of the standard normal distribution over stretches of equal probability, (65,536), of variance 1."""
    bounds = torch.special.ndtri(torch.arange(_WORDS + 1, dtype=torch.float64, device="cpu") / _WORDS)
    density = torch.exp(-(bounds**2) / 2) / math.sqrt(2 * math.pi)
    means = (density[:-1] - density[1:]) * _WORDS
    return (means / means.square().mean().sqrt()).to(dtype)


def parts(tensors: Sequence[Tensor], size: int = CHUNK, sizes: Sequence[int] | None = None) -> Iterator[list[Tensor]]:
    """Group neighbours of one device and type, at most `size` entries together, to save a call for each small tensor.

    Args:
        tensors: of any shapes.
        size: >= 1; a larger tensor is a part of its own.
        sizes: entries of each tensor, where these are parts of larger ones; None: their own.

    Example:
        >>> [len(part) for part in parts([torch.ones(3), torch.ones(4), torch.ones(9), torch.ones(1)], size=8)]
        [2, 1, 1]
    """
    part: list[Tensor] = []
    total = 0
    for w, count in zip(tensors, [w.numel() for w in tensors] if sizes is None else sizes, strict=True):
        total += count
        if part and (total > size or w.device != part[0].device or w.dtype != part[0].dtype):
            yield part
            part, total = [], count
        part.append(w)
    if part:
        yield part
