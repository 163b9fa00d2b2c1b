"""What law do these values come from?

n: values looked at. A law is refused by the Kolmogorov-Smirnov test: by the largest distance between its distribution
function and that of the values.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..shards import entries_at
from .distributions import Constant, Law, Normal, Uniform
from .tabulated import Orthogonal, TruncatedNormal, bind
from .torch_defaults import fans, symmetric

_SAMPLE = 1 << 17  # values examined: enough to distinguish scales that differ by half a percent
_REFUSED = 1e-6
_EVIDENCE = 3.0  # nats by which a bounded family must be likelier than the normal, or it would win on small samples

_GAINS = {"1": 1.0, "sqrt(2)": math.sqrt(2), "5/3": 5 / 3, "3/4": 0.75, "sqrt(1/3)": math.sqrt(1 / 3)}
PLAIN = (1.0, 0.5, 0.2, 0.1, 0.08, 0.05, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001)
_TRUNCATED_STD = TruncatedNormal(0, 1, -2, 2).std


def sample(parameter: Tensor, without_row: int | None = None) -> Tensor:
    """Evenly spaced values of a parameter, at most 2**17, as float64 on the CPU."""
    n = parameter.numel()
    index = torch.arange(0, n, max(1, math.ceil(n / _SAMPLE)), device=torch.device("cpu"))
    if without_row is not None:
        index = index[index // parameter.shape[1:].numel() != without_row]
    return entries_at(parameter, index)


def rounding(parameter: Tensor) -> float:
    """Largest relative error of its values; those of a float64 model may have been drawn in float32."""
    return max(torch.finfo(parameter.dtype).eps, torch.finfo(torch.float32).eps) / 2


def p_value(law: Law, values: Tensor, error: float = 0.0) -> float:
    """Kolmogorov-Smirnov: the probability of a distance as large as that between a continuous law and n values.

    p = 2 sum_k (-1)^(k-1) exp(-2 k^2 l^2),  l = (sqrt(n) + 0.12 + 0.11 / sqrt(n)) * max |F_n - F|

    Of all values that rounding may have turned into those given, the ones nearest to the law count.

    Args:
        law: a continuous law.
        values: float64, 1-D, n >= 1.
        error: relative error of the values, from `rounding`.

    Example:
        >>> p_value(Uniform(0, 1), torch.linspace(0, 1, 100, dtype=torch.float64)) > 0.99
        True
    """
    n = len(values)
    x = values.sort().values
    slack = x.abs() * error
    steps = torch.arange(n + 1, dtype=torch.float64, device=x.device) / n
    distance = float(torch.maximum(steps[1:] - law.cdf(x + slack), law.cdf(x - slack) - steps[:-1]).max())
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if scaled < 0.2:
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * sum(terms)))


def contradicts(values: Tensor, law: Law, error: float) -> bool:
    """Can these values not have come from the law?

    Args:
        values: float64, 1-D, from `sample`.
        law: the law in question.
        error: relative error of the values, from `rounding`.

    Example:
        >>> contradicts(torch.zeros(2, dtype=torch.float64), Normal(), 1e-7)
        True
    """
    if not len(values):
        return False
    low, high = law.support
    outside = (values < low - error * abs(low)) | (values > high + error * abs(high))
    if outside.any() or not values.isfinite().all():
        return True
    if not law.continuous:
        return False
    repeated = bool((values == values[0]).all()) and (len(values) > 1 or float(values[0]) == 0)
    return repeated or p_value(law, values, error) < _REFUSED


def fit(parameter: Tensor, values: Tensor) -> tuple[Law, str] | None:
    """The law of a known family that the values come from, its scale that of a `torch.nn.init` formula if near one.

    Args:
        parameter: the tensor, for its shape, type and structure.
        values: its values, from `sample`.

    Returns:
        The law and the formula it was snapped to ("" for none), or None where no family fits.

    Example:
        >>> zeros = torch.zeros(3)
        >>> fit(zeros, sample(zeros))
        (Constant(value=0), '')
    """
    if not len(values) or not (values.abs() < 1e36).all():  # infinite, or beyond what a draw can hold
        return None
    if (values == values[0]).all():
        return Constant(float(values[0])), ""
    if not values.std() > 1e-36:
        return None
    gain = _orthogonal_gain(parameter)
    if gain is not None:
        return bind(Orthogonal(gain), parameter.shape), f"orthogonal_, gain {gain:g}"
    error = rounding(parameter)
    fits = [_normal(values), _uniform(values), _truncated(values)]
    fits = [(likelihood, law) for likelihood, law in fits if p_value(law, values, error) >= _REFUSED]
    return _snap(max(fits, key=lambda one: one[0])[1], values, parameter.shape, error) if fits else None


def _normal(values: Tensor) -> tuple[float, Law]:
    """(log-likelihood, law) of the likeliest normal law."""
    std = float(values.std(correction=0))
    return -len(values) * (math.log(std) + 0.5 * math.log(2 * math.pi * math.e)), Normal(float(values.mean()), std)


def _uniform(values: Tensor) -> tuple[float, Law]:
    """The range, widened by the two gaps expected beyond the extremes."""
    n, low, high = len(values), float(values.min()), float(values.max())
    gap = (high - low) / (n - 1)
    return -n * math.log(high - low + 2 * gap) - _EVIDENCE, Uniform(low - gap, high + gap)


def _truncated(values: Tensor) -> tuple[float, Law]:
    """Normal around 0 truncated at 2 standard deviations, as JAX and TensorFlow start weights."""
    scale = float(max(values.std(correction=0) / _TRUNCATED_STD, values.abs().max() / 2))
    law = TruncatedNormal(0, scale, -2 * scale, 2 * scale)
    density = math.log(scale * math.sqrt(2 * math.pi) * math.erf(math.sqrt(2)))
    return float(-(values**2).sum() / (2 * scale**2)) - len(values) * density - _EVIDENCE, law


def _orthogonal_gain(parameter: Tensor) -> float | None:
    """The gain of a matrix whose shorter side is orthogonal, else None: normal rows are never that orthogonal."""
    if parameter.dim() < 2 or parameter.numel() == len(parameter) == 1:
        return None
    height, width = len(parameter), parameter.shape[1:].numel()
    along, down = torch.arange(width, device=torch.device("cpu")), torch.arange(height, device=torch.device("cpu"))
    numbers = down[:64, None] * width + along if height <= width else down * width + along[:64, None]
    rows = entries_at(parameter, numbers.reshape(-1)).view(numbers.shape)
    gram = rows @ rows.T
    squared = float(gram.diagonal().mean())
    error = squared * (1e-5 + 16 * rounding(parameter) / math.sqrt(rows.shape[1]))
    if (rows == 0).any() or (gram - squared * torch.eye(len(rows), device=rows.device)).abs().max() > error:
        return None  # a zero: an identity, or another design
    gain, name = _nearest(math.sqrt(squared), error / math.sqrt(squared), [*_named(PLAIN), *_named(_GAINS.values())])
    return gain if name or len(rows) > 1 else None  # one row alone is orthogonal with some gain, whatever it holds


def _snap(law: Law, values: Tensor, shape: torch.Size, relative: float) -> tuple[Law, str]:
    """The law with each number replaced by the usual one within 4 standard errors, and the name of its scale."""
    n = len(values)
    if isinstance(law, Normal):
        mean, _ = _nearest(law.mean, 4 * law.std / math.sqrt(n), _named((0.0, 1.0)))
        std, name = _nearest(law.std, 4 * law.std / math.sqrt(2 * n), [*formulas(shape, "normal"), *_named(PLAIN)])
        return Normal(mean, std), name
    if isinstance(law, TruncatedNormal):
        stds = [(std / _TRUNCATED_STD, name) for std, name in formulas(shape, "truncated normal")]
        std, name = _nearest(law.scale, 4 * law.scale / math.sqrt(2 * n), [*stds, *_named(PLAIN)])
        return TruncatedNormal(0, std, -2 * std, 2 * std), name
    assert isinstance(law, Uniform)
    low, high = law.support
    error = 4 * (high - low) / (n + 1) + relative * max(-low, high)
    if abs(law.mean) > error:
        ends = _named((0.0, *PLAIN, *(-x for x in PLAIN)))
        (low, below), (high, above) = _nearest(low, error, ends), _nearest(high, error, ends)
        return Uniform(low, high), f"{below} to {above}" if below and above else ""
    largest = float(values.abs().max())
    usual = [*((math.sqrt(3) * std, name) for std, name in formulas(shape, "uniform")), *_named(PLAIN)]
    possible = [(bound, name) for bound, name in usual if bound >= largest * (1 - relative)]
    bound, name = _nearest(largest * (n + 1) / n, largest * (4 / n + relative), possible)
    return symmetric(bound), name


def formulas(shape: torch.Size, family: str) -> list[tuple[float, str]]:
    """(standard deviation, name) of the formulas of `torch.nn.init` for a tensor of this shape."""
    if len(shape) < 2:
        return []
    fan_in, fan_out = fans(shape)
    sides = (("kaiming {} fan_in", fan_in), ("kaiming {} fan_out", fan_out), ("xavier {}", (fan_in + fan_out) / 2))
    return [
        (gain / math.sqrt(fan), f"{side.format(family)}, gain {text}")
        for side, fan in sides
        for text, gain in _GAINS.items()
    ]


def _named(values: Iterable[float]) -> list[tuple[float, str]]:
    return [(value, f"{value:g}") for value in values]


def _nearest(value: float, error: float, usual: list[tuple[float, str]]) -> tuple[float, str]:
    """The nearest of the usual values and its name, or the value itself and "" where none is within the error."""
    nearest, name = min(usual, key=lambda one: abs(one[0] - value), default=(math.inf, ""))
    return (nearest, name) if abs(nearest - value) <= error else (value, "")
