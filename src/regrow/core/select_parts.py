"""Which entries are renewed, where a tensor lies in parts: `core.select` from sums over the parts alone.

Many tensors are decided at once, so that each round of sums is one message. A sum over parts rounds differently
from one over the whole, so `thresholds` may differ from `select.threshold` at entries within 1e-6 of the limit;
`proportionals` selects exactly what `select.proportional` does.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .precision import wide
from .select import quota

Totals = Callable[[Sequence[Tensor]], list[Tensor]]
"""Adds up over all parts: a tensor for each of the tensors that are decided."""

_BITS = 8  # of a key that one round settles


class TensorPart(NamedTuple):
    """The part of a tensor that lies here.

    utility: of any shape, >= 0. n: entries of the whole. factor: as in `select`.
    uniform, order, index: for `proportionals`, as `select.proportional` takes them; index makes the row-major numbers
    of the entries in the whole, and settles ties of `order`.
    """

    utility: Tensor
    n: int
    factor: float | Tensor
    uniform: Tensor | None = None
    order: Callable[[], Tensor] | None = None
    index: Callable[[], Tensor] | None = None


def thresholds(parts: Sequence[TensorPart], totals: Totals) -> list[tuple[Tensor, Tensor]]:
    """`select.threshold` of many tensors, by one message.

    Returns:
        The mask of what is here of each, and whether its mean is not finite, which selects nothing.

    Example:
        >>> part = TensorPart(torch.tensor([0.0, 1.0, 5.0]), 3, 0.5)
        >>> thresholds([part], lambda sums: list(sums))
        [(tensor([ True,  True, False]), tensor(False))]
    """
    chosen = []
    sums = totals([part.utility.sum(dtype=torch.float64) for part in parts])
    for part, total in zip(parts, sums, strict=True):
        u = wide(part.utility)
        mean = (total / part.n).to(u)
        limit = mean * part.factor + (mean - mean)
        chosen.append((u <= limit, ~total.isfinite()))
    return chosen


def proportionals(parts: Sequence[TensorPart], totals: Totals) -> list[tuple[Tensor, Tensor]]:
    """`select.proportional` of many tensors; a message settles eight bits of every tensor's threshold.

    Returns:
        The mask of what is here of each, and whether its utility holds a NaN, which selects nothing.

    Example:
        >>> part = TensorPart(torch.tensor([3.0, 1.0, 2.0, 0.0]), 4, 0.5)
        >>> proportionals([part], lambda sums: list(sums))
        [(tensor([False,  True, False,  True]), tensor(False))]
    """
    spoilt = [s.isnan() for s in totals([part.utility.sum(dtype=torch.float64) for part in parts])]
    races = [_Race(part, 0 if bool(s) else _count(part)) for part, s in zip(parts, spoilt, strict=True)]
    for keys in (_by_utility, _by_order, _by_index):
        for race in races:
            if race.missing:
                race.begin(*keys(race.part))
        while any(race.left for race in races):
            _settle_bits(races, totals)
    return [(race.chosen.view(race.part.utility.shape), s) for race, s in zip(races, spoilt, strict=True)]


def _count(part: TensorPart) -> int:
    """As many as `select.proportional` selects."""
    share = torch.as_tensor(part.factor, dtype=torch.float64).cpu() * part.n
    k = quota(share, None if part.uniform is None else part.uniform.reshape(()).cpu())
    return int(k.clamp(0, part.n))


class _Race:
    """The search for the k-th lowest entry of one tensor: `missing` of the `tied` are still to be selected."""

    def __init__(self, part: TensorPart, k: int) -> None:
        self.part, self.missing = part, k
        self.left = 0  # bits of the keys that are not settled yet
        size, device = part.utility.numel(), part.utility.device
        self.chosen = torch.zeros(size, dtype=torch.bool, device=device)
        self.tied = torch.ones(size, dtype=torch.bool, device=device)

    def begin(self, keys: Tensor, bits: int) -> None:
        """Order the tied entries by keys >= 0 of this many bits."""
        self._keys, self.left = keys.reshape(-1), bits

    def histogram(self) -> Tensor:
        """How many of the tied have each value of the highest bits that are left."""
        self._shift = max(self.left - _BITS, 0)
        self._digits = (self._keys >> self._shift) & ((1 << _BITS) - 1)
        return torch.bincount(self._digits[self.tied], minlength=1 << _BITS)

    def narrow(self, counts: Tensor) -> None:
        """Select the tied that are below the threshold's bits, given how many there are in all parts."""
        before = counts.cpu().long().cumsum(0)
        digit = int((before < self.missing).sum())
        below = int(before[digit - 1]) if digit else 0
        self.chosen |= self.tied & (self._digits < digit)
        self.tied &= self._digits == digit
        self.missing -= below
        self.left = self._shift
        if int(before[digit]) - below == self.missing:  # all that tie are selected
            self.chosen |= self.tied
            self.missing = self.left = 0


def _settle_bits(races: Sequence[_Race], totals: Totals) -> None:
    """One round of all that have bits left."""
    counts = totals([race.histogram() if race.left else torch.zeros(0) for race in races])
    for race, count in zip(races, counts, strict=True):
        if race.left:
            race.narrow(count)


def _by_utility(part: TensorPart) -> tuple[Tensor, int]:
    """Floats that are not negative are in the order of their bits."""
    u = wide(part.utility).contiguous()
    return (u.view(torch.int64), 63) if u.dtype == torch.float64 else (u.view(torch.int32), 31)


def _by_order(part: TensorPart) -> tuple[Tensor, int]:
    if part.order is None:
        return torch.zeros(part.utility.shape, dtype=torch.int32, device=part.utility.device), 1
    ranks = part.order()
    return ranks, 31 if ranks.dtype == torch.int32 else max(part.n.bit_length(), 1)


def _by_index(part: TensorPart) -> tuple[Tensor, int]:
    here = torch.arange(part.utility.numel(), device=part.utility.device)
    return (here if part.index is None else part.index()), max(part.n.bit_length(), 1)
