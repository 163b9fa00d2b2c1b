"""Claim: of a tensor in parts, `core.select_parts` selects what `core.select` selects of the whole.

The parts run in threads, whose sums meet at a barrier.
"""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from regrow.core import random, select, select_parts
from regrow.core.select_parts import TensorPart


class Sums:
    """Adds up over threads, in float64, as messages between ranks do; counts the messages."""

    def __init__(self, parts: int) -> None:
        self._barrier, self._given, self.messages = threading.Barrier(parts), [[]] * parts, 0

    def of(self, rank: int) -> select_parts.Totals:
        def totals(own: Sequence[Tensor]) -> list[Tensor]:
            self._given[rank] = [x.double() for x in own]
            self._barrier.wait()
            added = [torch.stack(every).sum(0) for every in zip(*self._given, strict=True)]
            self.messages += rank == 0
            self._barrier.wait()
            return added

        return totals


def select_in_parts(
    decide: Any, wholes: list[TensorPart], sizes: Sequence[int]
) -> tuple[list[Tensor], list[bool], int]:
    """Each tensor cut into parts of these relative sizes; masks put together again, what was spoilt, messages."""
    sums, found = Sums(len(sizes)), [[]] * len(sizes)

    def cut(whole: TensorPart, rank: int) -> TensorPart:
        n = len(whole.utility)
        ends = [sum(sizes[:i]) * n // sum(sizes) for i in range(len(sizes) + 1)]
        own = slice(ends[rank], ends[rank + 1])
        order = None if whole.order is None else lambda: whole.order()[own]
        return whole._replace(utility=whole.utility[own], order=order, index=lambda: torch.arange(n)[own])

    def run(rank: int) -> None:
        found[rank] = decide([cut(whole, rank) for whole in wholes], sums.of(rank))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    masks = [torch.cat([mask for mask, _ in of]) for of in zip(*found, strict=True)]
    return masks, [bool(spoilt) for _, spoilt in found[0]], sums.messages


def utilities(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Smooth, tied, all equal, with infinite ones, huge and tiny, of one entry."""
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(1000, generator=generator, dtype=dtype)
    tied = (smooth * 5).floor()
    infinite = torch.where(smooth > 0.9, torch.inf, smooth)
    wide = torch.exp(80 * smooth - 60)
    return [
        smooth,
        tied,
        torch.zeros(64, dtype=dtype),
        infinite,
        wide,
        smooth[:1],
        torch.where(smooth < 0.5, 0, smooth),
    ]


SIZES = [(1,), (1, 1), (3, 3, 3, 1), (1, 0, 2)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_proportional(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    for factor in (0.0, 0.001, 0.29, 0.5, 1.0):
        wholes, expected = [], []
        for i, u in enumerate(utilities(dtype)):
            for name, ranks in orders(u).items():
                uniform = random.uniform(random.bits(i, torch.zeros(1, dtype=torch.int64)))
                wholes.append(TensorPart(u, len(u), factor, uniform, lambda ranks=ranks: ranks))
                mask = select.proportional(u, factor, uniform=uniform.squeeze(), order=ranks)
                expected.append((f"{i} {name} {factor}", mask))
        masks, spoilt, _ = select_in_parts(select_parts.proportionals, wholes, sizes)
        assert not any(spoilt)
        assert all(torch.equal(mask, m) for mask, (case, m) in zip(masks, expected, strict=True)), factor


def orders(u: Tensor) -> dict[str, Tensor]:
    index = torch.arange(len(u))
    return {"random": random.order(random.bits(7, index)), "shared": (index % 3).int(), "position": index}


@pytest.mark.parametrize("sizes", SIZES)
def test_threshold(sizes: tuple[int, ...]) -> None:
    wholes = [TensorPart(u, len(u), factor) for u in utilities() for factor in (0.0, 0.3, 1.0)]
    masks, spoilt, messages = select_in_parts(select_parts.thresholds, wholes, sizes)
    assert messages == 1  # for all tensors
    for whole, mask, bad in zip(wholes, masks, spoilt, strict=True):
        limit = whole.utility.double().mean() * whole.factor
        near = ((whole.utility.double() - limit).abs() <= 1e-6 * limit) & (0 < limit < torch.inf)
        expected = select.threshold(whole.utility, whole.factor)
        assert torch.equal(mask[~near], expected[~near]) and int(near.sum()) <= 1
        assert bad == (not bool(whole.utility.sum().isfinite()))


def test_a_nan_anywhere_selects_nothing_anywhere() -> None:
    u = torch.rand(100)
    u[99] = torch.nan
    for decide in (select_parts.thresholds, select_parts.proportionals):
        masks, spoilt, _ = select_in_parts(decide, [TensorPart(u, 100, 0.5), TensorPart(u[:99], 99, 0.5)], (1, 1))
        assert spoilt == [True, False] and not masks[0].any() and masks[1].any()


def test_a_threshold_takes_a_message_for_each_byte_of_the_utility() -> None:
    wholes = [TensorPart(u, len(u), 0.3) for u in (torch.rand(1000), torch.rand(50), torch.rand(7))]
    messages = select_in_parts(select_parts.proportionals, wholes, (1, 1))[2]
    assert 1 < messages <= 1 + 4  # the first adds up the utilities, and the last may not be needed
