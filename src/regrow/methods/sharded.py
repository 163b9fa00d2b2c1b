"""A module whose parameters lie in shards over ranks (FSDP2) as a network of one member.

Tensors are the parts that lie here, in place; nothing is gathered but vectors over units. What methods sum over entries
is added up over ranks, for all parameters in one message. Parameters that are plain tensors are handled as usual.

Shapes: n units of a layer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import shards
from ..core import select_parts
from ..core.precision import wide_type
from ..laws import Law
from ..names import Entry
from ..wiring import Place
from .counters import Counters
from .module_network import ModuleNetwork
from .network import Lookup
from .selection import Selected, Wanted, select_here

Sums = Callable[[Entry, Tensor], dict[Any, Tensor]]
"""What must be summed of an optimizer's memory, over the entries of a parameter that stay: {what: its sums here}."""


class ShardedNetwork(ModuleNetwork):
    """A module as a network of one member, some of its parameters in shards.

    Args:
        entries, laws: as for `ModuleNetwork`.
        sums: of an optimizer's memory; `forget` is then given their totals over all ranks.
        rest: as for `ModuleNetwork`.
    """

    def __init__(
        self, entries: Mapping[str, Entry], laws: Mapping[str, Law], *, sums: Sums | None = None, **rest: Any
    ) -> None:
        super().__init__(entries, laws, **rest)
        found = {name: shards.shard_of(entry.parameter) for name, entry in entries.items()}
        self._shards = {name: shard for name, shard in found.items() if shard is not None}
        self._sums = sums
        self._counts: list[tuple[Sequence[int], str, Tensor]] = []
        self._forgotten: list[tuple[Entry, Tensor]] = []
        self._per_unit: dict[bool, list[Tensor | None]] = {}

    # What lies on other ranks.

    def index(self, name: str) -> Callable[[Tensor], Tensor] | None:
        shard = self._shards.get(name)
        return None if shard is None else shard.numbers

    def part(self, name: str, whole: Tensor) -> Tensor:
        shard = self._shards.get(name)
        return whole if shard is None else shard.part(whole, shard.dim - len(shard.shape))

    def totals(self, parts: Sequence[tuple[str, Tensor]]) -> list[Tensor]:
        sharded = [i for i, (name, _) in enumerate(parts) if name in self._shards]
        sums = shards.sums([(self._shards[parts[i][0]].mesh, parts[i][1]) for i in sharded])
        everywhere = dict(zip(sharded, sums, strict=True))
        return [everywhere.get(i, part) for i, (_, part) in enumerate(parts)]

    def lookup(self, name: str) -> Lookup | None:
        lookup, shard = super().lookup(name), self._shards.get(name)
        if lookup is None or lookup.padding is None or shard is None or shard.dim:
            return lookup
        here = lookup.padding - shard.start
        return Lookup(here if 0 <= here < shard.size else None)

    def present(self, name: str, gradient: Tensor) -> Tensor:
        here = super().present(name, gradient)
        if name not in self._shards or self._shards[name].dim == 0:
            return here
        return self.totals([(name, here)])[0] > 0  # the rest of these slices lies elsewhere

    # Selection.

    def select(self, wanted: Iterable[Wanted]) -> Iterable[Selected]:
        every = list(wanted)
        sharded = [one for one in every if one.name in self._shards]
        chosen = {one.name: select_here(one) for one in every if one.name not in self._shards}
        for prune, decide in (("threshold", select_parts.thresholds), ("proportional", select_parts.proportionals)):
            of = self._among([one for one in sharded if one.prune == prune])
            names = [one.name for one in of]
            total = lambda sums, names=names: self.totals(list(zip(names, sums, strict=True)))  # noqa: E731
            for one, (mask, spoilt) in zip(of, decide([self._part_of(one) for one in of], total), strict=True):
                mask = mask if one.candidates is None else mask & one.candidates
                chosen[one.name] = Selected(one.name, one.utility, mask, spoilt.reshape(1))
        return [chosen[one.name] for one in every]

    def _among(self, wanted: list[Wanted]) -> list[Wanted]:
        """`Wanted.among`, where the candidates lie on several ranks."""
        of = {one.name: one.candidates.expand_as(one.utility).sum() for one in wanted if one.candidates is not None}
        present = dict(zip(of, self.totals(list(of.items())), strict=True)) if of else {}
        return [
            one.among((present[one.name] / self.shape(one.name).numel()).float()) if one.name in present else one
            for one in wanted
        ]

    def _part_of(self, one: Wanted) -> select_parts.TensorPart:
        here = torch.arange(one.utility.numel(), device=one.utility.device)
        shard = self._shards[one.name]
        return select_parts.TensorPart(
            one.utility, shard.shape.numel(), one.factor, one.uniform, one.order, lambda: shard.numbers(here)
        )

    # What is put off, so that all of it takes one message.

    def count(self, counters: Counters, which: Sequence[int], name: str, mask: Tensor, *zero_and_nan: Any) -> None:
        if name not in self._shards:
            return super().count(counters, which, name, mask, *zero_and_nan)
        self._counts.append((which, name, counters.row(which, name, mask, *zero_and_nan)))  # of what lies here

    def forget(self, name: str, places: Sequence[int], mask: Tensor) -> None:
        if self._forget is None or name not in self._shards:
            return super().forget(name, places, mask)
        self._forgotten.append((self._entries[name], mask[0]))

    def finish(self, counters: Counters) -> None:
        counts, forgotten, self._counts, self._forgotten = self._counts, self._forgotten, [], []
        sums = [{} if self._sums is None else self._sums(entry, mask) for entry, mask in forgotten]
        parts = [(name, row) for _, name, row in counts]
        parts += [(entry.name, x) for (entry, _), of in zip(forgotten, sums, strict=True) for x in of.values()]
        totals = iter(self.totals(parts))
        for which, _, _ in counts:
            counters.add_row(which, next(totals).long())
        for (entry, mask), of in zip(forgotten, sums, strict=True):
            assert self._forget is not None
            self._forget(entry, mask, {key: next(totals) for key in of})

    # Units.

    def along(self, place: Place, chosen: Tensor) -> Tensor:
        shard = self._shards.get(place.name)
        if shard is None:
            return super().along(place, chosen)
        along = place._replace(dim=place.dim - 1).along(self._entries[place.name].parameter, chosen)
        return shard.part(along, -1) if shard.dim == place.dim - 1 else along

    def unit_magnitude(self, layer: int, places: Sequence[int]) -> Tensor:
        total = self._of_units(gradients=False)[layer]
        assert total is not None
        shapes = [(self.shape(p.name), p) for p in self.units[layer].outgoing]
        each = sum(shape.numel() // shape[p.dim - 1] * p.positions for shape, p in shapes)
        return (total / each).to(self._type(layer)).unsqueeze(0)

    def unit_gradient(self, layer: int, places: Sequence[int]) -> Tensor | None:
        total = self._of_units(gradients=True)[layer]
        return None if total is None else total.abs().to(self._type(layer)).unsqueeze(0)

    def _type(self, layer: int) -> torch.dtype:
        return wide_type(self.tensor(self.units[layer].outgoing[0].name))

    def _of_units(self, gradients: bool) -> list[Tensor | None]:
        """Sums of |w_out|, or of w_out g_out, of each unit, (n) for each layer, by one message for all layers."""
        if gradients not in self._per_unit:
            places = [(i, place) for i, units in enumerate(self.units) for place in units.outgoing]
            here = [(i, place, self._along_sum(place, gradients)) for i, place in places]
            without = {i for i, _, sums in here if sums is None}
            here = [(i, place, sums) for i, place, sums in here if sums is not None]
            found: list[Tensor | None] = [None] * len(self.units)
            for (i, place, _), total in zip(here, self.totals([(p.name, s) for _, p, s in here]), strict=True):
                of = place._replace(dim=0).per_unit(total, self.units[i].n).sum(1)
                before = found[i]
                found[i] = of if before is None else before + of
            self._per_unit[gradients] = [None if i in without else total for i, total in enumerate(found)]
        return self._per_unit[gradients]

    def _along_sum(self, place: Place, gradients: bool) -> Tensor | None:
        """These sums of the entries here, along one place's whole dimension; None without gradient."""
        g = self.gradient(place.name) if gradients else None
        if gradients and g is None:
            return None
        w, dim, shard = self.tensor(place.name)[0].double(), place.dim - 1, self._shards.get(place.name)
        values = w.abs() if g is None else w * g[0].double()
        here = values.sum([d for d in range(values.dim()) if d != dim]) if values.dim() > 1 else values
        if shard is None or shard.dim != dim:
            return here
        whole = here.new_zeros(shard.shape[dim])
        shard.part(whole, 0).copy_(here)
        return whole

    def whole(self, name: str, part: Tensor) -> Tensor:
        return shards.whole(self._entries[name].parameter, part)


def network_of(entries: Mapping[str, Entry], laws: Mapping[str, Law], **rest: Any) -> ModuleNetwork:
    """A module as a network of one member, in shards or not; arguments as for `ModuleNetwork` and `ShardedNetwork`."""
    if any(shards.is_sharded(entry.parameter) for entry in entries.values()):
        return ShardedNetwork(entries, laws, **rest)
    rest.pop("sums", None)
    return ModuleNetwork(entries, laws, **rest)
