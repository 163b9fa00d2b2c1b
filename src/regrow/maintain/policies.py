"""What knobs and parameters must have in common: patterns that name some, factors that their precision can hold."""

import warnings
from collections.abc import Mapping

import torch

from ..methods import Method, knobs_of
from ..wiring import find_units
from .maintained import Maintained


def check_policies(method: Method, maintained: Maintained) -> None:
    """Refuse a pattern that matches nothing; warn of one that keeps the rows of hidden units.

    Raises:
        ValueError: for a pattern that matches no maintained parameter.
    """
    entries = maintained.coverage.entries
    for name, knob in knobs_of(method).items():
        value = getattr(method, name)
        if knob.kind != "policy" or not isinstance(value, Mapping):
            continue
        for pattern in value:
            if not any(entry.matches(pattern) for entry in entries):
                shown = ", ".join(entry.name for entry in entries[:4]) + (", …" if len(entries) > 4 else "")
                raise ValueError(f"`{name}`: pattern {pattern!r} matches no parameter; names are {shown}")
        kept = {e.name for e in entries if next((v for p, v in value.items() if e.matches(p)), "renew") == "keep"}
        if hidden := sorted(kept & _rows_of_units(maintained)):
            warnings.warn(
                f"`{name}` keeps {', '.join(map(repr, hidden))}, whose rows are hidden units: one that is dead has no "
                "gradient and is never renewed; name heads, experts or tables only",
                stacklevel=4,
            )


def check_precision(method: Method, maintained: Maintained) -> None:
    """Warn of a factor so close to 1 that rounding undoes it: w (1 - shrink) is w for most or all w."""
    shrink = getattr(method, "shrink", 0.0)
    floats = [entry for entry in maintained.coverage.entries if entry.parameter.is_floating_point()]
    lost = [entry for entry in floats if 0 < shrink < torch.finfo(entry.parameter.dtype).eps / 2]
    if lost:
        kind = str(lost[0].parameter.dtype).removeprefix("torch.")
        warnings.warn(
            f"`shrink`={shrink:g} is below the precision of {lost[0].name!r} ({kind}): rounding undoes it; keep the "
            "weights in float32 (torch.autocast computes in half precision all the same)",
            stacklevel=4,
        )


def _rows_of_units(maintained: Maintained) -> set[str]:
    """Weights and biases whose rows are hidden units, where these can be found."""
    try:
        units = find_units(maintained.coverage.model)
    except (ValueError, TypeError):
        return set()
    return {place.name for own in units for place in (*own.weight_in, *own.bias) if place.dim == 0}
