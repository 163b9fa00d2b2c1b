"""Give the selected entries new values."""

from collections.abc import Callable

import torch
from torch import Tensor

from .eager import CHUNK, looking_is_free, selected

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
        values = torch.full((), values, dtype=w.dtype, device=w.device)
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
        >>> resample(torch.ones(3), torch.tensor([True, False, True]), lambda i: 10 + i.float())
        tensor([10.,  1., 12.])

    Reference:
        Hernandez-Garcia et al. 2025, section 3, "resampling".
    """
    index = torch.arange(w.numel(), device=w.device).view(w.shape)
    return replace(w, mask, draw(index))


def resample_(w: Tensor, mask: Tensor, draw: Draw) -> None:
    """`resample` in place and in chunks; on a CPU it draws for the selected entries only.

    Each number belongs to its entry, so the result has the bits of `resample`. Besides the mask it takes memory for
    one chunk, whatever the layout of `w`.

    Args:
        w: weights, any shape; changed.
        mask: bool of the same shape.
        draw: maps entry indices to values.

    Example:
        >>> import torch
        >>> w = torch.ones(3)
        >>> resample_(w, torch.tensor([True, False, True]), lambda i: 10 + i.float())
        >>> w
        tensor([10.,  1., 12.])
    """
    chosen = mask.reshape(-1)
    flat = w.view(-1) if w.is_contiguous() else None
    sparse = looking_is_free(w)
    size = CHUNK if sparse else 16 * CHUNK
    for start in range(0, w.numel(), size):
        picked = chosen[start : start + size]
        if sparse:
            index = selected(picked)
            if index.numel() and flat is not None:
                flat[start : start + size].scatter_(0, index, draw(index + start).to(w.dtype))
            elif index.numel():
                w.index_put_(torch.unravel_index(index + start, w.shape), draw(index + start).to(w.dtype))
        else:
            index = torch.arange(start, start + picked.numel(), device=w.device)
            if flat is not None:
                part = flat[start : start + size]
                part.copy_(replace(part, picked, draw(index)))
            else:
                at = torch.unravel_index(index, w.shape)
                w.index_put_(at, replace(w[at], picked, draw(index)))


def resample_slices_(w: Tensor, dim: int, chosen: Tensor, draw: Draw) -> None:
    """`resample_` of whole slices along one dimension; on a CPU it touches the chosen ones only.

    w_i = draw(i) for every entry i with chosen[i_dim]

    Args:
        w: weights, any shape; changed.
        dim: the dimension that `chosen` runs along.
        chosen: bool of shape (w.shape[dim],).
        draw: maps row-major entry indices of `w` to values.

    Example:
        >>> import torch
        >>> w = torch.ones(2, 2)
        >>> resample_slices_(w, 1, torch.tensor([False, True]), lambda i: -i.float())
        >>> w
        tensor([[ 1., -1.],
                [ 1., -3.]])
    """
    if not looking_is_free(w):
        return resample_(w, _along(w, dim, chosen).expand(w.shape), draw)
    slices, dim = selected(chosen), dim % w.dim()
    index = torch.zeros((), dtype=torch.int64)
    for d, size in enumerate(w.shape):
        at = slices if d == dim else torch.arange(size)
        index = index.unsqueeze(-1) * size + at
    w.index_copy_(dim, slices, draw(index.reshape(-1)).view(index.shape).to(w.dtype))


def fill_slices_(w: Tensor, dim: int, chosen: Tensor, value: float) -> None:
    """Set whole slices along one dimension to a number.

    w_i = value for every entry i with chosen[i_dim]

    Args:
        w: weights, any shape; changed.
        dim: the dimension that `chosen` runs along.
        chosen: bool of shape (w.shape[dim],).
        value: the number.

    Example:
        >>> import torch
        >>> w = torch.ones(2, 2)
        >>> fill_slices_(w, 1, torch.tensor([False, True]), 0.0)
        >>> w
        tensor([[1., 0.],
                [1., 0.]])
    """
    if looking_is_free(w):
        w.index_fill_(dim, selected(chosen), value)
    else:
        w.masked_fill_(_along(w, dim, chosen), value)


def _along(w: Tensor, dim: int, chosen: Tensor) -> Tensor:
    return chosen.view([-1 if d == dim % w.dim() else 1 for d in range(w.dim())])
