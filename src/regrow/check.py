"""Argument checks: the rule, the value got, the remedy, in one line."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any


def choice(name: str, value: object, choices: Iterable[str]) -> str:
    """`value` if it is one of the choices."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}; got {value!r}")
    return value


def whole(name: str, value: object, low: int, why: str) -> int:
    """`value` as an int if it is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be a whole number ({why}); got {value!r} of type {type(value).__name__}")
    if value < low:
        raise ValueError(f"`{name}` must be at least {low} ({why}); got {value!r}")
    return int(value)


def number(name: str, value: object, low: float, high: float, why: str) -> float:
    """`value` as a float if it is finite and within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number ({why}); got {value!r} of type {type(value).__name__}")
    if not math.isfinite(value) or not low <= float(value) <= high:
        span = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"`{name}` must be {span} ({why}); got {value!r}")
    return float(value)


def flag(name: str, value: object) -> bool:
    """`value` if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False; got {value!r}")
    return value


def patterns(name: str, value: object) -> tuple[str, ...]:
    """Name patterns as a tuple: None is none, a string is one. Of `only`, none must not mean all."""
    if value is None:
        return ()
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    if name == "only" and not found:
        raise ValueError(f"`only` must name something; got {value!r}: leave it out for all parameters")
    for pattern in found:
        if not isinstance(pattern, str):
            raise TypeError(f"`{name}` takes name patterns (text, or a list of it); got {pattern!r}")
    return found  # type: ignore[return-value]


def field(state: Mapping[str, Any], key: str, kind: type, low: int | None = None) -> Any:
    """One value of a state, of the right type and, if it is a number, at least `low`."""
    if key not in state:
        raise ValueError(f"state_dict lacks {key!r}: it is not complete, or not from a regrow maintainer")
    value = state[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"state_dict[{key!r}] must be {kind.__name__}; got {type(value).__name__}")
    if low is not None and value < low:
        raise ValueError(f"state_dict[{key!r}] must be at least {low}; got {value!r}")
    return value
