"""Hidden units of any module, as the unit methods of a stack see them.

Shapes: M members, n units of a layer, P positions of a unit, O outputs of the layer that reads them.
"""

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from ...laws import Constant, Law
from ...wiring import Place, Reading, Tap, Units, locate
from ..renewal import HiddenUnits

STATISTICS: dict[str, Law] = {"running_mean": Constant(0.0), "running_var": Constant(1.0)}
"""What a new unit starts from in a batch norm."""


class Tensors(dict[str, Tensor]):
    """The trainable parameters of a stack by name: name -> (M, ...).

    The names of `others`, tensors that unit methods change besides, are answered to and not counted: the running
    statistics of batch norms, and outgoing weights seen as (M, O, n, P) where a unit owns several columns.
    """

    def __init__(self, trained: Mapping[str, Tensor]) -> None:
        super().__init__(trained)
        self.others: dict[str, Tensor] = {}

    def __missing__(self, name: str) -> Tensor:
        return self.others[name]


def hidden_units(units: Units, module: nn.Module, tensors: Tensors) -> tuple[HiddenUnits, Reading]:
    """The units of one layer by names of stacked tensors, and where their activation is read.

    Args:
        units: of the module.
        module: one network.
        tensors: those of a stack of it; a view of the outgoing weights is added where one is needed.

    Raises:
        ValueError: for units that are not on dimension 0 of what makes them, or not on dimension 1 of the one layer
            that reads them.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> units = Units(("0.weight", 0), ("0.bias", 0), None, ("2.weight", 1), "1")
        >>> hidden_units(units, net, Tensors({}))[0]
        HiddenUnits(name='0', incoming=('0.weight', '0.bias'), outgoing='2.weight')
    """
    into, out = (*units.weight_in, *units.bias, *units.norm), units.weight_out
    odd = [place for place in into if place != Place(place.name, 0)]
    odd += [place for place in out if place != Place(place.name, 1, positions=place.positions)]
    if odd or len(out) != 1:
        why = f"{odd[0]}" if odd else f"{len(out)} layers that read them"
        raise ValueError(
            f"a stack renews units that take up dimension 0 of what makes them and dimension 1 of one layer that reads "
            f"them; got {units!r} with {why}: name the layers to renew with units=[regrow.Units(...)]"
        )
    n = units.count(module)
    names = dict.fromkeys(name for place in into for name in (place.name, *_statistics(module, place)))
    outgoing = out[0].name
    if (positions := out[0].positions) > 1:
        outgoing = f"{out[0].name} by unit"
        tensors.others[outgoing] = tensors[out[0].name].unflatten(2, (n, positions))
    return HiddenUnits(units.layer, tuple(names), outgoing), units.reading(module)


def _statistics(module: nn.Module, place: Place) -> list[str]:
    """Names of the running statistics beside the scale and shift of a batch norm."""
    home, attribute = locate(module, place.name)
    prefix = place.name.removesuffix(attribute)
    return [prefix + name for name in STATISTICS if isinstance(getattr(home, name, None), Tensor)]


class Watching:
    """Within it |h| of some layers is averaged, per unit, over the forward passes of the module.

    Args:
        readings: where each layer's h is.
    """

    def __init__(self, readings: list[Reading]) -> None:
        self._readings = readings
        self._sums: list[tuple[Tensor, int] | None] = [None] * len(readings)
        self._taps: list[Tap] = []

    def __enter__(self) -> "Watching":
        self._taps = [Tap(reading, partial(self._add, i)) for i, reading in enumerate(self._readings)]
        return self

    def __exit__(self, *_: object) -> None:
        for tap in self._taps:
            tap.remove()

    def _add(self, i: int, module: nn.Module, h: Tensor) -> None:
        total, count = self._readings[i].sum_abs(h)
        seen = self._sums[i]
        self._sums[i] = (total, count) if seen is None else (seen[0] + total, seen[1] + count)

    def means(self) -> list[Tensor]:
        """Mean |h| over examples and positions, (n) of each layer."""
        unseen = [reading.name for reading, sums in zip(self._readings, self._sums, strict=True) if sums is None]
        if unseen:
            raise ValueError(
                f"units must be in layers that the forward pass calls; it did not call {', '.join(map(repr, unseen))}: "
                "name others with units=[regrow.Units(...)]"
            )
        return [sums[0] / sums[1] for sums in self._sums if sums is not None]
