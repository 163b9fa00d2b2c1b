"""Give the selected entries new values."""

from collections.abc import Callable

import torch
from torch import Tensor

from ._eager import CHUNK, looking_is_free, selected

Draw = Callable[[Tensor], Tensor]
"""Maps int64 entry indices (row-major, over the whole tensor) to new values."""


def replace(w: Tensor, mask: Tensor, values: Tensor | float) -> Tensor:
    """The tensor with the selected entries replaced.

    w' = values where mask, else w

    Args:
        w: weights, any shape.
        mask: bool of the same shape.
        values: a number, or a tensor that broadcasts against `w`; cast to the type of `w`.

    Returns:
        A new tensor of the shape and type of `w`.

    Example:
        >>> import torch
        >>> replace(torch.ones(2), torch.tensor([True, False]), 0.0)
        tensor([0., 1.])
    """
    if not isinstance(values, Tensor):
        values = torch.full((), values, device=w.device)
    values = values.to(w.dtype)
    return torch.where(mask, values, w)


def resample(w: Tensor, mask: Tensor, draw: Draw) -> Tensor:
    """The tensor with the selected entries drawn anew.

    w'_i = draw(i) where mask_i, else w_i

    Args:
        w: weights, any shape.
        mask: bool of the same shape.
        draw: maps entry indices to values, e.g. `lambda i: law.draw(random.bits(key, i))`.

    Returns:
        A new tensor of the shape and type of `w`.

    Example:
        >>> import torch
        >>> resample(torch.ones(3), torch.tensor([True, False, True]), lambda i: -i.float())
        tensor([ 0.,  1., -2.])

    Reference:
        Hernandez-Garcia et al. 2025, section 2, "resampling".
    """
    index = torch.arange(w.numel(), device=w.device).view(w.shape)
    return replace(w, mask, draw(index))


def resample_(w: Tensor, mask: Tensor, draw: Draw) -> None:
    """`resample` in place and in chunks; on a CPU it draws for the selected entries only.

    Each number belongs to its entry, so the result has the bits of `resample`. Besides the mask it takes memory for
    one chunk (and one copy of `w` where that is not contiguous).

    Args:
        w: weights, any shape; changed.
        mask: bool of the same shape.
        draw: maps entry indices to values.

    Example:
        >>> import torch
        >>> w = torch.ones(3)
        >>> resample_(w, torch.tensor([True, False, True]), lambda i: -i.float())
        >>> w
        tensor([ 0.,  1., -2.])
    """
    flat, chosen = w.reshape(-1), mask.reshape(-1)  # a copy where w is not contiguous
    sparse = looking_is_free(w)
    size = CHUNK if sparse else 16 * CHUNK
    for start in range(0, flat.numel(), size):
        part, picked = flat[start : start + size], chosen[start : start + size]
        if sparse:
            index = selected(picked)
            if index.numel():
                part.scatter_(0, index, draw(index + start).to(w.dtype))
        else:
            index = torch.arange(start, start + part.numel(), device=w.device)
            part.copy_(replace(part, picked, draw(index)))
    if not w.is_contiguous():
        w.copy_(flat.view(w.shape))
