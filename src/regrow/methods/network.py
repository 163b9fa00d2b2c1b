"""What a method acts on: a network whose tensors lead with an axis of members. A plain model has one member.

Shapes: M members, k some of them, n units of a layer, F outgoing weights of a unit.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core import random, renew
from ..core.eager import looking_is_free
from ..laws import Law
from ..names import matches
from ..wiring import Place

DRAWN_AT_ONCE = 1 << 25  # entries, to bound the memory of a large stack


class HiddenUnits(NamedTuple):
    """The n units of one hidden layer. Dimensions of the places count the axis of members.

    incoming: weights, biases, norms and running statistics, drawn from their laws. outgoing: weights, set to 0.
    """

    name: str
    n: int
    incoming: tuple[Place, ...]
    outgoing: tuple[Place, ...]

    @classmethod
    def of(cls, name: str, n: int, incoming: Iterable[Place], outgoing: Iterable[Place]) -> "HiddenUnits":
        """Units of a module, in a network of members: here alone their dimensions shift by one."""

        def shifted(places: Iterable[Place]) -> tuple[Place, ...]:
            return tuple(place._replace(dim=place.dim + 1) for place in places)

        return cls(name, n, shifted(incoming), shifted(outgoing))


class Choice(NamedTuple):
    """Units to renew of hidden layer `layer`, of the members at `places`: `mask` (k, n)."""

    layer: int
    places: Sequence[int]
    mask: Tensor


class Lookup(NamedTuple):
    """A parameter whose rows are looked up, such as an embedding; its padding row, if any."""

    padding: int | None


class Network(ABC):
    """A network of M members.

    parameters: name -> (M, ...), changed in place. laws: of the parameters, and of running statistics.
    """

    members: int
    norms: frozenset[str] = frozenset()  # names of parameters of norms
    remembers: bool = False  # whether an optimizer's memory is to be cleared
    parameters: Mapping[str, Tensor]
    units: Sequence[HiddenUnits]

    @property
    @abstractmethod
    def laws(self) -> Mapping[str, Law]:
        """The law of every parameter by name."""

    @abstractmethod
    def activity(self, layer: int, places: Sequence[int]) -> Tensor | None:
        """Mean |h| of the units of a hidden layer over the update's batch, (k, n); None where none was recorded."""

    def activity_by_position(self, layer: int, places: Sequence[int]) -> Tensor:
        """Mean |h| over the update's batch at the position that each outgoing weight reads, (k, n, F)."""
        raise NotImplementedError(
            f"{type(self).__name__} has no activations by position: define `activity_by_position`, or choose another "
            "utility than 'contribution-by-position'"
        )

    def gradient(self, name: str) -> Tensor | None:
        """The gradient of the update, (M, ...)."""
        raise NotImplementedError(f"{type(self).__name__} has no gradients: define `gradient`")

    def signal(self, places: Sequence[int], gradients: Mapping[str, Tensor] | None = None) -> list[bool] | None:
        """Of which of these members any gradient is not 0; waits for the device.

        Args:
            places: of the members.
            gradients: of all that is trained; None: `gradient` has them.

        Returns:
            One for each member; None where whoever calls has looked already.
        """
        of = gradients.values() if gradients is not None else [self.gradient(name) for name in self.parameters]
        there: Tensor | None = None
        for g in sorted((g for g in of if g is not None), key=Tensor.numel):  # small ones tell most of the time
            here = taken(g, places).reshape(len(places), -1).any(1)
            there = here if there is None else there | here
            if looking_is_free(there) and bool(there.all()):
                break
        return [False] * len(places) if there is None else there.tolist()

    def tensor(self, name: str) -> Tensor:
        """A parameter or running statistic, (M, ...)."""
        return self.parameters[name]

    def lookup(self, name: str) -> Lookup | None:
        """Whether rows of this parameter are looked up."""
        del name
        return None

    def matches(self, name: str, pattern: str) -> bool:
        """Does a pattern name this parameter?"""
        return matches(pattern, name)

    def forget(self, name: str, places: Sequence[int], mask: Tensor) -> None:  # noqa: B027
        """Clear the optimizer's memory of entries that were renewed."""

    def add_to_gradient(self, name: str, places: Sequence[int], penalty: Tensor) -> None:
        """Have the optimizer's next step add this (k, ...) to the gradient of the loss."""
        raise NotImplementedError(f"{type(self).__name__} takes no penalties: define `add_to_gradient`")

    # Writing.

    def take(self, name: str, places: Sequence[int]) -> Tensor:
        """One tensor of some members, (k, ...): a view where they are all, or one."""
        return taken(self.tensor(name), places)

    def put(self, name: str, places: Sequence[int], values: Tensor) -> None:
        """Give some members these values, (k, ...)."""
        w = self.tensor(name)
        if views(w, places):
            own = taken(w, places)
            if values.data_ptr() == own.data_ptr():
                if (values.shape, values.stride(), values.dtype) == (own.shape, own.stride(), own.dtype):
                    return  # changed in place
                values = values.clone()  # another view of the same memory, such as a transposed one
        if len(places) == len(w):
            w.copy_(values)
        else:
            w.index_copy_(0, index_of(places, w.device), values.to(w.dtype))

    def resample(self, name: str, places: Sequence[int], mask: Tensor, law: Law, keys: Sequence[int]) -> None:
        """Draw the chosen entries (mask: (k, ...)) of some members anew, each under its own key."""
        w = self.tensor(name)
        if law.std == 0:
            return self._fill(w, places, mask, law.mean)
        if len(places) == 1:  # in place; on a CPU it touches the chosen entries only
            return renew.resample_(w[places[0]], mask[0], lambda i: law.draw(random.bits(keys[0], i)))
        size = max(1, DRAWN_AT_ONCE // max(w[0].numel(), 1))
        for start in range(0, len(places), size):
            rows = slice(start, start + size)
            key = torch.tensor(keys[rows], dtype=torch.int64, device=w.device).unsqueeze(1)
            old = taken(w, places[rows])
            new = law.draw(random.bits(key, torch.arange(w[0].numel(), device=w.device))).view_as(old)
            self.put(name, places[rows], torch.where(mask[rows], new.to(w.dtype), old))

    def _fill(self, w: Tensor, places: Sequence[int], mask: Tensor, value: float) -> None:
        part = taken(w, places).masked_fill_(mask, value)
        if not views(w, places):
            w.index_copy_(0, index_of(places, w.device), part)

    # Units.

    def twin(self, method: Any) -> Callable[[Any, Any], None] | None:
        """A faster implementation with the same bits, if the network has one: called with method and members."""
        del method

    def unit_size(self, layer: int) -> int:
        """Entries that belong to one unit of a hidden layer."""
        units = self.units[layer]
        places = (place for place in (*units.incoming, *units.outgoing) if place.name in self.parameters)
        return sum(self.parameters[p.name][0].numel() // self.parameters[p.name].shape[p.dim] for p in places)

    def outgoing(self, layer: int, places: Sequence[int], gradient: bool = False) -> Tensor | None:
        """Outgoing weights of each unit, or their gradients, (k, n, F); None where there is no gradient."""
        units, rows = self.units[layer], []
        for i in places:
            parts = []
            for place in units.outgoing:
                t = self.gradient(place.name) if gradient else self.tensor(place.name)
                if t is None:
                    return None
                parts.append(place._replace(dim=place.dim - 1).per_unit(t[i], units.n))
            rows.append(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)

    def renew_units(self, choices: Sequence[Choice], keys: Mapping[str, Sequence[int]]) -> None:
        """Renew units: first incoming weights from their laws, in all layers; then outgoing weights to 0.

        In that order what a new unit passes on to another new unit is 0 as well.
        """
        for choice in choices:
            for place in self.units[choice.layer].incoming:
                self._renew_slices(place, choice, keys[place.name])
        for choice in choices:
            for place in self.units[choice.layer].outgoing:
                self._fill_slices(place, choice, 0.0)

    def _renew_slices(self, place: Place, choice: Choice, keys: Sequence[int]) -> None:
        law, w = self.laws[place.name], self.tensor(place.name)
        if law.std == 0:
            self._fill_slices(place, choice, law.mean)
        elif len(choice.places) == 1 or looking_is_free(w):
            own = place._replace(dim=place.dim - 1)
            for i, chosen, key in zip(choice.places, choice.mask, keys, strict=True):
                along = own.along(w[i], chosen)
                renew.resample_slices_(w[i], own.dim, along, lambda index, key=key: law.draw(random.bits(key, index)))
        else:
            mask = place.mask(taken(w, choice.places), choice.mask)
            self.resample(place.name, choice.places, mask, law, keys)

    def _fill_slices(self, place: Place, choice: Choice, value: float) -> None:
        w = self.tensor(place.name)
        if len(choice.places) == 1 or looking_is_free(w):
            own = place._replace(dim=place.dim - 1)
            for i, chosen in zip(choice.places, choice.mask, strict=True):
                renew.fill_slices_(w[i], own.dim, own.along(w[i], chosen), value)
        else:
            self._fill(w, choice.places, place.mask(taken(w, choice.places), choice.mask), value)


def index_of(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Numbers of members as an index on a device, kept: a graph that is captured may not copy them from the host."""
    return _index_of(tuple(numbers), device)


@functools.lru_cache(maxsize=1024)
def _index_of(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=torch.int64, device=device)


def views(w: Tensor, places: Sequence[int]) -> bool:
    """Are these members' values of a stacked tensor a view?"""
    return len(places) in (1, len(w))


def taken(w: Tensor, places: Sequence[int]) -> Tensor:
    """The values of some members, (k, ...), in ascending order: a view if these are all members, or one."""
    if len(places) == len(w):
        return w
    if len(places) == 1:
        return w[places[0] : places[0] + 1]
    return w.index_select(0, index_of(places, w.device))


def added(x: Tensor, places: Sequence[int], values: Tensor) -> Tensor:
    """A stacked tensor with values (k, ...) of some members added, in place."""
    if len(places) == len(x):
        return x.add_(values)
    return x.index_add_(0, index_of(places, x.device), values.to(x.dtype))
