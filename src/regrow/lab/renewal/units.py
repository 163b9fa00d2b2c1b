"""Making hidden units new, for members of a stack.

Shapes: k members of a method, w of them at work, H units of a layer.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ...core import draw, random, renew
from ...laws import Law, Normal
from .. import kernels
from .base import Network, Renewal


class HiddenUnits(NamedTuple):
    """The units of one hidden layer, by names of stacked parameters.

    name: of the layer. incoming: tensors (members, H, ...) of incoming weights, bias, norm. outgoing: of the outgoing
    weights (members, O, H, ...).
    """

    name: str
    incoming: tuple[str, ...]
    outgoing: str


class UnitNetwork(Network, Protocol):
    """What a unit method needs of a stack."""

    @property
    def units(self) -> Sequence[HiddenUnits]: ...

    def activity(self, i: int, read: str, members: Tensor) -> Tensor:
        """Mean |h| of hidden layer i over the batch just shown, (k, H), of some members."""
        ...


class Choice(NamedTuple):
    """Units of hidden layer `layer` to renew: `mask` (w, H) of the members with these numbers, and all utilities."""

    layer: int
    which: Sequence[int]
    mask: Tensor
    utility: Tensor


class Few(NamedTuple):
    """Units to renew of hidden layer `layer` of the member with this number; `zero` of them have utility 0."""

    layer: int
    number: int
    units: np.ndarray
    zero: int

    @classmethod
    def of(cls, layer: int, number: int, units: np.ndarray, utility: np.ndarray) -> "Few":
        """Those units of a layer of these utilities (H)."""
        return cls(layer, number, units, units.size - int(np.count_nonzero(utility[units])))


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    starts, rises = draw.normal_table().numpy()
    return starts, rises


def _fill(values: np.ndarray, units: np.ndarray, law: Law, key: int) -> None:
    """Draw rows `units` of one member's tensor (H, ...) from a law, under a key."""
    rows = values.reshape(len(values), -1)
    if isinstance(law, Normal) and law.mean == 0:
        kernels.draw_rows(rows, units, np.uint64(key % (1 << 64)), np.float32(law.std), *_table())
    else:
        entries = torch.from_numpy(np.add.outer(units * rows.shape[1], np.arange(rows.shape[1])))
        rows[units] = law.draw(random.bits(key, entries)).numpy()


class UnitRenewal(Renewal):
    """Gives chosen units new incoming weights and silences them (outgoing weights 0).

    On a CPU, where looking is free, it goes member by member and touches what is renewed only; elsewhere, and in half
    precision, members go together and a mask says what is renewed. Both draw the same numbers.

    Args:
        members, configs, seeds, device: as for `Renewal`.
        read: activations "before" the norm or "after" it.
    """

    def __init__(
        self,
        members: Sequence[int],
        configs: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        read: str = "before",
    ) -> None:
        super().__init__(members, configs, seeds, device)
        self._read = read
        self._sizes: dict[int, int] = {}
        self._arrays: dict[str, tuple[Tensor, np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}}  # in a copy they would no longer be the tensors'

    def _looks(self, net: UnitNetwork) -> bool:
        """Does it go member by member?"""
        return self._host and kernels.supports(net.parameters[net.units[0].outgoing])

    def _fire(self, step: int, net: UnitNetwork, chosen: Sequence[Choice], which: Sequence[int]) -> Tensor:
        """Renew the units of several layers: all that flows in, then all that flows out.

        In that order what a new unit passes on to another new unit is 0 as well. Returns which of the members with
        these numbers renewed any, bool (len(which)).
        """
        fired = torch.zeros(len(self.members), dtype=torch.bool, device=self._device)
        for choice in chosen:
            self._tally(net, choice)
            index = self._index(choice.which)
            fired.index_copy_(0, index, fired.index_select(0, index) | choice.mask.any(1))
            for name in net.units[choice.layer].incoming:
                self._draw(step, name, net.parameters[name], net.laws[name], choice)
        for choice in chosen:
            self._silence(net.parameters[net.units[choice.layer].outgoing], choice)
        return fired.index_select(0, self._index(which))

    # On a CPU.

    def _fire_few(self, step: int, net: UnitNetwork, chosen: Sequence[Few], which: Sequence[int]) -> Tensor:
        """`_fire`, one member after the other; what holds no units is passed over."""
        chosen = [few for few in chosen if few.units.size]
        for few in chosen:
            self._draw_few(step, net, few)
        for layer, number, units, _ in chosen:
            self._array(net, net.units[layer].outgoing)[self.members[number]][:, units] = 0
        self._tally_few(net, chosen)
        fired = {few.number for few in chosen}
        return torch.tensor([number in fired for number in which], dtype=torch.bool)

    def _draw_few(self, step: int, net: UnitNetwork, few: Few) -> None:
        start = random.key(self._seeds[few.number], self.method, 0, step)
        for name in net.units[few.layer].incoming:
            law, values = net.laws[name], self._array(net, name)[self.members[few.number]]
            if law.std:
                key = random.key(name, "value", start=start)
                assert isinstance(key, int)
                _fill(values, few.units, law, key)
            else:
                values[few.units] = law.mean

    def _array(self, net: UnitNetwork, name: str) -> np.ndarray:
        """A parameter as NumPy sees it; kept, since asking for it takes as long as adding up a hundred numbers."""
        w = net.parameters[name]
        kept = self._arrays.get(name)
        if kept is None or kept[0] is not w:
            kept = self._arrays[name] = w, w.numpy()
        return kept[1]

    def _tally_few(self, net: UnitNetwork, chosen: Sequence[Few]) -> None:
        units, entries, zeros = (self.counts[name].numpy() for name in ("renewed_units", "renewed", "renewed_zero"))
        for few in chosen:
            units[few.number] += few.units.size
            entries[few.number] += few.units.size * self._entries(net, few.layer)
            zeros[few.number] += few.zero

    # Elsewhere.

    def _draw(self, step: int, name: str, w: Tensor, law: Law, choice: Choice) -> None:
        places, chosen = self._places(choice.which), choice.mask.view(*choice.mask.shape, *[1] * (w.dim() - 2))
        part = w.index_select(0, places)
        if law.std:
            keys = self._keys(choice.which, step, name, "value")
            words = random.bits(keys, torch.arange(w[0].numel(), device=w.device))
            part = renew.replace(part, chosen, law.draw(words).view_as(part).to(w.dtype))
        else:
            part = part.masked_fill(chosen, law.mean)
        w.index_copy_(0, places, part)

    def _silence(self, w: Tensor, choice: Choice) -> None:
        places, chosen = self._places(choice.which), choice.mask.view(len(choice.mask), 1, -1, *[1] * (w.dim() - 3))
        w.index_copy_(0, places, w.index_select(0, places).masked_fill(chosen, 0.0))

    def _tally(self, net: UnitNetwork, choice: Choice) -> None:
        index, count = self._index(choice.which), choice.mask.sum(1)
        self.counts["renewed_units"].index_add_(0, index, count)
        self.counts["renewed"].index_add_(0, index, count * self._entries(net, choice.layer))
        self.counts["renewed_zero"].index_add_(0, index, (choice.mask & (choice.utility == 0)).sum(1))

    def _entries(self, net: UnitNetwork, i: int) -> int:
        """Entries that belong to one unit of hidden layer i."""
        if i not in self._sizes:
            units, out = net.units[i], net.parameters[net.units[i].outgoing]
            into = sum(net.parameters[name][0, 0].numel() for name in units.incoming)
            self._sizes[i] = into + out[0, :, 0].numel()
        return self._sizes[i]
