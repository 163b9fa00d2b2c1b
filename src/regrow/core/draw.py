"""From random bits to numbers of a law, by exact arithmetic only.

Logarithms and cosines differ in their last bit between devices. A quantile function tabulated once needs only
integer operations, one exact product and one rounded sum, so a draw has the same bits on a CPU, on CUDA and under
a compiler that fuses multiply and add.

The low 32 bits of a word, read as a signed integer x, pick a point of the distribution: its sign says which half,
q = |x| / 2**32 in (0, 1/2] the probability beyond the point. As float32, |x| is already a place on a logarithmic
grid: 5 bits of exponent and 9 of mantissa number a cell, the other 14 interpolate within it. The cells halve in
width towards the tail, so that it is as exact as the body, out to q = 2**-32 (6.2 standard deviations).
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .eager import looking_is_free, vmapped


class Tabulated(Protocol):
    """A distribution that draws from a table."""

    def _name(self) -> tuple:
        """What the table depends on."""
        ...

    def _make(self) -> Tensor:
        """The table, from `draw.quantile_table`, on the CPU."""
        ...


class _Tables:
    """One attribute for each table and device: compiled code reads an attribute at each use, but a dict only once."""


_tables = _Tables()


def table(of: Tabulated, device: torch.device) -> Tensor:
    """The table of a distribution on a device."""
    return getattr(_tables, _ready(of, device))


def _ready(of: Tabulated, device: torch.device) -> str:
    """The attribute that holds the table, created if missing."""
    name = f"{of._name()} {device}".replace(".", "_")  # a compiler takes a dot for a further attribute
    if not hasattr(_tables, name):
        with torch.device("cpu"), torch.inference_mode(False):
            setattr(_tables, name, of._make().to(device))
    return name


# A constant to the compiler, which then runs it as it is: a table that the compiler made would have other bits. This
# is what torch.compiler.assume_constant_result sets; calling that would load the whole compiler.
_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]


CPU = torch.device("cpu")
_CELL_BITS, FRACTION_BITS = 9, 14
CELLS = 1 << (5 + _CELL_BITS)  # 5 bits of exponent: |x| runs over 2**0 .. 2**31


def quantile_table(tail: Callable[[Tensor, bool], Tensor]) -> Tensor:
    """Tabulate a quantile function on the logarithmic grid of `from_table`.

    Args:
        tail: maps q, float64 in (0, 1/2], and `upper` to the point with probability q below it (upper=False) or
            above it (upper=True).

    Returns:
        float32 of shape (2, 2 * cells): the value at each cell's start and its rise per unit of the 14-bit
        fraction; upper half first. The rise has 10 significant bits, so its product with the fraction is exact.

    Example:
        >>> import torch
        >>> quantile_table(lambda q, upper: 1 - q if upper else q).shape
        torch.Size([2, 32768])
    """
    cell = torch.arange(CELLS, device=CPU)
    # The low 5 bits of a float32's biased exponent: 127 (|x| = 1) is 31, 128 is 0, 158 (|x| = 2**31) is 30.
    exponent = ((cell >> _CELL_BITS) + 1) % 32
    start = torch.ldexp(1.0 + (cell % (1 << _CELL_BITS)).double() / (1 << _CELL_BITS), exponent)
    width = torch.ldexp(torch.ones(CELLS, dtype=torch.float64, device=CPU), exponent - _CELL_BITS)
    q = torch.stack([start, start + width]).mul(2.0**-32).clamp(max=0.5)
    halves = []
    for upper in (True, False):
        low, high = tail(q[0], upper).double(), tail(q[1], upper).double()
        mantissa, power = torch.frexp((high - low) / (1 << FRACTION_BITS))
        rise = torch.ldexp((mantissa * 1024).round() / 1024, power)
        halves.append(torch.stack([low, rise]))
    return torch.cat(halves, dim=1).float()


class _Bits(torch.autograd.Function):
    """`view(torch.int32)` with a rule for `torch.func.vmap`, which has none of its own before torch 2.13."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]
        return x.view(torch.int32)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is kept: bits have no gradient."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], x: Tensor) -> tuple[Tensor, int | None]:  # type: ignore[override]
        return _bits(x), in_dims[0]


def _bits(x: Tensor) -> Tensor:
    """The bits of float32 numbers, as int32."""
    return _Bits.apply(x) if vmapped(x) else x.view(torch.int32)  # type: ignore[return-value]


def from_table(words: Tensor, table: Tensor) -> Tensor:
    """Numbers of the law whose quantile function was tabulated.

    value = start[cell] + rise[cell] * fraction

    Args:
        words: int64, from `random.bits`; the low 32 bits are used.
        table: from `quantile_table`, on the same device.

    Returns:
        float32 of the same shape.

    Example:
        >>> import torch
        >>> from regrow.core import random
        >>> from_table(random.bits(0, torch.arange(3)), normal_table())
        tensor([ 0.0478, -0.3365, -0.0004])
    """
    if looking_is_free(words):
        return torch.from_numpy(np.asarray(_from_table_here(words.numpy(), table.numpy())))
    x = words.int()  # keeps the low 32 bits
    place = _bits(x.float().abs_())
    lower = (x >> 31) & CELLS
    cell = ((place >> FRACTION_BITS) & (CELLS - 1)) | lower
    fraction = (place & ((1 << FRACTION_BITS) - 1)).float()
    cell = cell.reshape(-1).long() if vmapped(cell) else cell.reshape(-1)  # torch 2.6 gathers by int64 alone there
    start, rise = table[0].index_select(0, cell).view(x.shape), table[1].index_select(0, cell).view(x.shape)
    return start + rise * fraction


def _from_table_here(words: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`from_table` by NumPy, a quarter of the time for a thousand numbers."""
    x = words.astype(np.int32)
    place = np.abs(x.astype(np.float32)).view(np.int32)
    cell = (place >> FRACTION_BITS) & (CELLS - 1) | (x >> 31) & CELLS
    value = table[1].take(cell)
    value *= (place & ((1 << FRACTION_BITS) - 1)).astype(np.float32)
    value += table[0].take(cell)
    return value


def symmetric_uniform(words: Tensor, bound: float) -> Tensor:
    """Uniform numbers in (-bound, bound).

    value = bound * s, s an odd multiple of 2**-24 in (-1, 1)

    Args:
        words: int64, from `random.bits`; the top 25 bits are used.
        bound: half the width of the interval, > 0.

    Returns:
        float32 of the same shape.

    Example:
        >>> import torch
        >>> from regrow.core import random
        >>> symmetric_uniform(random.bits(0, torch.arange(2)), 0.5)
        tensor([-0.1167,  0.4315])
    """
    return ((words >> 39) | 1).float() * (bound * 2.0**-24)


class _StandardNormal:
    def _name(self) -> tuple:
        return ("standard normal",)

    def _make(self) -> Tensor:
        return quantile_table(lambda q, upper: -torch.special.ndtri(q) if upper else torch.special.ndtri(q))


_STANDARD_NORMAL = _StandardNormal()


def normal_table(device: torch.device = CPU) -> Tensor:
    """Quantile table of the standard normal distribution, for `from_table`."""
    return table(_STANDARD_NORMAL, device)
