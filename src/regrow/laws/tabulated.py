"""Laws whose quantile function is tabulated: the truncated normal, and one entry of a random orthogonal matrix."""

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from ..core import draw
from ..core.draw import table
from .distributions import Law, finite, phi, require, scaled


@final
@dataclass(frozen=True, init=False, repr=False)
class TruncatedNormal(Law):
    """Normal distribution given that it falls into an interval, as `torch.nn.init.trunc_normal_` draws it.

    x ~ Normal(mean, std) given low <= x <= high

    Args:
        mean: of the normal distribution before truncation; the attributes `mean` and `std` are those after it.
        std: likewise, > 0.
        low: lowest value, absolute: not in units of `std`.
        high: highest value, > low.

    Raises:
        ValueError: outside these ranges, or where the interval lies so far in the tail that it has no probability.

    Example:
        >>> from regrow.core import random
        >>> TruncatedNormal(0, 1, -1, 1).draw(random.bits(0, torch.arange(3)))
        tensor([ 0.0327, -0.2274, -0.0002])
    """

    loc: float
    scale: float
    low: float
    high: float

    def __init__(self, mean: float = 0.0, std: float = 1.0, low: float = -2.0, high: float = 2.0) -> None:
        for name, value in (("loc", mean), ("scale", std), ("low", low), ("high", high)):
            object.__setattr__(self, name, value)
        finite(self, "loc", "scale", "low", "high")
        require(self, self.scale > 0, "`std` must be > 0")
        require(self, self.low < self.high, "`low` must be < `high`")
        require(self, self._standard()[2] > 0, "the interval must have a probability above 0")

    @property
    def mean(self) -> float:
        a, b, mass, sign = self._standard()
        return self.loc + sign * self.scale * (_density(a) - _density(b)) / mass

    @property
    def std(self) -> float:
        a, b, mass, _ = self._standard()
        first = (_density(a) - _density(b)) / mass
        second = 1 + (a * _density(a) - b * _density(b)) / mass
        return self.scale * math.sqrt(max(0.0, second - first**2))

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def continuous(self) -> bool:
        return True

    def draw(self, words: Tensor) -> Tensor:
        z = draw.from_table(words, table(self, words.device))
        return scaled(z, self.scale, self.loc).clamp(self.low, self.high)

    def cdf(self, x: Tensor) -> Tensor:
        a, b, mass, sign = self._standard()
        below = (phi((sign * (x - self.loc) / self.scale).clamp(a, b)) - _phi(a)) / mass
        return below if sign > 0 else 1 - below

    def _standard(self) -> tuple[float, float, float, int]:
        """The interval in standard deviations, its probability and a sign: -1 where it was mirrored to lie left.

        To the right of 0 probabilities are close to 1, and their differences lose all digits.
        """
        a, b, sign = (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale, 1
        if a > 0:
            a, b, sign = -b, -a, -1
        return a, b, _phi(b) - _phi(a), sign

    def _name(self) -> tuple:
        return "truncated normal", *self._standard()

    def _make(self) -> Tensor:
        return draw.quantile_table(self._tail)

    def _tail(self, q: Tensor, upper: bool) -> Tensor:
        a, b, mass, sign = self._standard()
        if upper == (sign < 0):
            z = torch.special.ndtri(_phi(a) + q * mass)
        elif b <= 0:
            z = torch.special.ndtri(_phi(b) - q * mass)
        else:
            z = -torch.special.ndtri(_phi(-b) + q * mass)
        return (sign * z).clamp(*sorted((sign * a, sign * b)))


def _phi(x: float) -> float:
    """Distribution function of the standard normal, exact in relative terms far to the left."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@final
@dataclass(frozen=True, repr=False)
class Orthogonal(Law):
    """One entry of a random orthogonal matrix, as `torch.nn.init.orthogonal_` draws it.

    x = gain * v_1,  v uniform on the unit sphere of R^size;  density of v_1 ~ (1 - v_1^2)^((size - 3) / 2)

    Entries are drawn one by one, so a matrix that is renewed a little at a time stays near orthogonal but no more.

    Args:
        gain: factor, >= 0.
        size: the longer side of the matrix, max(rows, product of the other dimensions), in [1, 2**53]. None: that of
            the parameter that the law is given to.

    Raises:
        ValueError: outside these ranges.

    Example:
        >>> from regrow.core import random
        >>> Orthogonal(gain=2, size=3).draw(random.bits(0, torch.arange(3)))
        tensor([ 0.0763, -0.5269, -0.0006])
    """

    gain: float = 1.0
    size: int | None = None

    def __post_init__(self) -> None:
        finite(self, "gain")
        require(self, self.gain >= 0, "`gain` must be >= 0")
        whole = isinstance(self.size, int) and not isinstance(self.size, bool) and 1 <= self.size <= 2**53
        require(self, self.size is None or whole, "`size` must be a whole number in [1, 2**53]")

    @property
    def mean(self) -> float:
        return 0.0

    @property
    def std(self) -> float:
        return self.gain / math.sqrt(self._bound_size())

    @property
    def support(self) -> tuple[float, float]:
        return -self.gain, self.gain

    @property
    def continuous(self) -> bool:
        return self.gain > 0 and self._bound_size() > 1

    def draw(self, words: Tensor) -> Tensor:
        return draw.from_table(words, table(self, words.device)) * self.gain

    def cdf(self, x: Tensor) -> Tensor:
        if not self.continuous:
            return ((x >= -self.gain).double() + (x >= self.gain).double()) / 2
        r, log_beyond = _sphere(self._bound_size())
        v = (x / self.gain).clamp(-1, 1)
        place = (-torch.log1p(-v * v) * (self._bound_size() - 1) / 2).sqrt()
        beyond = np.exp(np.interp(place.cpu().numpy(), r, log_beyond))
        beyond = torch.from_numpy(np.asarray(beyond)).to(x.device)
        return torch.where(v > 0, 1 - beyond, beyond)

    def _bound_size(self) -> int:
        if self.size is None:
            raise ValueError("Orthogonal: `size` is not known yet; give it, or give the law to a parameter")
        return self.size

    def _name(self) -> tuple:
        return "orthogonal", self._bound_size()

    def _make(self) -> Tensor:
        return draw.quantile_table(self._tail)

    def _tail(self, q: Tensor, upper: bool) -> Tensor:
        n = self._bound_size()
        if n == 1:
            v = torch.ones_like(q)
        else:
            r, log_beyond = _sphere(n)
            place = torch.from_numpy(np.interp(-q.log().numpy(), -log_beyond, r))
            v = (-torch.expm1(-2 * place**2 / (n - 1))).sqrt()
        return v if upper else -v


def _sphere(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A grid r and log P(v_1 > v(r)) for a coordinate of a random unit vector in R^n, n >= 2.

    With v^2 = 1 - exp(-2 r^2 / (n - 1)) the density of r is exp(-r^2) r / v up to a constant: smooth for every n, and
    the normal one in the limit, so one even grid serves all. Simpson's rule, summed from the far end.
    """
    r = np.linspace(0.0, 7.0, 1 << 17 | 1)
    with np.errstate(invalid="ignore"):
        f = np.exp(-(r**2)) * r / np.sqrt(-np.expm1(-2 * r**2 / (n - 1)))
    f[0] = math.sqrt((n - 1) / 2)
    steps = f[:-2:2] + 4 * f[1::2] + f[2::2]
    beyond = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
    beyond[-1] = beyond[-2] * 1e-3  # never reached: P(r > 7) < 1e-21
    return r[::2], np.log(beyond / (2 * beyond[0]))


def bind(law: Law, shape: torch.Size) -> Law:
    """The law of a parameter of this shape: gives an `Orthogonal` its size.

    Args:
        law: any law.
        shape: of the parameter it is for.

    Raises:
        ValueError: for an `Orthogonal` without a size and fewer than 2 dimensions.

    Example:
        >>> bind(Orthogonal(gain=1.0), torch.Size([3, 2, 5]))
        Orthogonal(gain=1, size=10)
    """
    if not isinstance(law, Orthogonal) or law.size is not None:
        return law
    if len(shape) < 2:
        raise ValueError(f"Orthogonal: only a tensor of 2 or more dimensions can be orthogonal; got {tuple(shape)}")
    return replace(law, size=max(shape[0], shape[1:].numel()))
