"""What the tests of selection select from: stacks of utilities full of ties, and every way to select from them."""

import math
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from regrow.core import random, select

NAN, INF = float("nan"), float("inf")


def order_of(*parts: int | str, shape: tuple[int, ...]) -> Tensor:
    words = random.bits(random.key("test_select", *parts), torch.arange(math.prod(shape)))
    return random.order(words).view(shape)


def rows_of(x: Tensor, members: int) -> list[list[float]]:
    return x.reshape(math.prod(x.shape[:members]), -1).tolist()


@st.composite
def cases(draw, sizes=(1, 2, 3, 5), factors=(0.0, 0.1, 0.29, 1 / 3, 0.5, 0.9, 1.0)):
    """A stack of utilities full of ties and zeros, now and then a NaN or an infinity, and what goes with it."""
    leading = draw(st.lists(st.integers(1, 3), max_size=2))
    shape = (*leading, *draw(st.lists(st.sampled_from(sizes), max_size=3)))
    n = math.prod(shape)
    level = st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 0.25, 1024.0] + draw(st.sampled_from([[], [NAN, INF]])))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    values = torch.tensor(draw(st.lists(level, min_size=n, max_size=n)), dtype=dtype).view(shape)
    numbers = math.prod(leading)
    if draw(st.booleans()):
        factor = draw(st.sampled_from(factors))
    else:
        several = draw(st.lists(st.sampled_from(factors), min_size=numbers, max_size=numbers))
        factor = torch.tensor(several, dtype=torch.float64).view(leading)
    coins = draw(st.lists(st.integers(0, 2**24 - 1), min_size=numbers, max_size=numbers))
    uniform = draw(st.sampled_from([None, torch.tensor(coins).view(leading) * 2.0**-24]))
    ranks = draw(st.lists(st.integers(0, draw(st.sampled_from([2, 2**31 - 1]))), min_size=n, max_size=n))
    return values, factor, len(leading), uniform, torch.tensor(ranks, dtype=torch.int32).view(shape)


def per_member(value: float | Tensor | None, count: int) -> list:
    return value.reshape(-1).tolist() if isinstance(value, Tensor) else [value] * count


def stack(members: int, *entries: int, ties: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = (members, *entries)
    u = random.uniform(random.bits(random.key("stack"), torch.arange(math.prod(shape)).view(shape)))
    if ties:
        u = torch.where(u < 0.4, 0.0, (u * 8).floor() / 8)
    factor = torch.linspace(0, 1, members, dtype=torch.float64)
    coin = random.uniform(random.bits(random.key("coin"), torch.arange(members)))
    return u, factor, coin, order_of("stack", shape=shape)


def _share_of_eligible(u: Tensor, factor: float | Tensor, members: int, coin: Tensor | None, order: Tensor) -> Tensor:
    """A count for `eligible_lowest` made from a share, and two thirds of the entries eligible."""
    n = math.prod(u.shape[members:])
    count = (factor * n).long() if isinstance(factor, Tensor) else int(factor * n)
    return select.eligible_lowest(u, order % 3 > 0, count, members, order=order)


SELECTIONS: dict[str, Callable[..., Tensor]] = {  # called with (utility, factor, members, coin, order)
    "threshold": lambda u, f, m, c, o: select.threshold(u, f, m),
    "proportional": lambda u, f, m, c, o: select.proportional(u, f, m, uniform=c, order=o),
    "proportional, no order": lambda u, f, m, c, o: select.proportional(u, f, m, uniform=c),
    "eligible_lowest": _share_of_eligible,
}
