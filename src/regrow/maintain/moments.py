"""What an optimizer remembers of an entry that is no more.

A momentum that belonged to the old value would push the new one, so it becomes 0. So does, by default, the second
moment: Adam divides by its root, so that the next steps of a renewed entry are up to three times the learning rate.
With the mean over the tensor's kept entries in its place, a renewed entry takes the steps that its neighbours would
take with its gradients, which are small at first: it then learns less (measured in docs/howto/training-loop.md).
"""

import warnings
from collections.abc import Mapping, MutableMapping, MutableSet
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..core.precision import wide_type
from ..shards import local
from .optimizers import COPIES, SCRATCH

FIRST = frozenset({"exp_avg", "momentum_buffer", "grad_avg"})
SECOND = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "exp_inf", "acc_delta", "variance"})
SCALARS = frozenset({"step", "mu_product", "eta", "mu"})  # one for the whole parameter


def clear(
    state: MutableMapping[str, Any],
    mask: Tensor,
    second: str = "mean",
    *,
    weight: Tensor | None = None,
    warned: MutableSet[str] | None = None,
    totals: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Make an optimizer forget the renewed entries of one parameter, in place.

    first moments <- 0;  second moments <- mean over the kept entries (all, if none is kept)

    Args:
        state: `optimizer.state[parameter]`.
        mask: bool of the parameter's shape, True where renewed.
        second: "mean", or "zero" to set second moments to 0 as well.
        weight: the parameter with its new entries, for state that holds a copy of it (Lookahead).
        warned: names of state that a warning has named; None: it is named once in the process.
        totals: where the parameter lies in shards, `sums` added up over all of them.

    Example:
        >>> import torch
        >>> state = {"exp_avg": torch.ones(3), "exp_avg_sq": torch.tensor([1.0, 3.0, 9.0])}
        >>> clear(state, torch.tensor([False, False, True]))
        >>> state
        {'exp_avg': tensor([1., 1., 0.]), 'exp_avg_sq': tensor([1., 3., 2.])}
    """
    warned = _warned if warned is None else warned
    for key, value in state.items():
        value = local(value)
        if not isinstance(value, Tensor):
            if key not in warned and _holds_tensors(value):
                _warn(key, "is no tensor of one number per entry", warned)
        elif value.shape != mask.shape:
            if value.dim() > 0 and value.numel() > 1 and key not in warned:
                _warn(key, "is factored or rotated, not one number per entry,", warned)
        elif (value.dim() == 0 and key in SCALARS) or key in SCRATCH:
            continue
        elif key in COPIES:
            if weight is not None:
                value.copy_(torch.where(mask, weight.to(value.dtype), value))
        elif key in FIRST or (key in SECOND and second == "zero"):
            value.masked_fill_(mask, 0.0)
        elif key in SECOND:
            mean = _mean(totals[key]) if key in totals else _mean_of_kept(value, mask)
            value.masked_fill_(mask, mean.to(value.dtype))
        elif key not in warned:
            _warn(key, "is unknown to regrow", warned)


def sums(state: Mapping[str, Any], mask: Tensor) -> dict[str, Tensor]:
    """Of each second moment: sum and number of the kept entries, sum and number of all, float64 (4)."""
    parts = {key: local(value) for key, value in state.items() if key in SECOND}
    parts = {key: value for key, value in parts.items() if isinstance(value, Tensor) and value.shape == mask.shape}
    kept, size = (~mask).sum().double(), torch.full_like(mask, True).sum().double()
    return {key: torch.stack([_total(torch.where(mask, 0, v)), kept, _total(v), size]) for key, v in parts.items()}


def _total(values: Tensor) -> Tensor:
    return values.sum(dtype=torch.float64)


def _mean(totals: Tensor) -> Tensor:
    """Over the kept entries or, where there are none, over all."""
    kept, n, every, size = totals
    return torch.where(n > 0, kept / n, every / size)


_warned: set[str] = set()


def _warn(key: str, why: str, warned: MutableSet[str]) -> None:
    warned.add(key)
    warnings.warn(
        f"optimizer state {key!r} {why} and stays as it is for renewed entries "
        f"(known: {', '.join(sorted(FIRST | SECOND))}); clear_moments=False leaves all of it",
        stacklevel=2,
    )


def _holds_tensors(value: object) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(part, Tensor) for part in value)


def _mean_of_kept(value: Tensor, mask: Tensor) -> Tensor:
    kept = mask.numel() - torch.count_nonzero(mask)
    mean = torch.where(mask, 0, value).sum(dtype=wide_type(value)) / kept
    return torch.where(kept > 0, mean, value.mean(dtype=wide_type(value)))
