"""Continual backpropagation of members of a stack.

Shapes: k members, w of them due, H units of a layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import random, select, utility
from ...maintain.schedule import Schedule
from .units import Choice, UnitNetwork, UnitRenewal


class StackedCBP(UnitRenewal):
    """`regrow.ContinualBackprop` (utility contribution, present batch) for members of a stack.

    Members of one rate and maturity replace equally many units at the same updates, whatever they learn, so one
    schedule for each such pair and layer width runs ahead on the host.

    Args:
        members, configs, seeds, device: as for `Renewal`.
        widths: units of each hidden layer.
        read: activations "before" the norm or "after" it.
    """

    method = "cbp"

    def __init__(
        self,
        members: Sequence[int],
        configs: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        widths: Sequence[int],
        read: str = "before",
    ) -> None:
        super().__init__(members, configs, seeds, device)
        self._read = read
        self._maturity = self._column("maturity", range(len(self.members))).long().unsqueeze(1)
        self._born = [torch.zeros(len(self.members), n, dtype=torch.int64, device=device) for n in widths]
        knobs = [(float(c["replacement_rate"]), int(c["maturity"])) for c in configs]
        self._schedules = {(n, *pair): Schedule(n, *pair) for n in sorted(set(widths)) for pair in sorted(set(knobs))}
        self._of = [[(n, *pair) for n in widths] for pair in knobs]  # member -> layer -> schedule
        for schedule in self._schedules.values():
            schedule.run_ahead()
        self._next = self._first_due()

    def _first_due(self) -> int:
        return min(schedule.step for schedule in self._schedules.values())

    def due(self, step: int) -> list[int]:
        if step < self._next:
            return []
        return [i for i, keys in enumerate(self._of) if any(self._count(key, step) for key in keys)]

    def _count(self, key: tuple[int, float, int], step: int) -> int:
        schedule = self._schedules[key]
        return schedule.count if schedule.step == step else 0

    def settle(self, step: int) -> None:
        """Look ahead to the next replacements, once those of this update are made."""
        if step < self._next:
            return
        for schedule in self._schedules.values():
            if schedule.step <= step:
                schedule.run_ahead()
        self._next = self._first_due()

    def renew(self, step: int, net: UnitNetwork, which: list[int], layers: Sequence[int]) -> Tensor:
        """Replace the units of these hidden layers that are due; returns which members replaced any, (len(which))."""
        before = self.counts["renewed_units"].clone()
        chosen = {}
        for i in layers:
            counts = {number: self._count(self._of[number][i], step) for number in which}
            numbers = [number for number, count in counts.items() if count]
            if numbers:
                wanted = torch.tensor([counts[number] for number in numbers], device=self._device)
                chosen[i] = self._choose(step, net, i, numbers, wanted)
        self._fire(step, net, chosen)
        return (self.counts["renewed_units"] > before)[self._index(which)]

    def _choose(self, step: int, net: UnitNetwork, i: int, which: list[int], counts: Tensor) -> Choice:
        units, places, index = net.units[i], self._places(which), self._index(which)
        outgoing = net.parameters[units.outgoing].index_select(0, places).transpose(1, 2).flatten(2)
        u = utility.contribution(net.activity(i, self._read, places), 1, outgoing)
        born = self._born[i].index_select(0, index)
        mature = step - born > self._maturity.index_select(0, index)

        def order() -> Tensor:
            keys = self._keys(which, step, units.name, "order")
            return random.order(random.bits(keys, torch.arange(u.shape[1], device=u.device)))

        mask = select.eligible_lowest(u, mature, counts, 1, order=order)
        self._born[i].index_copy_(0, index, born.masked_fill(mask, step))
        self._tally(net, i, index, mask, u)
        return Choice(which, places, mask)

    def mature(self, step: int) -> Tensor:
        return torch.stack([(step - born > self._maturity).sum(1) for born in self._born]).sum(0)

    def state_dict(self) -> dict[str, Any]:
        schedules = [schedule.state_dict() for schedule in self._schedules.values()]
        return {"born": [born.cpu().clone() for born in self._born], "schedules": schedules}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._born = [born.to(self._device, copy=True) for born in state["born"]]
        for schedule, stored in zip(self._schedules.values(), state["schedules"], strict=True):
            schedule.load_state_dict(stored)
        self._next = self._first_due()
