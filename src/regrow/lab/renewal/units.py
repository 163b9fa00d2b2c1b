"""Making hidden units new, for members of a stack.

Shapes: k members of a method, w of them at work, H units of a layer.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ...core import random, renew
from ...core._eager import looking_is_free
from ...laws import Law
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
    """Units of one layer to renew: `mask` (w, H) of the members with these numbers; `places` (w) in the stack."""

    which: Sequence[int]
    places: Tensor
    mask: Tensor


class UnitRenewal(Renewal):
    """Gives chosen units new incoming weights and silences them (outgoing weights 0)."""

    def _fire(self, step: int, net: UnitNetwork, chosen: Mapping[int, Choice]) -> None:
        """Renew the units of several layers, by number of the layer: all that flows in, then all that flows out.

        In that order what a new unit passes on to another new unit is 0 as well.
        """
        for i, choice in chosen.items():
            for name in net.units[i].incoming:
                self._draw(step, name, net.parameters[name], net.laws[name], choice)
        for i, choice in chosen.items():
            self._silence(net.parameters[net.units[i].outgoing], choice)

    def _draw(self, step: int, name: str, w: Tensor, law: Law, choice: Choice) -> None:
        """Rows of one tensor (members, H, ...) from its law. On a CPU only those chosen are touched."""
        which, places, mask = choice
        keys = self._keys(which, step, name, "value") if law.std else None
        if looking_is_free(mask):
            row, unit = mask.nonzero(as_tuple=True)
            if keys is None:
                w[places[row], unit] = law.mean
            elif len(row):
                size = w[0, 0].numel()
                words = random.bits(keys[row], unit.unsqueeze(1) * size + torch.arange(size))
                w[places[row], unit] = law.draw(words).view(-1, *w.shape[2:]).to(w.dtype)
            return
        part = w.index_select(0, places)
        chosen = mask.view(*mask.shape, *[1] * (w.dim() - 2))
        if keys is None:
            part = part.masked_fill(chosen, law.mean)
        else:
            words = random.bits(keys, torch.arange(w[0].numel(), device=w.device))
            part = renew.replace(part, chosen, law.draw(words).view_as(part).to(w.dtype))
        w.index_copy_(0, places, part)

    @staticmethod
    def _silence(w: Tensor, choice: Choice) -> None:
        """Columns of outgoing weights (members, O, H, ...) to 0."""
        _, places, mask = choice
        if looking_is_free(mask):
            row, unit = mask.nonzero(as_tuple=True)
            w[places[row], :, unit] = 0
        else:
            chosen = mask.view(len(mask), 1, -1, *[1] * (w.dim() - 3))
            w.index_copy_(0, places, w.index_select(0, places).masked_fill(chosen, 0.0))

    def _tally(self, net: UnitNetwork, i: int, index: Tensor, mask: Tensor, u: Tensor) -> None:
        """Count the chosen units of hidden layer i."""
        into, out = net.units[i].incoming, net.parameters[net.units[i].outgoing]
        entries = sum(net.parameters[name][0, 0].numel() for name in into) + out[0, :, 0].numel()
        units = mask.sum(1)
        self.counts["renewed_units"].index_add_(0, index, units)
        self.counts["renewed"].index_add_(0, index, units * entries)
        self.counts["renewed_zero"].index_add_(0, index, (mask & (u == 0)).sum(1))
