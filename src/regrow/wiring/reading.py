"""How the activation h of a layer's units is read from a running model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core._eager import CHUNK, looking_is_free
from .place import Place, find_module, locate

if TYPE_CHECKING:
    from .units import Units

KINDS = ("input of ", "values of ")
"""What the activation may be besides the output of a module; the module's name follows."""


@dataclass(frozen=True)
class Reading:
    """Where h appears in a forward pass, and which of its entries are whose.

    Args:
        module: the module to hook.
        name: its canonical name.
        kind: "output", "input" or "values".
        n: number of units.
        axis: of the units in h; negative counts from the end.
        places: of the units along that axis, where the layer that reads them tells (its parameter's name and dimension
            do not matter here); empty: the units take up the axis in order, each the same number of neighbours.
    """

    module: nn.Module
    name: str
    kind: str
    n: int
    axis: int
    places: tuple[Place, ...] = ()

    def activation(self, args: tuple, kwargs: dict[str, Any], output: Any = None) -> Tensor:
        """h, from what a hook with keyword arguments receives: a pre-hook for "input", a forward hook otherwise.

        Reading it is free, but for "values", which takes the product of one projection.
        """
        if self.kind == "output":
            return output
        if self.kind == "input":
            return args[0] if args else next(iter(kwargs.values()))
        return _values(self.module, args[2] if len(args) > 2 else kwargs["value"])

    def sum_abs(self, h: Tensor) -> tuple[Tensor, int]:
        """Sum |h_i| over everything but units.

        Args:
            h: as the hook gives it, of any shape.

        Returns:
            The sums, of shape (n,), float32 (float64 for float64), without gradient; and the number of summands of
            each: examples times positions.

        Raises:
            ValueError: where the axis of h does not hold the units.
        """
        h = h.detach()
        at = self._at(h)
        if not self.places and h.shape[at : at + 1] == (self.n,):  # the usual case, without detours
            return _sum_abs(h, (at,)), h.numel() // self.n
        parts = self._split(h)
        sums = [_sum_abs(part, (at, at + 2)).view(self.n) for part in parts]
        return sum(sums[1:], sums[0]), sum(part.numel() for part in parts) // self.n

    def matrix(self, h: Tensor) -> Tensor:
        """h as a matrix.

        Args:
            h: as the hook gives it, of any shape.

        Returns:
            (examples times positions, n): column i is unit i; a view where the memory layout allows.
        """
        at = self._at(h)
        rows = [part.movedim((at, at + 2), (-2, -1)).reshape(-1, self.n) for part in self._split(h)]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _at(self, h: Tensor) -> int:
        return self.axis if self.axis >= 0 else h.dim() + self.axis

    def _split(self, h: Tensor) -> list[Tensor]:
        """For each place a view of h with the axis of units split into (n / stride, positions, stride)."""
        at = self._at(h)
        size = h.shape[at] if 0 <= at < h.dim() else 0
        places = self.places or (Place(self.name, at, None, max(1, size // self.n)),)
        for place in places:
            if size < (place.start or 0) + self.n * place.positions or (
                place.start is None and size != self.n * place.positions
            ):
                raise ValueError(
                    f"axis {self.axis} of the {self.kind} of {self.name!r} must hold {self.n} units; its shape is "
                    f"{tuple(h.shape)}: give `axis` to `Units`, or another `activation`"
                )
        return [place.split(h, self.n, at) for place in places]


def _sum_abs(x: Tensor, kept: tuple[int, ...]) -> Tensor:
    """Sum |x| over all dimensions but those kept, in float32 (float64 for float64)."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    over = [d for d in range(x.dim()) if d not in kept]
    if not looking_is_free(x):
        return torch.linalg.vector_norm(x, 1, over, dtype=dtype)
    if x.numel() <= CHUNK or 0 in kept:
        return x.abs().sum(over, dtype=dtype) if over else x.abs().to(dtype)
    # On a CPU pieces that stay in a core's cache take a fraction of the time of the whole.
    pieces = x.split(max(1, len(x) * CHUNK // x.numel()))
    buffer = torch.empty_like(pieces[0])
    total = x.new_zeros([x.shape[d] for d in kept], dtype=dtype)
    for piece in pieces:
        total += torch.abs(piece, out=buffer[: len(piece)]).sum(over, dtype=dtype)
    return total


def _values(attention: nn.Module, value: Tensor) -> Tensor:
    """What the heads of an `nn.MultiheadAttention` mix, before they do."""
    assert isinstance(attention, nn.MultiheadAttention)
    width = attention.embed_dim
    weight, bias = attention.v_proj_weight, attention.in_proj_bias
    if attention.in_proj_weight is not None:
        weight = attention.in_proj_weight[2 * width :]
    return F.linear(value, weight, None if bias is None else bias[2 * width :])


def reading_of(units: Units, model: nn.Module, n: int) -> Reading:
    """Where h is, from the text of `activation`; see `Units.reading`."""
    kind = next((k for k in KINDS if units.activation.startswith(k)), "")
    name = units.activation.removeprefix(kind)
    module = find_module(model, name)
    if module is None:
        raise ValueError(f"`activation` must name a module of the model; there is no {name!r}")
    if kind == "values of " and not isinstance(module, nn.MultiheadAttention):
        raise ValueError(f"{units.activation!r} needs an nn.MultiheadAttention; {name!r} is a {type(module).__name__}")
    reads = tuple(p for p in units.weight_out if p.name.rpartition(".")[0] == name and kind == "input of ")
    maker = module if reads else locate(model, units.weight_in[0].name)[0]
    axis = _axis(maker) if units.axis is None else units.axis
    return Reading(module, name, kind.removesuffix(" of ") or "output", n, axis, reads)


def _axis(layer: nn.Module) -> int:
    """The axis of features in what a layer reads and gives."""
    return -1 - len(layer.kernel_size) if isinstance(layer, nn.modules.conv._ConvNd) else -1
