"""What a method acts on: a network whose tensors lead with an axis of members. A plain model has one member.

Shapes: M members, k some of them, n units of a layer, F outgoing weights of a unit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core import random, renew, utility
from ..core.eager import looking_is_free
from ..laws import Law
from ..names import Entry, matches
from ..wiring import Place
from .counters import Counters
from .rows import index_of, taken, views
from .selection import Selected, Wanted, select_here

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
        """Units of a plain module: the axis of members shifts their dimensions by one, here and nowhere else."""

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

    @classmethod
    def of(cls, entry: Entry) -> "Lookup | None":
        """How the rows of a module's parameter are looked up; None where they are not."""
        embedding = isinstance(entry.module, (nn.Embedding, nn.EmbeddingBag)) and entry.attribute == "weight"
        return cls(entry.module.padding_idx) if embedding else None  # type: ignore[union-attr]


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
    def inputs(self) -> Mapping[str, int]:
        """How many inputs a linear or convolutional layer has, by its weight's name, where methods may read them."""
        return {}

    def active(self, name: str, places: Sequence[int]) -> Tensor | None:
        """Which inputs of a layer were other than 0 in the update's batch, bool (k, I); None where none was seen."""
        raise NotImplementedError(f"{type(self).__name__} has no inputs: define `active`")

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

    def has_gradient(self, places: Sequence[int], gradients: Mapping[str, Tensor] | None = None) -> list[bool] | None:
        """Whether each of these members has a nonzero gradient anywhere; waits for the device.

        Args:
            places: of the members.
            gradients: of all that is trained; None: `gradient` has them.

        Returns:
            True or False for each member, in the order of `places`; None if the caller has already checked.
        """
        of = gradients.values() if gradients is not None else [self.gradient(name) for name in self.parameters]
        there: Tensor | None = None
        for g in sorted(
            (g for g in of if g is not None), key=Tensor.numel
        ):  # smallest first: one of them usually settles it
            here = taken(g, places).reshape(len(places), -1).any(1)
            there = here if there is None else there | here
            if looking_is_free(there) and bool(there.all()):
                break
        return [False] * len(places) if there is None else there.tolist()

    def tensor(self, name: str) -> Tensor:
        """A parameter or running statistic, (M, ...)."""
        return self.parameters[name]

    def lookup(self, name: str) -> Lookup | None:
        """How rows of this parameter are looked up; None where they are not."""
        del name
        return None

    def position(self, name: str) -> Tensor:
        """The place of each entry here in the row-major order of the whole parameter of a member, int64 (...)."""
        w, index = self.tensor(name)[0], self.index(name)
        here = torch.arange(w.numel(), device=w.device)
        return (here if index is None else index(here)).view(w.shape)

    def matches(self, name: str, pattern: str) -> bool:
        """Does a pattern name this parameter?"""
        return matches(pattern, name)

    def forget(self, name: str, places: Sequence[int], mask: Tensor) -> None:  # noqa: B027
        """Clear the optimizer's memory of entries that were renewed."""

    def add_to_gradient(self, name: str, places: Sequence[int], penalty: Tensor) -> None:
        """Have the optimizer's next step add this (k, ...) to the gradient of the loss."""
        raise NotImplementedError(f"{type(self).__name__} takes no penalties: define `add_to_gradient`")

    # What lies on other ranks: nothing, unless parameters lie in shards.

    def shape(self, name: str) -> torch.Size:
        """The shape of a whole parameter or running statistic of one member."""
        return self.tensor(name).shape[1:]

    def index(self, name: str) -> Callable[[Tensor], Tensor] | None:
        """Maps row-major numbers of the entries here to those in the whole parameter; None: they are the same."""
        del name

    def part(self, name: str, whole: Tensor) -> Tensor:
        """The part of a tensor, of a parameter's shape after any axes of members, that goes with the entries here."""
        del name
        return whole

    def whole(self, name: str, part: Tensor) -> Tensor:
        """A tensor of a parameter's shape as a user sees it: in shards where the parameter is."""
        del name
        return part

    def totals(self, parts: Sequence[tuple[str, Tensor]]) -> list[Tensor]:
        """Sums over the entries here of some parameters, added up over all that hold entries: in one message.

        Args:
            parts: (name of the parameter, sums of any shape).
        """
        return [part for _, part in parts]

    def select(self, wanted: Iterable[Wanted]) -> Iterable[Selected]:
        """Select the entries of lowest utility of each parameter that is wanted, one after the other."""
        return map(select_here, wanted)  # `map` keeps none of them while the next is made

    def present(self, name: str, gradient: Tensor) -> Tensor:
        """Which slices along dimension 0 have any gradient that is not 0, (k, rows)."""
        del name
        return (gradient != 0).flatten(2).any(dim=2) if gradient.dim() > 2 else gradient != 0

    def count(self, counters: Counters, which: Sequence[int], name: str, mask: Tensor, *zero_and_nan: Any) -> None:
        """Count what is renewed of a parameter; the arguments are those of `Counters.add`."""
        counters.add(which, name, mask, *zero_and_nan)

    def finish(self, counters: Counters) -> None:  # noqa: B027
        """Do what was put off until everything is written."""

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
            return renew.resample_(w[places[0]], mask[0], self._draw(name, law, keys[0]))
        size = max(1, DRAWN_AT_ONCE // max(w[0].numel(), 1))
        for start in range(0, len(places), size):
            rows = slice(start, start + size)
            key = torch.tensor(keys[rows], dtype=torch.int64, device=w.device).unsqueeze(1)
            old = taken(w, places[rows])
            new = law.draw(random.bits(key, torch.arange(w[0].numel(), device=w.device))).view_as(old)
            self.put(name, places[rows], torch.where(mask[rows], new.to(w.dtype), old))

    def _draw(self, name: str, law: Law, key: int) -> Callable[[Tensor], Tensor]:
        """Values of entries here, by their numbers."""
        index = self.index(name)
        return lambda i: law.draw(random.bits(key, i if index is None else index(i)))

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
        places = [place for place in (*units.incoming, *units.outgoing) if place.name in self.parameters]
        return sum(self.shape(p.name).numel() // self.shape(p.name)[p.dim - 1] for p in places)

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

    def unit_magnitude(self, layer: int, places: Sequence[int]) -> Tensor:
        """Mean |w_out| of each unit, (k, n)."""
        weights = self.outgoing(layer, places)
        assert weights is not None
        return utility.unit_magnitude(weights)

    def unit_gradient(self, layer: int, places: Sequence[int]) -> Tensor | None:
        """|sum w_out g_out| of each unit, (k, n); None where there is no gradient."""
        gradient, weights = self.outgoing(layer, places, gradient=True), self.outgoing(layer, places)
        return None if gradient is None or weights is None else utility.unit_gradient(weights, gradient)

    def along(self, place: Place, chosen: Tensor) -> Tensor:
        """True at the entries here, along a place's dimension, of the chosen units: (k, n) -> (k, size)."""
        return place.along(self.tensor(place.name), chosen)

    def unit_mask(self, place: Place, choice: Choice) -> Tensor:
        """True at the entries here of the chosen units, (k, ...); an expanded view, not to be written to."""
        return place.spread(self.along(place, choice.mask), self.take(place.name, choice.places))

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
            for i, along, key in zip(choice.places, self.along(place, choice.mask), keys, strict=True):
                renew.resample_slices_(w[i], place.dim - 1, along, self._draw(place.name, law, key))
        else:
            self.resample(place.name, choice.places, self.unit_mask(place, choice), law, keys)

    def _fill_slices(self, place: Place, choice: Choice, value: float) -> None:
        w = self.tensor(place.name)
        if len(choice.places) == 1 or looking_is_free(w):
            for i, along in zip(choice.places, self.along(place, choice.mask), strict=True):
                renew.fill_slices_(w[i], place.dim - 1, along, value)
        else:
            self._fill(w, choice.places, self.unit_mask(place, choice), value)
