"""Which entries are renewed? Masks over the entries, decided for each member on its own.

Shapes: utility (*members, *entries); factor a float or of shape (*members). Every reduction runs over the entries.
A tensor with a NaN among its eligible utilities selects nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import random
from .eager import compare, count, looking_is_free
from .precision import wide

Order = Tensor | Callable[[], Tensor]
"""Ranks that break ties, of the shape of the utility; or a function that makes them."""


def _same_shape(name: str, value: Tensor, utility: Tensor) -> None:
    if value.shape != utility.shape:
        shape = tuple(utility.shape)
        raise ValueError(f"`{name}` must have the shape of `utility`, {shape}; got {tuple(value.shape)}")


def _rows(x: Tensor, members: int) -> Tensor:
    """(*members, *entries) -> (*members, n)"""
    return x.reshape(*x.shape[:members], -1).contiguous()  # the order of summation must not depend on the layout


def _per_member(value: float | Tensor, like: Tensor, members: int, name: str) -> Tensor:
    """A number or a member-shaped tensor as (*members, 1)."""
    if not isinstance(value, Tensor):
        value = torch.full((), value, dtype=torch.float64, device=like.device)
    elif value.shape not in (torch.Size(), like.shape[:members]):
        raise ValueError(
            f"`{name}` must be a float or have the shape of the members, {tuple(like.shape[:members])}; "
            f"got {tuple(value.shape)}: name the number of leading member axes in `members`"
        )
    return value.expand(like.shape[:members]).unsqueeze(-1)


def _alone(utility: Tensor, members: int) -> bool:
    """Is there one member only? Then the code for a single tensor is used, which takes a third of the time on a CPU."""
    return members > 0 and utility.shape[:members].numel() == 1


def _only(x: Any, members: int) -> Any:
    """What belongs to the only member, without its axes."""
    return x.reshape(x.shape[members:]) if isinstance(x, Tensor) else x


def _only_order(order: Order | None, members: int) -> Order | None:
    return (lambda: _only(order(), members)) if callable(order) else _only(order, members)


def threshold(utility: Tensor, factor: float | Tensor, members: int = 0) -> Tensor:
    """Select every entry whose utility is at most a fraction of the mean.

    mask = U <= factor * mean(U)

    The paper's text says "lower than"; its code, and ours, `<=`: a layer whose utilities are all zero, a dead one,
    is renewed whole. A mean that is not finite selects nothing.

    Args:
        utility: >= 0, of shape (*members, *entries).
        factor: >= 0; a float or of shape (*members).
        members: number of leading axes that index members.

    Returns:
        bool of the shape of `utility`.

    Raises:
        ValueError: where `factor` fits neither form.

    Example:
        >>> import torch
        >>> threshold(torch.tensor([0.0, 1.0, 5.0]), 0.5)
        tensor([ True,  True, False])

    Reference:
        Hernandez-Garcia et al. 2025, section 3, "threshold pruning".
    """
    if _alone(utility, members):
        return threshold(_only(utility, members), _only(factor, members)).view(utility.shape)
    rows = _rows(wide(utility), members)
    mean = rows.mean(-1, keepdim=True)
    if isinstance(factor, Tensor):
        factor = _per_member(factor, rows, members, "factor").to(mean.dtype)
    limit = mean * factor + (mean - mean)  # NaN, which nothing is at most, unless the mean is finite
    return compare(np.less_equal, rows, limit).view(utility.shape)


def proportional(
    utility: Tensor,
    factor: float | Tensor,
    members: int = 0,
    *,
    uniform: Tensor | None = None,
    order: Order | None = None,
) -> Tensor:
    """Select the given share of entries, those of lowest utility.

    k = floor(factor * n) + Bernoulli(factor * n - floor(factor * n));  mask = the k lowest, ties by `order`

    Args:
        utility: >= 0, of shape (*members, *entries), n entries a member.
        factor: share in [0, 1]; a float or of shape (*members).
        members: number of leading axes that index members.
        uniform: in [0, 1), of shape (*members): decides the Bernoulli part. None: k = floor(factor * n).
        order: of the shape of `utility`, any real type: of equal utilities the one of lower `order` goes first. Draw
            it at random, or ties (half of all utilities on MNIST) fall to a fixed choice. A function that makes it is
            called only where ties need it. None: a fixed scramble of the entry indices, never their sequence.

    Returns:
        bool of the shape of `utility`, with exactly k entries of each member selected.

    Raises:
        ValueError: where `factor`, `uniform` or `order` has another shape.

    Example:
        >>> import torch
        >>> proportional(torch.tensor([3.0, 1.0, 2.0, 0.0]), 0.5)
        tensor([False,  True, False,  True])

    Reference:
        Hernandez-Garcia et al. 2025, section 3, "proportional pruning".
    """
    if isinstance(order, Tensor):
        _same_shape("order", order, utility)
    if _alone(utility, members):
        own = proportional(
            _only(utility, members), _only(factor, members), uniform=_only(uniform, members),
            order=_only_order(order, members),
        )  # fmt: skip
        return own.view(utility.shape)
    rows = _rows(wide(utility), members)
    share = _per_member(factor, rows, members, "factor").double() * rows.shape[-1]
    k = quota(share, None if uniform is None else _per_member(uniform, rows, members, "uniform"))
    k = k.clamp(0, rows.shape[-1])
    k = torch.where(rows.sum(-1, keepdim=True).isnan(), 0, k).long()
    return _lowest(rows, k, lambda: _ranks(order, utility, members)).reshape(utility.shape)


def quota(share: Tensor, uniform: Tensor | None = None) -> Tensor:
    """How many entries a share is that need not be a whole number.

    k = floor(share) + (uniform < share - floor(share))

    Args:
        share: factor * n, float64.
        uniform: in [0, 1), broadcasts against `share`; None: k = floor(share).

    Example:
        >>> import torch
        >>> quota(torch.tensor([2.25, 0.29 * 100], dtype=torch.float64), torch.tensor([0.125, 0.5]))
        tensor([ 3., 29.], dtype=torch.float64)
    """
    # 0.29 * 100 is 28.999999999999996, and a factor may come rounded to float32.
    k = (share * (1 + 2.0**-23) + 1e-6).floor()
    return k if uniform is None else k + (uniform < share - k)


def eligible_lowest(
    utility: Tensor, eligible: Tensor, count: int | Tensor, members: int = 0, *, order: Order | None = None
) -> Tensor:
    """Select the given number of entries of lowest utility among those that may be selected.

    mask = the min(count, number eligible) lowest eligible entries, ties by `order`

    Args:
        utility: >= 0, of shape (*members, *entries).
        eligible: bool of that shape.
        count: how many, >= 0; an int or of shape (*members).
        members: number of leading axes that index members.
        order: as for `proportional`.

    Returns:
        bool of the shape of `utility`; none of a member whose eligible utilities hold a NaN.

    Raises:
        ValueError: where `count`, `eligible` or `order` has another shape.

    Example:
        >>> import torch
        >>> eligible_lowest(torch.tensor([3.0, 1.0, 2.0, 0.0]), torch.tensor([True, True, True, False]), 1)
        tensor([False,  True, False, False])

    Reference:
        Hernandez-Garcia et al. 2025, section 4, continual backpropagation.
    """
    _same_shape("eligible", eligible, utility)
    if isinstance(order, Tensor):
        _same_shape("order", order, utility)
    if _alone(utility, members):
        own = _only(utility, members), _only(eligible, members), _only(count, members)
        return eligible_lowest(*own, order=_only_order(order, members)).view(utility.shape)
    if isinstance(count, int) and utility.dim() == 1 and not members:
        if looking_is_free(utility) and looking_is_free(eligible):
            mask = _lowest_without_ties(wide(utility).detach().numpy(), eligible.detach().numpy(), count)
            if mask is not None:
                return torch.from_numpy(mask)
    allowed = _rows(eligible, members)
    rows = _rows(wide(utility), members).masked_fill(~allowed, torch.inf)
    k = torch.minimum(_per_member(count, rows, members, "count").long(), allowed.sum(-1, keepdim=True))
    k = torch.where(rows.isnan().any(-1, keepdim=True), 0, k)

    def ranks() -> Tensor:  # an eligible entry of infinite utility ties with those that are not: they go last
        tie = _ranks(order, utility, members)
        last = _largest(tie.dtype)
        return torch.where(allowed, tie.clamp(max=last - 1), last)

    mask = _lowest(rows, k, ranks)
    return (mask & allowed).reshape(utility.shape)


def _lowest_without_ties(utility: np.ndarray, eligible: np.ndarray, count: int) -> np.ndarray | None:
    """`eligible_lowest` for 1-D arrays on a CPU, in a tenth of the time: bool (n,).

    None if entries tie for the last place, which this cannot decide.
    """
    candidates = utility[eligible]
    k = min(count, candidates.size)
    if k < 1:
        return np.zeros_like(eligible)
    edge = candidates.min() if k == 1 else np.partition(candidates, k - 1)[k - 1]
    if np.isnan(candidates.max()):
        return np.zeros_like(eligible)
    mask = (utility <= edge) & eligible
    return mask if np.count_nonzero(mask) == k else None


def _lowest(rows: Tensor, k: Tensor, order: Callable[[], Tensor]) -> Tensor:
    """The k lowest of each row (k: (..., 1), 0 <= k <= n) as a mask; ties by `order`, then by place."""
    if rows.shape[-1] == 0:
        return torch.zeros_like(rows, dtype=torch.bool)
    cut = _kth(rows, k)
    tied = compare(np.equal, rows, cut)
    missing = k - _count(compare(np.less, rows, cut))
    eager = looking_is_free(rows) and looking_is_free(k)
    if eager and bool((_count(tied) == missing).all()):
        return compare(np.less_equal, rows, cut)
    ranks = order()
    if eager and looking_is_free(ranks) and rows.dim() == 1:  # only the tied ones need ranking
        among, at = ranks.numpy()[tied.numpy()], max(int(missing) - 1, 0)
        among.partition(at)
        last = torch.from_numpy(among[at : at + 1].copy())
        del among
    else:
        last = _kth(torch.where(tied, ranks, _largest(ranks.dtype)), missing)
    first = compare(np.less, ranks, last).logical_and_(tied)
    edge = compare(np.equal, ranks, last).logical_and_(tied)
    del ranks, tied  # as large as the tensor
    missing = missing - _count(first)
    if not (eager and bool((_count(edge) == missing).all())):  # some share a rank: by index
        edge = edge & (edge.cumsum(-1) <= missing)
    return first.logical_or_(compare(np.less, rows, cut)).logical_or_(edge)


def _count(mask: Tensor) -> Tensor:
    """True entries of each row, (..., 1)."""
    if mask.dim() == 1:
        return count(mask).unsqueeze(0)  # `sum` would make an int64 copy of the mask first
    return mask.sum(-1, keepdim=True)


def _kth(rows: Tensor, k: Tensor) -> Tensor:
    """The k-th smallest value of each row; for k = 0 the smallest."""
    at = (k - 1).clamp(min=0)
    if not (looking_is_free(rows) and looking_is_free(k)):
        return rows.sort(-1).values.gather(-1, at)
    # NumPy sorts and partitions without indices, by vector instructions: a tenth of the time of torch's sort on a CPU.
    values = rows.detach().numpy()
    if rows.dim() == 1:
        # Many equal values, such as the zeros on MNIST, slow down a partition; checking for a cut of 0 first is cheap.
        if int(at) < values.size - np.count_nonzero(values) and not (values < 0).any():
            return rows.new_zeros(1)
        return torch.from_numpy(np.partition(values, int(at))[at.numpy()])
    return torch.from_numpy(np.sort(values, axis=-1)).gather(-1, at)


def _ranks(order: Order | None, utility: Tensor, members: int) -> Tensor:
    """The order as (*members, n); where none is given, a scramble of the entry indices."""
    if order is None:
        rows = _rows(utility, members)
        index = torch.arange(rows.shape[-1], device=rows.device)
        return random.order(random.bits(0, index)).expand(rows.shape)
    order = order if isinstance(order, Tensor) else order()
    _same_shape("order", order, utility)
    return _rows(order.float() if order.dtype == torch.bfloat16 else order, members)  # NumPy has no bfloat16


def _largest(dtype: torch.dtype) -> float | int:
    return torch.inf if dtype.is_floating_point else torch.iinfo(dtype).max
