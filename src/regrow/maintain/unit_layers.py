"""The layers of hidden units that a maintainer renews, and sums of their activations."""

import functools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..core import utility
from ..laws import Constant, Law
from ..methods import HiddenUnits, Method, ModuleNetwork, network_of
from ..names import Entry
from ..wiring import Found, Place, Units, find_units, locate
from . import distributed
from .activation_sums import NO_FORWARD, ActivationSums, ActivationSumsByPosition
from .coverage import Coverage
from .law_book import LawBook


class UnitLayer:
    """The units of one layer in a running model.

    Args:
        model: the model.
        units: which of its entries they are.
        homes: the model's entries by each of their names.
        coverage: of the model, which knows whether it has changed.
        by_position: watch activations position by position.
    """

    def __init__(
        self, model: nn.Module, units: Units, homes: Mapping[str, Entry], coverage: Coverage, by_position: bool
    ) -> None:
        self.units, self._coverage, self._by_position = units, coverage, by_position
        self.n = units.count(model)
        self.name = units.layer
        self.homes = {place.name: homes[place.name] for place in units.places if place.name in homes}
        self.statistics = self._statistics(model)
        self.rewatch(model)

    def rewatch(self, model: nn.Module) -> None:
        """Watch with new hooks."""
        home, stale = self.homes[self.units.weight_in[0].name], self._coverage.stale
        if self._by_position:
            self.watch = ActivationSumsByPosition(self.units, model, home, stale)
        else:
            self.watch = ActivationSums(self.units.reading(model), home, stale=stale)

    def _statistics(self, model: nn.Module) -> dict[Place, tuple[nn.Module, str]]:
        """Running means and variances of the norms, named as units or not: {where the units lie: (module, buffer)}."""
        buffers: dict[Place, tuple[nn.Module, str]] = {}
        for place in self.units.norm:
            module, attribute = locate(model, place.name)
            if place.name not in self.homes:
                buffers[place] = module, attribute
            elif getattr(module, "running_mean", None) is not None:
                prefix = place.name.removesuffix(attribute)
                for buffer in ("running_mean", "running_var"):
                    buffers[place._replace(name=prefix + buffer)] = module, buffer
        return buffers

    @functools.cached_property
    def hidden(self) -> HiddenUnits:
        """Its units in a network of one, by the parameters' first names."""

        def named(places: Sequence[Place]) -> list[Place]:
            return [place._replace(name=self.homes[place.name].name) for place in places if place.name in self.homes]

        units = self.units
        incoming = named((*units.weight_in, *units.bias, *units.norm))
        return HiddenUnits.of(self.name, self.n, (*incoming, *self.statistics), named(units.weight_out))

    def activity(self, total: Tensor, count: Tensor) -> Tensor:
        """Mean |h| from its sums: of each unit, (n); position by position at each of its outgoing weights, (n, F)."""
        mean = utility.activation(total, count)
        if not self._by_position:
            return mean
        return self.units.outgoing_by_position(
            mean, [self.homes[place.name].parameter for place in self.units.weight_out]
        )

    @property
    def weights(self) -> list[nn.Parameter]:
        """Incoming and outgoing weights."""
        return [self.homes[place.name].parameter for place in (*self.units.weight_in, *self.units.weight_out)]

    def usable(self, ids: set[int] | None) -> bool:
        """Can its units be renewed: are the weights trainable, and, where `ids` is given, among them?"""
        return all(w.requires_grad and (ids is None or id(w) in ids) for w in self.weights)


class Laws(Mapping[str, Law]):
    """The laws of parameters, looked up one by one, and of running statistics."""

    def __init__(self, entries: Mapping[str, Entry], statistics: Mapping[str, tuple[nn.Module, str]], laws: LawBook):
        self._entries, self._statistics, self._laws = entries, statistics, laws

    def __getitem__(self, name: str) -> Law:
        if name in self._statistics:
            return Constant(1.0 if self._statistics[name][1] == "running_var" else 0.0)
        return self._laws.law(self._entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter((*self._entries, *self._statistics))

    def __len__(self) -> int:
        return len(self._entries) + len(self._statistics)


class UnitLayers:
    """All layers of units that a maintainer renews.

    Args:
        model: with hidden units.
        given: `regrow.Units`, or None to have them found.
        method: what renews them.
    """

    def __init__(self, model: nn.Module, given: object, method: Method) -> None:
        given = [given] if isinstance(given, Units) else given
        if given is not None and not (
            isinstance(given, Sequence) and given and all(isinstance(u, Units) for u in given)
        ):
            raise TypeError(f"`units` must be a list of regrow.Units, or None to have them found; got {given!r}")
        self._model, self._given, self._who = model, given, type(method).__name__
        self._reads, self._by_position = method.reads_activations, method.reads_positions
        self._watching, self._overlooked = False, set[str]()
        self.installed = True
        self.all: dict[str, UnitLayer] = {}

    def admit(self, coverage: Coverage) -> None:
        """Find the layers of the parameters that are covered."""
        covered = {home.name for entry in coverage.entries for home in (entry, *entry.aliases)}
        units = self._search(covered) if self._given is None else self._given
        for own in self._given or ():
            own.count(self._model)  # refuses what is not there
        skipped = {name for name in coverage.skipped() if name not in covered}
        units = [
            own
            for own in units
            if all(place.name in covered for place in own.weight_in)
            and not any(place.name in skipped for place in own.places)
        ]
        if not units:
            raise ValueError(
                "`only` and `skip` leave no layer of units: `only` names the layers' incoming weights, and a layer is "
                "left out with any of its tensors that `skip` names"
            )
        homes = {home.name: entry for entry in coverage.all for home in (entry, *entry.aliases)}
        layers = [self._layer(own, homes, coverage) for own in units]
        for layer in self.all.values():
            if layer not in layers:
                layer.watch.remove()
        self.all = {layer.name: layer for layer in layers}

    def _search(self, covered: set[str]) -> Found:
        """Find units, and warn once of each layer that may have some and of which none are found."""
        found = find_units(self._model)
        others = {name for name in found.overlooked if not any(c.startswith(f"{name}.") for c in covered)}
        found.warn_of_overlooked(self._who, besides=others | self._overlooked, stacklevel=7)
        self._overlooked |= set(found.overlooked)
        return found

    def _layer(self, units: Units, homes: Mapping[str, Entry], coverage: Coverage) -> UnitLayer:
        """The layer of these units: the one there is, with what it has watched, if its modules are the same."""
        old = self.all.get(units.layer)
        if old is not None and old.units == units and all(homes[n].module is h.module for n, h in old.homes.items()):
            return old
        layer = UnitLayer(self._model, units, homes, coverage, self._by_position)
        weakref.finalize(self, layer.watch.remove)  # the model's hooks go with their maintainer
        return layer

    @property
    def entries(self) -> list[Entry]:
        """Every parameter that belongs to units, once."""
        return list({e.name: e for layer in self.all.values() for e in layer.homes.values()}.values())

    @property
    def drawn(self) -> list[str]:
        """First names of the parameters that new units draw."""
        return [
            layer.homes[place.name].name
            for layer in self.all.values()
            for place in (*layer.units.weight_in, *layer.units.bias, *layer.units.norm)
            if place.name in layer.homes
        ]

    def install(self) -> None:
        """Put the hooks on the model, if `remove` took them off."""
        self.installed = True
        for layer in self.all.values():
            layer.watch.install()

    def remove(self) -> None:
        """Take every hook off the model."""
        self.installed = self._watching = False
        for layer in self.all.values():
            layer.watch.remove()

    def rebuild(self) -> None:
        """Put new hooks on the model: this is a copy, and the original keeps its own."""
        for layer in self.all.values():
            layer.rewatch(self._model)
            weakref.finalize(self, layer.watch.remove)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for layer in self.all.values():
            weakref.finalize(self, layer.watch.remove)

    @property
    def watching(self) -> bool:
        """Are the passes of the coming update watched?"""
        return self._watching

    def watch(self, wanted: Sequence[int] | None) -> None:
        """From here to the next update, sum activations of these layers only; None: of all."""
        if wanted is not None and not wanted and not self._watching:
            return
        self._watching = wanted is None or bool(wanted)
        for i, layer in enumerate(self.all.values()):
            layer.watch.begin_update(self._reads and (wanted is None or i in wanted))

    def ready(self, held: set[int] | None, watched: bool = True) -> list[int]:
        """Layers whose units can be renewed now, and that were watched, unlike one that has just been put in place.

        Args:
            held: identities of the parameters that may be changed; None: of all.
            watched: False: also those that were not watched.
        """
        layers = enumerate(self.all.values())
        return [i for i, y in layers if y.usable(held) and (y.watch.wanted or not (watched and self._reads))]

    def network(self, activities: Mapping[int, Tensor], laws: LawBook, **clearing: Any) -> ModuleNetwork:
        """The model as a network of one, of what belongs to its units.

        Args:
            activities: of the layers that are to act.
            laws: of the parameters.
            clearing: what clears an optimizer's memory of entries that are renewed.
        """
        entries, layers = {entry.name: entry for entry in self.entries}, self.all.values()
        statistics = {place.name: home for layer in layers for place, home in layer.statistics.items()}
        return network_of(
            entries, Laws(entries, statistics, laws), units=[layer.hidden for layer in layers],
            statistics=statistics, activities=activities, **clearing,
        )  # fmt: skip

    def seen(self, i: int) -> bool:
        """Has a pass of this layer been watched since the last update?"""
        return not self._reads or list(self.all.values())[i].watch.sums() is not None

    def activities(self, wanted: Sequence[int], stale: bool = False) -> dict[int, Tensor]:
        """Mean |h| of the units of some layers over the update's passes, over all ranks; none where none are read.

        Args:
            wanted: the layers.
            stale: also take passes of an earlier update.

        Raises:
            RuntimeError: where no pass of a layer was seen.
        """
        if not self._reads:
            return {}
        layers = list(self.all.values())
        sums = {i: layers[i].watch.sums(stale) for i in wanted}
        if unseen := ", ".join(repr(layers[i].name) for i, seen in sums.items() if seen is None):
            raise RuntimeError((_NO_PREVIEW if stale else NO_FORWARD).format(name=self._who, layers=unseen))
        totals = distributed.sum_over_ranks([seen for seen in sums.values() if seen is not None])
        return {i: layers[i].activity(*total) for i, total in zip(sums, totals, strict=True)}


_NO_PREVIEW = (
    "{name} has nothing to preview yet: no forward pass of {layers} has been watched; it watches those before an "
    "update that is due"
)
