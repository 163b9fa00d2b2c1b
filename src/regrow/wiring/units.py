"""The hidden units of one layer, as a value: which entries of which parameters belong to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import check
from ..core.eager import CHUNK, looking_is_free
from .entries import Place, as_places, find_module, locate

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


Spec = Place | tuple[str, int] | tuple[str, int, int]
Specs = Spec | Sequence[Spec] | None


@dataclass(frozen=True, init=False, repr=False)
class Units:
    """The n hidden units of one layer: what flows into each, what it passes on, and where its activation is read.

    Args:
        weight_in: incoming weights. Here and below one entry `(parameter name, dimension that indexes units)`, or
            several; `(name, dimension, start)` where unit 0 begins at `start` (packed projections). Several rows form
            one unit in a gated MLP.
        bias: biases added to them; None for none.
        norm: scale and shift, and running mean and variance, of the norms the unit passes through; None for none.
        weight_out: outgoing weights, an entry for each layer that reads the units.
        activation: name of the module whose output is the units' activation h, or "input of NAME", h being what the
            module NAME receives. "values of NAME": the values of an `nn.MultiheadAttention` before they are mixed, for
            it shows the mixed ones to nobody.
        positions: how many columns of `weight_out` each unit owns, side by side: 1, or the number of positions of a
            feature map that is flattened (convolution, pooling, flatten, linear).
        axis: of the units in h. None: derived from the layer that reads h, or else the one that makes it: the channel
            axis of a convolution, the last one otherwise.

    After construction `weight_in`, `bias`, `norm` and `weight_out` are tuples of `Place`.

    Raises:
        TypeError, ValueError: for anything that is not of this form. Names and sizes are checked by `count`.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> units = Units(("0.weight", 0), ("0.bias", 0), None, ("2.weight", 1), "1")
        >>> units
        Units(0.weight -> 2.weight, h: output of 1)
        >>> units.count(net)
        8
        >>> units.weight_out[0].per_unit(net[2].weight, 8).shape
        torch.Size([8, 2])

    Reference:
        Hernandez-Garcia et al. 2025, section 2.
    """

    weight_in: tuple[Place, ...]
    bias: tuple[Place, ...]
    norm: tuple[Place, ...]
    weight_out: tuple[Place, ...]
    activation: str
    positions: int
    axis: int | None

    def __init__(
        self,
        weight_in: Specs,
        bias: Specs,
        norm: Specs,
        weight_out: Specs,
        activation: str,
        positions: int = 1,
        axis: int | None = None,
    ) -> None:
        check.whole("positions", positions, 1, "columns of `weight_out` that each unit owns")
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
            raise TypeError(f"`axis` must be a whole number or None; got {axis!r}")
        if not isinstance(activation, str) or not activation:
            raise TypeError(f"`activation` must be a module's name, or {KINDS[0]!r} and its name; got {activation!r}")
        fields = {
            "weight_in": as_places("weight_in", weight_in),
            "bias": as_places("bias", bias),
            "norm": as_places("norm", norm),
            "weight_out": as_places("weight_out", weight_out, positions),
            "activation": activation,
            "positions": positions,
            "axis": axis,
        }
        for name in ("weight_in", "weight_out"):
            if not fields[name]:
                raise ValueError(f"`{name}` must name at least one parameter: a unit has incoming and outgoing weights")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def places(self) -> tuple[Place, ...]:
        """All of them: incoming, biases, norms, outgoing."""
        return (*self.weight_in, *self.bias, *self.norm, *self.weight_out)

    @property
    def layer(self) -> str:
        """A name of its own: that of the module with the first incoming weights, and where in it the units begin."""
        name, _, start, *_ = self.weight_in[0]
        return (name.rpartition(".")[0] or name) + (f"[{start}:]" if start else "")

    def count(self, model: nn.Module) -> int:
        """How many units there are, n; everything is checked against the model.

        Args:
            model: the model whose units these are, wrapped or not.

        Returns:
            n >= 1.

        Raises:
            ValueError: for an unknown name, a dimension that is not there, sizes that disagree, an unknown activation.
        """
        room: dict[Place, int] = {}
        for place in self.places:
            module, attribute = locate(model, place.name)
            room[place] = place.count(getattr(module, attribute))
        n = min(room.values())
        for place, units in room.items():
            if n % place.stride or (place.start is None and units != n):
                small = min(room, key=lambda p: room[p])
                raise ValueError(
                    f"all entries of `Units` must hold the same units; dimension {place.dim} of {place.name!r} has "
                    f"room for {units}, dimension {small.dim} of {small.name!r} for {n}: check them and `positions`"
                )
        reading_of(self, model, n)
        return n

    def reading(self, model: nn.Module) -> Reading:
        """Where and how the activation h of the units is read."""
        return reading_of(self, model, self.count(model))

    def outgoing(self, tensors: Sequence[Tensor], n: int) -> Tensor:
        """All outgoing weights, or their gradients, by unit.

        Args:
            tensors: one for each entry of `weight_out`, in order.
            n: number of units.

        Returns:
            (n, fan-out over all consumers); a view where the memory layout allows.
        """
        parts = [place.per_unit(t, n) for place, t in zip(self.weight_out, tensors, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def __repr__(self) -> str:
        incoming, outgoing = (" + ".join(p.name for p in places) for places in (self.weight_in, self.weight_out))
        where = self.activation if self.activation.startswith(KINDS) else f"output of {self.activation}"
        return f"Units({incoming} -> {outgoing}, h: {where})"
