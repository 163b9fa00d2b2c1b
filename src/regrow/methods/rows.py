"""Some members' rows of a tensor that leads with an axis of members: read without copies where that is possible.

Shapes: M members, k some of them.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def index_of(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Numbers of members as an index on a device, kept: a graph that is captured may not copy them from the host."""
    return _index_of(tuple(numbers), device)


@functools.lru_cache(maxsize=1024)
def _index_of(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=torch.int64, device=device)


def views(w: Tensor, places: Sequence[int]) -> bool:
    """Are these members' values of a stacked tensor a view?"""
    return len(places) in (1, len(w))


def taken(w: Tensor, places: Sequence[int]) -> Tensor:
    """The values of some members, (k, ...), in ascending order: a view if these are all members, or one."""
    if len(places) == len(w):
        return w
    if len(places) == 1:
        return w[places[0] : places[0] + 1]
    return w.index_select(0, index_of(places, w.device))


def added(x: Tensor, places: Sequence[int], values: Tensor) -> Tensor:
    """A stacked tensor with values (k, ...) of some members added, in place."""
    if len(places) == len(x):
        return x.add_(values)
    return x.index_add_(0, index_of(places, x.device), values.to(x.dtype))
