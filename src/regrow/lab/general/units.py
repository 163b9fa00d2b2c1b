"""Hidden units of any module, as the unit methods of a stack see them.

Shapes: M members, n units of a layer, P positions of a unit, O outputs of the layer that reads them.
"""

from functools import partial

from torch import Tensor, nn

from ...laws import Constant, Law
from ...methods import HiddenUnits
from ...names import walk
from ...wiring import Place, Reading, Tap, Units, locate
from ...wiring.reading import input_reading, reads_inputs

STATISTICS: dict[str, Law] = {"running_mean": Constant(0.0), "running_var": Constant(1.0)}
"""What a new unit starts from in a batch norm."""


def hidden_units(units: Units, module: nn.Module) -> HiddenUnits:
    """The units of one layer of a module, as a stack of such modules has them.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> hidden_units(Units(("0.weight", 0), ("0.bias", 0), None, ("2.weight", 1), "1"), net).outgoing[0].dim
        2
    """
    into = (*units.weight_in, *units.bias, *units.norm)
    statistics = [place._replace(name=name) for place in units.norm for name in _statistics(module, place)]
    incoming = dict.fromkeys((*into, *statistics))
    return HiddenUnits.of(units.layer, units.count(module), incoming, units.weight_out)


def _statistics(module: nn.Module, place: Place) -> list[str]:
    """Names of the running statistics beside the scale and shift of a batch norm."""
    home, attribute = locate(module, place.name)
    prefix = place.name.removesuffix(attribute)
    return [prefix + name for name in STATISTICS if isinstance(getattr(home, name, None), Tensor)]


def input_readings(module: nn.Module) -> dict[str, Reading]:
    """What the linear and convolutional layers of a module receive, by the names of their trained weights.

    A tied weight is left out: it would have the inputs of several layers.
    """
    entries = [e for e in walk(module) if not e.aliases and e.parameter.requires_grad and reads_inputs(e)]
    return {entry.name: input_reading(entry) for entry in entries}


class Watching:
    """Within it |h| of some layers is averaged, per unit, over the forward passes of the module.

    Args:
        readings: where each layer's h is.
        by_position: keep the positions of a unit apart.
    """

    def __init__(self, readings: list[Reading], by_position: bool = False) -> None:
        self._readings, self._by_position = readings, by_position
        self._sums: list[tuple[Tensor, int] | None] = [None] * len(readings)
        self._taps: list[Tap] = []

    def __enter__(self) -> "Watching":
        self._taps = [Tap(reading, partial(self._add, i)) for i, reading in enumerate(self._readings)]
        return self

    def __exit__(self, *_: object) -> None:
        for tap in self._taps:
            tap.remove()

    def _add(self, i: int, module: nn.Module, h: Tensor) -> None:
        reading = self._readings[i]
        total, count = (reading.sum_abs_by_position if self._by_position else reading.sum_abs)(h)
        seen = self._sums[i]
        self._sums[i] = (total, count) if seen is None else (seen[0] + total, seen[1] + count)

    def sums(self, names: list[str]) -> dict[str, Tensor]:
        """Sums of |h| under a name for each layer, but for those that the forward pass did not call."""
        return {name: sums[0] for name, sums in zip(names, self._sums, strict=True) if sums is not None}

    def means(self) -> list[Tensor]:
        """Mean |h| over examples and positions, (n) of each layer; or over examples, (n, positions)."""
        unseen = [reading.name for reading, sums in zip(self._readings, self._sums, strict=True) if sums is None]
        if unseen:
            raise ValueError(
                f"units must be in layers that the forward pass calls; it did not call {', '.join(map(repr, unseen))}: "
                "name others with units=[regrow.Units(...)]"
            )
        return [sums[0] / sums[1] for sums in self._sums if sums is not None]
