"""Making hidden units new, for members of a stack.

Shapes: k members of a method, w of them at work, H units of a layer.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ...core import random, renew
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
    """Units of hidden layer `layer` to renew: `mask` (w, H) of the members with these numbers."""

    layer: int
    which: Sequence[int]
    mask: Tensor


class UnitRenewal(Renewal):
    """Gives chosen units new incoming weights and silences them (outgoing weights 0).

    On a CPU, where looking is free, it goes member by member and touches what is renewed only; elsewhere members go
    together and a mask says what is renewed. Both give the same numbers.
    """

    def _fire(self, step: int, net: UnitNetwork, chosen: Sequence[Choice]) -> None:
        """Renew the units of several layers: all that flows in, then all that flows out.

        In that order what a new unit passes on to another new unit is 0 as well.
        """
        draw, silence = (self._draw_rows, self._silence_columns) if self._host else (self._draw, self._silence)
        for choice in chosen:
            for name in net.units[choice.layer].incoming:
                draw(step, name, net.parameters[name], net.laws[name], choice)
        for choice in chosen:
            silence(net.parameters[net.units[choice.layer].outgoing], choice)

    # On a CPU.

    def _draw_rows(self, step: int, name: str, w: Tensor, law: Law, choice: Choice) -> None:
        """Rows of one tensor (members, H, ...) from its law."""
        values, size = w.numpy(), w[0, 0].numel()
        for number, mask in zip(choice.which, choice.mask.numpy(), strict=True):
            units, place = np.flatnonzero(mask), self.members[number]
            if not law.std:
                values[place, units] = law.mean
            elif units.size:
                key = random.key(self._seeds[number], self.method, 0, step, name, "value")
                index = torch.from_numpy((units[:, None] * size + np.arange(size)).ravel())
                values[place, units] = law.draw(random.bits(key, index)).numpy().reshape(-1, *w.shape[2:])

    def _silence_columns(self, w: Tensor, choice: Choice) -> None:
        """Columns of outgoing weights (members, O, H, ...) to 0."""
        values = w.numpy()
        for number, mask in zip(choice.which, choice.mask.numpy(), strict=True):
            values[self.members[number], :, np.flatnonzero(mask)] = 0

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

    def _tally(self, net: UnitNetwork, choice: Choice, u: Tensor) -> None:
        """Count the chosen units, whose utilities are among u (w, H)."""
        units, mask = net.units[choice.layer], choice.mask
        out = net.parameters[units.outgoing]
        entries = sum(net.parameters[name][0, 0].numel() for name in units.incoming) + out[0, :, 0].numel()
        count, zero = mask.sum(1), (mask & (u == 0)).sum(1)
        self._add("renewed_units", choice.which, count)
        self._add("renewed", choice.which, count * entries)
        self._add("renewed_zero", choice.which, zero)
