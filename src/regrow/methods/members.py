"""The members that a method acts on at one update: what it may read, and how it changes them.

Shapes: k members, n units of a layer, F outgoing weights of a unit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..core import random, utility
from ..core.eager import compare, looking_is_free
from ..laws import Law
from .counters import Counters
from .network import Choice, Network
from .rows import taken
from .selection import Selected, Wanted


class AllMembers(Protocol):
    """All members of one method, of which `Members` are some: what they need of a `StackedMethod`."""

    @property
    def kind(self) -> type:
        """The class of the method."""
        ...

    @property
    def methods(self) -> Sequence[Any]:
        """The method with the knobs of each member."""
        ...

    @property
    def members(self) -> Sequence[int]:
        """Their places in the network."""
        ...

    @property
    def dates(self) -> Any: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def gradients(self) -> Mapping[str, Tensor] | None: ...
    def keys(self, which: Sequence[int], step: int, *purpose: str) -> list[int]: ...


class Members:
    """k members of a network, at one update.

    Tensors lead with an axis of members; of a plain model it has size 1. Decide by masks, and leave the writing to
    `renew`, `renew_units` and `write`: they draw under the members' own keys, count, and clear the optimizer's memory.

    Args:
        of: the method with all of its members.
        step: number of this update.
        network: what is changed.
        which: numbers of the k members among those of the method.
        layers: hidden layers that may be renewed; None: all.
        preview: change nothing; `masks` holds what would be renewed, (k, ...) by parameter.
        skipped: nonzero where a gradient scaler skips the optimizer's step; None: it does not.
    """

    def __init__(
        self,
        of: AllMembers,
        step: int,
        network: Network,
        which: Sequence[int],
        layers: Sequence[int] | None = None,
        preview: bool = False,
        skipped: Tensor | None = None,
    ) -> None:
        self.step, self.network, self.which = step, network, list(which)
        self.skipped = skipped
        self.preview, self.masks = preview, dict[str, Tensor]()
        self._of, self._layers = of, layers
        self.places = [of.members[i] for i in which]
        self._choices: list[Choice] = []

    def __len__(self) -> int:
        return len(self.which)

    @property
    def memory(self) -> Any:
        """What the method remembers of all of its members: its `Dates`."""
        return self._of.dates

    @property
    def counters(self) -> Counters:
        """Counts of all members of the method."""
        return self._of.counters

    def of(self, row: int) -> Any:
        """The method with the knobs of one of the k members."""
        return self._of.methods[self.which[row]]

    # Parameters.

    @property
    def parameters(self) -> Iterator[str]:
        """Names of what may be changed."""
        return iter(self.network.parameters)

    def weights(self, name: str) -> Tensor:
        """A parameter, (k, ...), as it is after the update; not to be changed in place."""
        return self.network.take(name, self.places)

    def gradient(self, name: str) -> Tensor | None:
        """The gradient of the loss that the update used, (k, ...)."""
        g = self._of.gradients[name] if self._of.gradients is not None else self.network.gradient(name)
        if g is None or len(self.places) == len(g):
            return g
        return taken(g, self.places)

    def law(self, name: str) -> Law:
        """What the parameter was initialised from."""
        law = self.network.laws.get(name)
        if law is None:
            raise ValueError(
                f"{self._of.kind.__name__} needs the law of {name!r}, which is not known: leave its `draws` True, or "
                "give renew(…, law=…)"
            )
        return law

    def select(self, wanted: Iterable[Wanted]) -> Iterable[Selected]:
        """Select the entries of lowest utility of each parameter that is wanted; look at one after the other.

        Example:
            >>> import torch, regrow
            >>> from dataclasses import dataclass
            >>> @dataclass(frozen=True, kw_only=True)
            ... class Smallest(regrow.methods.Method):
            ...     on_shards = True
            ...     def act(self, members):
            ...         wanted = (Wanted(name, members.weights(name).abs(), 0.5) for name in members.parameters)
            ...         for name, utility, mask, _ in members.select(wanted):
            ...             members.renew(name, mask, utility)
        """
        return self.network.select(wanted)

    # Random numbers.

    def keys(self, *purpose: str) -> list[int]:
        """A key of each member: its seed, the method, the update, and what is drawn (tensor, purpose)."""
        return self._of.keys(self.which, self.step, *purpose)

    def key_of(self, row: int, *purpose: str) -> int:
        """The key of one of the k members."""
        return self._of.keys([self.which[row]], self.step, *purpose)[0]

    def random(
        self, name: str, purpose: str, number: Callable[[Tensor], Tensor], like: Tensor, of_units: bool = False
    ) -> Tensor:
        """A random number for every entry, of the shape of `like` (k, ...), by `core.random.uniform` or `order`.

        Args:
            name: of a parameter, or of a layer where the entries are its units.
            purpose: what they are for.
            number: makes numbers of words.
            like: for the shape.
            of_units: the name is that of a layer.
        """
        keys = self.keys(name, purpose)
        if len(keys) == 1:
            index = None if of_units else self.network.index(name)
            return random.field(keys[0], like.shape[1:], number, like.device, index).unsqueeze(0)
        index = torch.arange(like[0].numel(), device=like.device)
        return number(random.bits(_column(keys, like.device), index)).view(like.shape)

    def chance(self, name: str, purpose: str, device: torch.device) -> Tensor:
        """One uniform number in [0, 1) for each member, (k)."""
        if len(keys := self.keys(name, purpose)) == 1:  # no number goes from the host to a device
            return random.field(keys[0], torch.Size(), random.uniform, device).view(1)
        zero = torch.zeros(1, dtype=torch.int64, device=device)
        return random.uniform(random.bits(_column(keys, device), zero)).squeeze(1)

    # Changes.

    def renew(
        self, name: str, mask: Tensor, utility: Tensor | None = None, *, law: Law | None = None,
        spoilt: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Draw the chosen entries of a parameter anew.

        Args:
            name: of the parameter.
            mask: bool (k, ...), True where renewed.
            utility: of the entries, to count those of utility 0.
            law: to draw from, if not the parameter's own.
            spoilt: bool (k), where a NaN forbade a choice.
        """
        if self.preview:
            self.masks[name] = mask
            return
        law = law or self.law(name)
        zero = mask & compare(np.equal, utility, utility.new_zeros(())) if utility is not None else None
        self.network.count(self.counters, self.which, name, mask, zero, spoilt)
        self.network.resample(name, self.places, mask, law, self.keys(name, "value"))
        self.network.forget(name, self.places, mask)

    def write(self, name: str, values: Tensor) -> None:
        """Give a parameter these values, (k, ...)."""
        self.network.put(name, self.places, values)

    def add_to_gradient(self, name: str, penalty: Tensor) -> None:
        """Before the optimizer's step: have it add this (k, ...) to the gradient of the loss."""
        self.network.add_to_gradient(name, self.places, penalty)

    def skip(self) -> None:
        """Count that something is left alone because it has no gradient."""
        if not self.preview:
            self.counters.skipped_no_grad += 1

    # Units.

    @property
    def layers(self) -> Sequence[int]:
        """Numbers of the hidden layers whose units may be renewed."""
        return range(len(self.network.units)) if self._layers is None else self._layers

    def unit_utility(self, layer: int, kind: str) -> Tensor | None:
        """How useful each unit is, (k, n), by one of `unit_method.UTILITIES`; None without gradient."""
        if kind == "contribution-by-position":
            seen = self.network.activity_by_position(layer, self.places)
            weights = self.network.outgoing(layer, self.places)
            assert weights is not None
            return utility.contribution_by_position(seen, 1, weights)
        if kind == "magnitude":
            return self.network.unit_magnitude(layer, self.places)
        if kind == "gradient":
            return self.network.unit_gradient(layer, self.places)
        activity = self.network.activity(layer, self.places)
        assert activity is not None
        u = utility.activation(activity, 1)
        return u if kind == "activation" else u * self.network.unit_magnitude(layer, self.places)

    def renew_units(self, layer: int, mask: Tensor, utility: Tensor, spoilt: Tensor | None = None) -> None:
        """Make units of a hidden layer new, once all layers are decided.

        Args:
            layer: its number.
            mask: bool (k, n), True where renewed.
            utility: (k, n), to count units of utility 0.
            spoilt: bool (k), where a NaN forbade a choice.
        """
        self._choices.append(Choice(layer, self.places, mask))
        if self.preview:
            return
        units = self.network.units[layer]
        zero = mask & (utility == 0)
        self.counters.add(self.which, units.name, mask, zero, spoilt, size=self.network.unit_size(layer))

    def finish(self) -> None:
        """Write what `renew_units` was given, and count."""
        choices, self._choices = self._choices, []
        if self.preview:
            self.masks |= masks_of(self.network, choices)
            return
        choices = [c for c in choices if not looking_is_free(c.mask) or bool(c.mask.any())]
        if choices:
            self._write_units(choices)
        self.network.finish(self.counters)

    def _write_units(self, choices: Sequence[Choice]) -> None:
        names = {place.name for c in choices for place in self.network.units[c.layer].incoming}
        self.network.renew_units(choices, {name: self.keys(name, "value") for name in names})
        if self.network.remembers:
            for name, mask in masks_of(self.network, choices).items():
                self.network.forget(name, self.places, mask)


def masks_of(network: Network, choices: Sequence[Choice]) -> dict[str, Tensor]:
    """What renewing units changes: a mask (k, ...) for each parameter."""
    masks: dict[str, Tensor] = {}
    for choice in choices:
        units = network.units[choice.layer]
        for place in (*units.incoming, *units.outgoing):
            if place.name in network.parameters:
                mask = network.unit_mask(place, choice)
                masks[place.name] = masks[place.name] | mask if place.name in masks else mask.clone()
    return masks


def _column(keys: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(keys, dtype=torch.int64, device=device).unsqueeze(1)
