"""Continual backpropagation of members of a stack.

Shapes: k members, w of them due, H units of a layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core import random, select, utility
from ...maintain.cbp_schedule import Schedule
from .. import kernels
from .units import Choice, Few, UnitNetwork, UnitRenewal


class StackedCBP(UnitRenewal):
    """`regrow.ContinualBackprop` (utility contribution, present batch) for members of a stack.

    Members of one rate and maturity replace equally many units at the same updates, whatever they learn, so one
    schedule for each such pair and layer width runs ahead on the host.

    Args:
        members, configs, seeds, device, read: as for `UnitRenewal`.
        widths: units of each hidden layer.
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
        super().__init__(members, configs, seeds, device, read=read)
        self._born = [torch.zeros(len(self.members), n, dtype=torch.int64, device=device) for n in widths]
        knobs = [(float(c["replacement_rate"]), int(c["maturity"])) for c in configs]
        self._schedules = {(n, *pair): Schedule(n, *pair) for n in sorted(set(widths)) for pair in sorted(set(knobs))}
        self._of = [[(n, *pair) for n in widths] for pair in knobs]  # member -> layer -> schedule
        for schedule in self._schedules.values():
            schedule.run_ahead()
        self._next = self._first_step()

    def due(self, step: int) -> list[int]:
        if step > self._next:  # what was due is done, or a horizon was reached where nothing was
            for schedule in self._schedules.values():
                if schedule.step < step:
                    schedule.run_ahead()
            self._next = self._first_step()
        if step < self._next:
            return []
        return [i for i, keys in enumerate(self._of) if any(self._count(key, step) for key in keys)]

    def _first_step(self) -> int:
        return min(schedule.step for schedule in self._schedules.values())

    def _count(self, key: tuple[int, float, int], step: int) -> int:
        schedule = self._schedules[key]
        return schedule.count if schedule.step == step else 0

    def renew(
        self,
        step: int,
        net: UnitNetwork,
        gradients: Mapping[str, Tensor] | None,
        which: list[int],
        layers: Sequence[int] | None = None,
    ) -> Tensor:
        """Replace the units that are due, of these hidden layers only; which members replaced any, (len(which))."""
        del gradients
        due = {
            i: {number: count for number in which if (count := self._count(self._of[number][i], step))}
            for i in (range(len(net.units)) if layers is None else layers)
        }
        if self._looks(net):
            few = [each for i, counts in due.items() if counts for each in self._choose_few(step, net, i, counts)]
            return self._fire_few(step, net, few, which)
        chosen = [self._choose(step, net, i, counts) for i, counts in due.items() if counts]
        return self._fire(step, net, chosen, which)

    def _choose(self, step: int, net: UnitNetwork, i: int, counts: Mapping[int, int]) -> Choice:
        """Members together, without looking at a value."""
        units, numbers = net.units[i], list(counts)
        places = self._places(numbers)
        outgoing = net.parameters[units.outgoing].index_select(0, places).transpose(1, 2).flatten(2)
        u = utility.contribution(net.activity(i, self._read, places), 1, outgoing)
        return Choice(i, numbers, self._lowest_of_all(step, i, units.name, u, counts), u)

    def _choose_few(self, step: int, net: UnitNetwork, i: int, counts: Mapping[int, int]) -> Iterator[Few]:
        """The same, member by member."""
        units = net.units[i]
        activities = net.activity(i, self._read, self._places(list(counts))).numpy()
        outgoing, born = self._array(net, units.outgoing), self._born[i].numpy()
        for active, (number, count) in zip(activities, counts.items(), strict=True):
            before = step - self.configs[number]["maturity"]
            weights = outgoing[self.members[number]]
            u, chosen = np.empty_like(active), np.empty(count, np.int64)
            n = kernels.lowest_contributions(active, weights.reshape(len(weights), -1), born[number], before, u, chosen)
            if n < 0:
                chosen = self._lowest_with_ties(step, units.name, number, u, born[number] < before, count)
            else:
                chosen = chosen[:n]
            born[number][chosen] = step
            yield Few.of(i, number, chosen, u)

    def _lowest_with_ties(
        self, step: int, name: str, number: int, u: np.ndarray, mature: np.ndarray, count: int
    ) -> np.ndarray:
        tensors = torch.from_numpy(u), torch.from_numpy(mature)
        return (
            select.eligible_lowest(*tensors, count, order=lambda: self._order([number], step, name, tensors[0])[0])
            .numpy()
            .nonzero()[0]
        )

    def _lowest_of_all(self, step: int, i: int, name: str, u: Tensor, counts: Mapping[int, int]) -> Tensor:
        numbers, wanted = list(counts), torch.tensor(list(counts.values()), device=self._device)
        index = self._index(numbers)
        born = self._born[i].index_select(0, index)
        mature = step - born > self._column("maturity", numbers).unsqueeze(1)
        mask = select.eligible_lowest(u, mature, wanted, 1, order=lambda: self._order(numbers, step, name, u))
        self._born[i].index_copy_(0, index, born.masked_fill(mask, step))
        return mask

    def _order(self, numbers: Sequence[int], step: int, name: str, u: Tensor) -> Tensor:
        keys = self._keys(numbers, step, name, "order")
        return random.order(random.bits(keys, torch.arange(u.shape[-1], device=u.device)))

    def mature(self, step: int) -> Tensor:
        maturity = self._column("maturity", range(len(self.members))).unsqueeze(1)
        return torch.stack([(step - born > maturity).sum(1) for born in self._born]).sum(0)

    def state_dict(self) -> dict[str, Any]:
        schedules = [schedule.state_dict() for schedule in self._schedules.values()]
        return {"born": [born.cpu().clone() for born in self._born], "schedules": schedules}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._born = [born.to(self._device, copy=True) for born in state["born"]]
        for schedule, stored in zip(self._schedules.values(), state["schedules"], strict=True):
            schedule.load_state_dict(stored)
        self._next = self._first_step()
