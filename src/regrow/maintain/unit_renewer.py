"""What the methods that renew units share: which units, how useful each is, and how one is made new."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .. import check
from ..core import random, renew, utility
from ..core.eager import looking_is_free
from ..names import Entry
from ..wiring import Place, Units, find_units, locate
from . import distributed
from .activation_sums import Watch
from .renewer import Renewer

UTILITIES = ("contribution", "activation", "gradient", "magnitude")


class Layer:
    """The units of one layer in a running model.

    Args:
        model: the model.
        units: which of its entries they are.
        homes: the model's entries by each of their names.
    """

    def __init__(self, model: nn.Module, units: Units, homes: Mapping[str, Entry]) -> None:
        self.units = units
        self.n = units.count(model)
        self.name = units.layer
        self.homes = {place.name: homes[place.name] for place in units.places if place.name in homes}
        self.buffers = self._statistics(model)
        self.watch = Watch(units.reading(model), self.homes[units.weight_in[0].name])

    def _statistics(self, model: nn.Module) -> dict[Place, tuple[nn.Module, str]]:
        """Running means and variances of the norms, named as units or not: {where the units lie: (module, buffer)}."""
        found: dict[Place, tuple[nn.Module, str]] = {}
        for place in self.units.norm:
            module, attribute = locate(model, place.name)
            if place.name not in self.homes:
                found[place] = module, attribute
            elif getattr(module, "running_mean", None) is not None:
                prefix = place.name.removesuffix(attribute)
                for buffer in ("running_mean", "running_var"):
                    found[place._replace(name=prefix + buffer)] = module, buffer
        return found

    def weight(self, place: Place) -> nn.Parameter:
        return self.homes[place.name].parameter

    def outgoing(self) -> Tensor:
        """(units, fan_out)"""
        return self.units.outgoing([self.weight(place) for place in self.units.weight_out], self.n)

    def outgoing_gradient(self) -> Tensor | None:
        """(units, fan_out), or None where there is none."""
        grads = [self.weight(place).grad for place in self.units.weight_out]
        return (
            None if any(g is None for g in grads) else self.units.outgoing([g for g in grads if g is not None], self.n)
        )

    def usable(self, ids: set[int] | None) -> bool:
        """Can its units be renewed: are the weights trainable, and, where `ids` is given, among them?"""
        weights = [self.weight(place) for place in (*self.units.weight_in, *self.units.weight_out)]
        return all(w.requires_grad and (ids is None or id(w) in ids) for w in weights)


class UnitRenewer(Renewer):
    """A maintainer that gives hidden units new incoming weights and silences them (outgoing weights 0)."""

    def __init__(self, model: nn.Module, *, units: Sequence[Units] | None, utility: str, **common: Any) -> None:
        self._utility = check.choice("utility", utility, UTILITIES)
        units = [units] if isinstance(units, Units) else units
        if units is not None and not (units and all(isinstance(u, Units) for u in units)):
            raise TypeError(f"`units` must be a list of regrow.Units, or None to have them found; got {units!r}")
        self._model, self._given_units = model, units
        self._layers: dict[str, Layer] = {}
        self._watching = False
        super().__init__(model, **common)

    def _admit(self, entries: list[Entry]) -> None:
        """Find the layers, and the laws of what flows into their units."""
        found = find_units(self._model) if self._given_units is None else self._given_units
        for units in self._given_units or ():
            units.count(self._model)  # refuses what is not there
        covered = {home.name for entry in entries for home in (entry, *entry.aliases)}
        skipped = {name for name in self._cover.skipped() if name not in covered}
        found = [
            units
            for units in found
            if all(place.name in covered for place in units.weight_in)
            and not any(place.name in skipped for place in units.places)
        ]
        if not found:
            raise ValueError(
                "`only` and `skip` leave no layer of units: `only` names the layers' incoming weights, and a layer is "
                "left out with any of its tensors that `skip` names"
            )
        homes = {home.name: entry for entry in self._cover.all for home in (entry, *entry.aliases)}
        layers = [self._layer(units, homes) for units in found]
        for layer in self._layers.values():
            if layer not in layers:
                layer.watch.remove()
        self._layers = {layer.name: layer for layer in layers}
        drawn = {p.name for layer in layers for p in (*layer.units.weight_in, *layer.units.bias, *layer.units.norm)}
        super()._admit([e for e in self._cover.all if e.name in {homes[n].name for n in drawn if n in homes}])
        self._start(layers)

    def _layer(self, units: Units, homes: Mapping[str, Entry]) -> Layer:
        """The layer of these units: the one there is, with what it has watched, if its modules are the same."""
        old = self._layers.get(units.layer)
        if old is not None and old.units == units and all(homes[n].module is h.module for n, h in old.homes.items()):
            return old
        layer = Layer(self._model, units, homes)
        weakref.finalize(self, layer.watch.remove)  # the model's hooks go with their maintainer
        return layer

    def _start(self, layers: list[Layer]) -> None:  # noqa: B027
        """Called with the layers found, before any of them is watched."""

    # Watching.

    def _watch(self, layers: list[Layer]) -> None:
        """From here to the next update, sum activations of these layers only."""
        if not layers and not self._watching:
            return
        self._watching = bool(layers)
        for layer in self._layers.values():
            layer.watch.want(layer in layers and self._reads_activations)

    # How useful is each unit?

    def _ready(self) -> list[Layer]:
        """The layers whose units can be renewed now."""
        if self._cover.refresh():
            self._admit(self._cover.entries)
        held = self._held()
        return [layer for layer in self._layers.values() if layer.usable(held)]

    def _ready_and_watched(self) -> list[Layer]:
        """Those of them that somebody watched: not so a module that was put in place since the last update."""
        return [layer for layer in self._ready() if layer.watch.wanted or not self._reads_activations]

    def _lacking(self, held: set[int]) -> tuple[list[str], bool]:
        lacking = [layer.name for layer in self._layers.values() if not layer.usable(held)]
        return lacking, len(lacking) == len(self._layers)

    def _maintained(self) -> list[Entry]:
        names = {
            e.name: e for layer in self._layers.values() for e in layer.homes.values() if e.parameter.requires_grad
        }
        return list(names.values())

    @property
    def _reads_activations(self) -> bool:
        return self._utility in ("activation", "contribution")

    def _utilities(self, layers: list[Layer], stale: bool = False) -> list[Tensor | None]:
        """The utility of each layer's units on the passes just watched; None where its gradient is missing.

        With `stale`, passes of an update that is over will do.
        """
        sums = self._activations(layers, stale) if self._reads_activations else None
        result: list[Tensor | None] = []
        for i, layer in enumerate(layers):
            if self._utility == "magnitude":
                result.append(utility.unit_magnitude(layer.outgoing()))
            elif self._utility == "gradient":
                gradient = layer.outgoing_gradient()
                result.append(None if gradient is None else utility.unit_gradient(layer.outgoing(), gradient))
            else:
                assert sums is not None
                total, count = sums[i]
                if self._utility == "activation":
                    result.append(utility.activation(total, count))
                else:
                    result.append(utility.contribution(total, count, layer.outgoing()))
        return result

    def _activations(self, layers: list[Layer], stale: bool = False) -> list[tuple[Tensor, Tensor]]:
        """(sum |h| per unit, number of summands) of each layer, over all ranks."""
        sums = [layer.watch.sums(stale) for layer in layers]
        unseen = ", ".join(repr(layer.name) for layer, seen in zip(layers, sums, strict=True) if seen is None)
        if unseen:
            raise RuntimeError((_NO_PREVIEW if stale else _NO_FORWARD).format(name=type(self).__name__, layers=unseen))
        return distributed.sum_over_ranks([seen for seen in sums if seen is not None])

    # Making units new.

    def _renew_units(self, choices: list[tuple[Layer, Tensor]], step: int) -> None:
        """Incoming weights, biases and norms from their laws, statistics 0 and 1; then outgoing weights 0.

        In that order over all layers: what a new unit passes on to another new unit is 0 as well.
        """
        choices = [(layer, chosen) for layer, chosen in choices if not looking_is_free(chosen) or bool(chosen.any())]
        for layer, chosen in choices:
            for place in (*layer.units.weight_in, *layer.units.bias, *layer.units.norm):
                if place.name in layer.homes:
                    self._draw_slices(layer.homes[place.name], place, chosen, step)
            for place, (module, attribute) in layer.buffers.items():
                buffer = getattr(module, attribute)
                value = 1.0 if attribute == "running_var" else 0.0
                renew.fill_slices_(buffer, place.dim, place.along(buffer, chosen), value)
        for layer, chosen in choices:
            for place in layer.units.weight_out:
                w = layer.weight(place)
                renew.fill_slices_(w, place.dim, place.along(w, chosen), 0.0)
        if self._clears_moments:
            homes = {entry.name: entry for layer, _ in choices for entry in layer.homes.values()}
            for name, mask in self._masks_of_all(choices).items():
                self._forget(homes[name], mask)

    def _draw_slices(self, entry: Entry, place: Place, chosen: Tensor, step: int) -> None:
        w, law, key = entry.parameter, self._law(entry), self._key(step, entry.name, "value")
        along = place.along(w, chosen)
        if law.std == 0:
            renew.fill_slices_(w, place.dim, along, law.mean)
        else:
            renew.resample_slices_(w, place.dim, along, lambda index: law.draw(random.bits(key, index)))

    @staticmethod
    def _masks_of_all(choices: list[tuple[Layer, Tensor]]) -> dict[str, Tensor]:
        """What renewing these units of these layers changes, by parameter."""
        masks: dict[str, Tensor] = {}
        for layer, chosen in choices:
            for place in layer.units.places:
                if place.name in layer.homes:
                    name, mask = layer.homes[place.name].name, place.mask(layer.weight(place), chosen)
                    masks[name] = masks[name] | mask if name in masks else mask.clone()
        return masks


_NO_FORWARD = (
    "{name} is due and has seen no forward pass of {layers} since the last update: run the model in training mode with "
    "gradients enabled before optimizer.step() (a model compiled before {name} was made must be compiled again)"
)
_NO_PREVIEW = (
    "{name} has nothing to preview yet: no forward pass of {layers} has been watched; it watches those before an "
    "update that is due"
)
