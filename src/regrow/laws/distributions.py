"""The distributions that parameters are initialised from.

A law maps random bits to values by exact arithmetic (see `core.draw`), so a draw is the same on every device, in any
stack and under any compiler. Laws are values: frozen, compared and hashed by what they hold.
"""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..core import draw, random

_LARGEST = 1e37  # with it, a draw 6 standard deviations out is still finite in float32


class Law(ABC):
    """The distribution that a parameter is initialised from.

    A concrete law is a frozen dataclass whose fields are its constructor's arguments, in that order.
    """

    @property
    @abstractmethod
    def mean(self) -> float:
        """Expectation."""

    @property
    @abstractmethod
    def std(self) -> float:
        """Standard deviation."""

    @property
    @abstractmethod
    def support(self) -> tuple[float, float]:
        """Lowest and highest value possible."""

    @property
    @abstractmethod
    def continuous(self) -> bool:
        """True if every single value has probability 0."""

    @abstractmethod
    def draw(self, words: Tensor) -> Tensor:
        """Values for random words, int64 from `core.random.bits`: float32 of the same shape."""

    @abstractmethod
    def cdf(self, x: Tensor) -> Tensor:
        """Probability of a value <= x, for float64 of any shape."""

    def to_dict(self) -> dict[str, Any]:
        """Name and arguments, as strings, numbers and tensors; `law_from_dict` is its inverse."""
        return {"law": type(self).__name__, **_arguments(self)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={_short(v)}' for k, v in _arguments(self).items())})"


def _arguments(law: Law) -> dict[str, Any]:
    names = inspect.signature(type(law)).parameters
    return {name: getattr(law, field.name) for name, field in zip(names, fields(law), strict=True)}  # type: ignore


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"<{value.numel()} numbers>"
    return f"{value:g}" if isinstance(value, float) else repr(value)


def law_from_dict(stored: Mapping[str, Any]) -> Law:
    """The law that `Law.to_dict` described.

    Args:
        stored: what `to_dict` returned, perhaps saved and loaded in between.

    Returns:
        An equal law.

    Raises:
        ValueError: for a name that no law has, or arguments that it does not take.

    Example:
        >>> law_from_dict(Normal(std=0.5).to_dict())
        Normal(mean=0, std=0.5)
    """
    kinds = {kind.__name__: kind for kind in Law.__subclasses__()}
    arguments = dict(stored) if isinstance(stored, Mapping) else {}
    name = arguments.pop("law", None)
    if name not in kinds:
        raise ValueError(f"a stored law must be one of {', '.join(sorted(kinds))}; got {name!r}")
    takes = tuple(inspect.signature(kinds[name]).parameters)
    if set(arguments) != set(takes):
        raise ValueError(f"a stored {name} must hold {', '.join(takes)}; got {', '.join(map(str, arguments))}")
    return kinds[name](**arguments)


def finite(law: Law, *names: str) -> None:
    """Make these fields of a new law floats, or refuse them."""
    for name in names:
        value = getattr(law, name)
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not number or not abs(value) <= _LARGEST:
            raise ValueError(f"{type(law).__name__}: `{name}` must be a number within +-{_LARGEST:g}; got {value!r}")
        object.__setattr__(law, name, float(value))


def require(law: Law, holds: bool, rule: str) -> None:
    """Refuse a law that breaks a rule."""
    if not holds:
        raise ValueError(f"{type(law).__name__}: {rule}; got {law!r}")


def phi(x: Tensor) -> Tensor:
    """Distribution function of the standard normal; `torch.special.ndtr` loses the tail below -8."""
    return torch.special.erfc(x * -math.sqrt(0.5)) / 2


def scaled(z: Tensor, scale: float, shift: float) -> Tensor:
    """shift + scale * z for float32 z, with the same bits whether or not a compiler fuses the two."""
    if shift == 0:
        return z * scale
    # The product of two float32 is exact in float64, so fused or not there is one rounded sum.
    return (z.double() * float(np.float32(scale)) + shift).float()


@final
@dataclass(frozen=True, repr=False)
class Constant(Law):
    """Always the same value: biases 0, norm scales 1.

    x = value

    Args:
        value: finite.

    Raises:
        ValueError: where it is not finite.

    Example:
        >>> Constant(1).draw(torch.arange(2))
        tensor([1., 1.])
    """

    value: float

    def __post_init__(self) -> None:
        finite(self, "value")

    @property
    def mean(self) -> float:
        return self.value

    @property
    def std(self) -> float:
        return 0.0

    @property
    def support(self) -> tuple[float, float]:
        return self.value, self.value

    @property
    def continuous(self) -> bool:
        return False

    def draw(self, words: Tensor) -> Tensor:
        return torch.full_like(words, self.value, dtype=torch.float32)

    def cdf(self, x: Tensor) -> Tensor:
        return (x >= self.value).double()


@final
@dataclass(frozen=True, repr=False)
class Normal(Law):
    """Normal distribution.

    x = mean + std * z,  z ~ Normal(0, 1)

    Args:
        mean: finite.
        std: standard deviation, >= 0.

    Raises:
        ValueError: outside these ranges.

    Example:
        >>> Normal(std=0.02).draw(random.bits(0, torch.arange(2)))
        tensor([ 0.0010, -0.0067])
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "mean", "std")
        require(self, self.std >= 0, "`std` must be >= 0")

    @property
    def support(self) -> tuple[float, float]:
        return (-math.inf, math.inf) if self.std else (self.mean, self.mean)

    @property
    def continuous(self) -> bool:
        return self.std > 0

    def draw(self, words: Tensor) -> Tensor:
        return scaled(draw.from_table(words, draw.normal_table(words.device)), self.std, self.mean)

    def cdf(self, x: Tensor) -> Tensor:
        return phi((x - self.mean) / self.std) if self.std else (x >= self.mean).double()


@final
@dataclass(frozen=True, repr=False)
class Uniform(Law):
    """Uniform distribution.

    x = (low + high) / 2 + (high - low) / 2 * s,  s uniform in (-1, 1)

    Args:
        low: finite.
        high: finite, >= low.

    Raises:
        ValueError: outside these ranges.

    Example:
        >>> Uniform(0, 1).draw(random.bits(0, torch.arange(2)))
        tensor([0.3833, 0.9315])
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        finite(self, "low", "high")
        require(self, self.low <= self.high, "`low` must be <= `high`")

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    @property
    def std(self) -> float:
        return (self.high - self.low) / math.sqrt(12)

    @property
    def support(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def continuous(self) -> bool:
        return self.high > self.low

    def draw(self, words: Tensor) -> Tensor:
        if self.mean == 0:
            return draw.symmetric_uniform(words, self.high)
        return scaled(draw.symmetric_uniform(words, 1.0), (self.high - self.low) / 2, self.mean)

    def cdf(self, x: Tensor) -> Tensor:
        if not self.continuous:
            return (x >= self.low).double()
        return ((x - self.low) / (self.high - self.low)).clamp(0, 1)


@final
@dataclass(frozen=True, eq=False, repr=False)
class Empirical(Law):
    """Any one of the given values, each with equal probability.

    x = values[i],  i uniform in 0 .. n - 1

    Args:
        values: n >= 1 finite numbers; copied, as float32. Draws on another device copy them there each time.

    Raises:
        ValueError: for none, or where any is not finite.

    Example:
        >>> Empirical(torch.tensor([1.0, 2.0, 3.0])).draw(random.bits(0, torch.arange(4)))
        tensor([3., 2., 1., 3.])
    """

    values: Tensor

    def __post_init__(self) -> None:
        values = torch.as_tensor(self.values).detach().reshape(-1).to(torch.float32, copy=True)
        if not values.numel() or not values.isfinite().all():
            raise ValueError("Empirical: `values` must be finite numbers, at least one; give those to draw from")
        object.__setattr__(self, "values", values)

    @property
    def mean(self) -> float:
        return float(self.values.double().mean())

    @property
    def std(self) -> float:
        return float(self.values.double().std(correction=0))

    @property
    def support(self) -> tuple[float, float]:
        return float(self.values.min()), float(self.values.max())

    @property
    def continuous(self) -> bool:
        return False

    def draw(self, words: Tensor) -> Tensor:
        values = self.values.to(words.device)
        return values[(random.order(words).long() * len(values)) >> 31]

    def cdf(self, x: Tensor) -> Tensor:
        values = self.values.double().sort().values.to(x.device)
        return torch.searchsorted(values, x.contiguous(), right=True).double() / len(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Empirical) and torch.equal(self.values.cpu(), other.values.cpu())

    def __hash__(self) -> int:
        return hash((len(self.values), float(self.values[0])))
