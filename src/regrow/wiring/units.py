"""The hidden units of one layer, as a value: which entries of which parameters belong to each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import check
from .entries import Place, as_places, locate
from .formula import is_formula, parse
from .reading import KINDS, Reading, feature_axis, module_named

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
            it never exposes the mixed ones. Where h comes from functions, a formula of modules' outputs:
            "F.relu('conv1')". F is `torch.nn.functional`; `torch`, `Tensor` and `operator` may be used too.
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
        Hernandez-Garcia et al. 2025, section 4.
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
        if is_formula(activation):
            parse(activation)
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
        """All entries: incoming, biases, norms, outgoing."""
        return (*self.weight_in, *self.bias, *self.norm, *self.weight_out)

    @property
    def layer(self) -> str:
        """A unique name: the module with the first incoming weights, and where in it the units begin."""
        name, _, start, *_ = self.weight_in[0]
        return (name.rpartition(".")[0] or name) + (f"[{start}:]" if start else "")

    def count(self, model: nn.Module) -> int:
        """How many units there are, n; everything is checked against the model.

        Args:
            model: the model whose units these are, wrapped or not.

        Returns:
            n >= 1.

        Raises:
            ValueError: for an unknown name, a missing dimension, sizes that disagree, an unknown activation.
        """
        counts: dict[Place, int] = {}
        for place in self.places:
            module, attribute = locate(model, place.name)
            counts[place] = place.count(getattr(module, attribute))
        n = min(counts.values())
        for place, units in counts.items():
            if n % place.stride or (place.start is None and units != n):
                small = min(counts, key=lambda p: counts[p])
                raise ValueError(
                    f"all entries of `Units` must hold the same units; dimension {place.dim} of {place.name!r} has "
                    f"{units} units, dimension {small.dim} of {small.name!r} has {n}: check them and `positions`"
                )
        reading_of(self, model, n)
        return n

    def reading(self, model: nn.Module) -> Reading:
        """Where and how the activation h of the units is read."""
        return reading_of(self, model, self.count(model))

    def readings_by_position(self, model: nn.Module) -> list[Reading]:
        """What each layer that reads the units receives: h as it arrives there, pooled and flattened.

        Its `sum_abs_by_position` separates the positions that `outgoing_by_position` spreads over the weights.
        """
        n = self.count(model)
        readers: dict[str, list[Place]] = {}
        for place in self.weight_out:
            readers.setdefault(place.name.rpartition(".")[0], []).append(place)
        modules = {name: module_named(model, name) for name in readers}
        return [
            Reading(modules[name], name, "input", n, feature_axis(modules[name]), tuple(places))
            for name, places in readers.items()
        ]

    def positions_in_order(self, readings: Sequence[Reading], values: Sequence[Tensor]) -> Tensor:
        """Values of all `readings_by_position`, in the order of `weight_out`: what `outgoing_by_position` takes.

        Args:
            readings: from `readings_by_position`.
            values: of each, (..., positions of the reading).

        Returns:
            (..., positions of all entries of `weight_out`).
        """
        places = [place for reading in readings for place in reading.places]
        parts = torch.cat(list(values), dim=-1).split([place.positions for place in places], dim=-1)
        return torch.cat([parts[places.index(place)] for place in self.weight_out], dim=-1)

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

    def outgoing_by_position(self, values: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        """Assign values per unit and position to the outgoing weights that read them.

        Args:
            values: (n, positions of all entries of `weight_out`, in order).
            tensors: one for each entry of `weight_out`, for their shapes.

        Returns:
            (n, fan-out over all readers), in the order of `outgoing`.

        Example:
            >>> units = Units(("0.weight", 0), None, None, ("2.weight", 1), "1", positions=2)
            >>> units.outgoing_by_position(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), [torch.zeros(2, 4)])
            tensor([[1., 1., 2., 2.],
                    [3., 3., 4., 4.]])
        """
        parts = values.split([place.positions for place in self.weight_out], dim=-1)
        fans = [t.numel() // t.shape[p.dim] for p, t in zip(self.weight_out, tensors, strict=True)]
        return torch.cat([part.repeat_interleave(fan, -1) for part, fan in zip(parts, fans, strict=True)], dim=-1)

    def __repr__(self) -> str:
        incoming, outgoing = (" + ".join(p.name for p in places) for places in (self.weight_in, self.weight_out))
        named = not self.activation.startswith(KINDS) and not is_formula(self.activation)
        where = f"output of {self.activation}" if named else self.activation
        return f"Units({incoming} -> {outgoing}, h: {where})"


def reading_of(units: Units, model: nn.Module, n: int) -> Reading:
    """`Units.reading`, where the number of units is known to be n."""
    text, maker = units.activation, locate(model, units.weight_in[0].name)[0]
    axis = feature_axis(maker) if units.axis is None else units.axis
    if is_formula(text):
        formula = parse(text)
        outputs, called = (
            tuple(module_named(model, name) for name in names) for names in (formula.outputs, formula.called)
        )
        return Reading(outputs[0], formula.outputs[0], "formula", n, axis, (), formula, outputs, called)
    kind = next((k for k in KINDS if text.startswith(k)), "")
    name = text.removeprefix(kind)
    module = module_named(model, name)
    if kind == "values of " and not isinstance(module, nn.MultiheadAttention):
        raise ValueError(f"{text!r} needs an nn.MultiheadAttention; {name!r} is a {type(module).__name__}")
    reads = tuple(p for p in units.weight_out if p.name.rpartition(".")[0] == name and kind == "input of ")
    axis = feature_axis(module) if reads and units.axis is None else axis
    return Reading(module, name, kind.removesuffix(" of ") or "output", n, axis, reads)
