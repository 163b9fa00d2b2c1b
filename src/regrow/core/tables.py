"""Quantile tables, made at their first draw, by torch and never by a compiler."""

from typing import Protocol

import torch
from torch import Tensor


class Tabulated(Protocol):
    """A distribution that draws from a table."""

    def _name(self) -> tuple:
        """What the table depends on."""
        ...

    def _make(self) -> Tensor:
        """The table, from `draw.quantile_table`, on the CPU."""
        ...


class _Tables:
    """One attribute for each table and device: a compiler reads an attribute when it comes to it, a dict only once."""


_tables = _Tables()


def table(of: Tabulated, device: torch.device) -> Tensor:
    """The table of a distribution on a device."""
    return getattr(_tables, _ready(of, device))


def _ready(of: Tabulated, device: torch.device) -> str:
    """The attribute that holds the table, there from now on."""
    name = f"{of._name()} {device}".replace(".", "_")  # a compiler takes a dot for a further attribute
    if not hasattr(_tables, name):
        with torch.device("cpu"), torch.inference_mode(False):
            setattr(_tables, name, of._make().to(device))
    return name


# A constant to the compiler, which then runs it as it is: a table that the compiler made would have other bits. This
# is what torch.compiler.assume_constant_result sets; calling that would load the whole compiler.
_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]
