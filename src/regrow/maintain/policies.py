"""Knobs that choose parameters by name patterns: does each pattern name what it should?"""

import warnings
from collections.abc import Mapping

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


def _rows_of_units(maintained: Maintained) -> set[str]:
    """Weights and biases whose rows are hidden units, where these can be found."""
    try:
        units = find_units(maintained.coverage.model)
    except (ValueError, TypeError):
        return set()
    return {place.name for own in units for place in (*own.weight_in, *own.bias) if place.dim == 0}
