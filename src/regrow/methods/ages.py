"""The ages of hidden units, and the updates at which continual backpropagation replaces some.

Shapes: K members, k some of them, n units of a layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import check
from ..core.precision import wide_type
from .cbp_schedule import Schedule
from .dates import Dates
from .network import Network
from .rows import taken


class Ages(Dates):
    """When each unit was last renewed, the average of its utility, and a schedule for each layer of each member.

    Layers of one size, rate and maturity replace equally many units at the same updates, whatever they learn: they
    share a schedule.

    Args:
        methods: continual backpropagation with the knobs of each member.
    """

    def __init__(self, methods: Sequence[Any]) -> None:
        super().__init__([])
        self._methods = list(methods)
        self.of_layer: dict[str, Tensor] = {}  # name -> (K, n): update at which each unit was last renewed
        self._average: dict[str, Tensor] = {}
        self._schedules: dict[str, list[Schedule]] = {}  # name -> of each member
        self._next: int | None = None

    def admit(self, network: Network, places: Sequence[int], step: int) -> None:
        """Start every layer that is new, or whose size has changed, at age 0."""
        shared: dict[Any, Schedule] = {}
        for name, n, incoming, _ in network.units:
            w = network.tensor(incoming[0].name)
            device, dtype = w.device, wide_type(w)
            if name in self.of_layer and self.of_layer[name].shape[1] == n:
                continue
            self._schedules[name] = []
            for method in self._methods:
                key = n, method.replacement_rate, method.maturity
                if key not in shared:
                    shared[key] = Schedule(*key)
                    shared[key].begin(step)
                    if not method.off:
                        shared[key].run_ahead()
                self._schedules[name].append(shared[key])
            self.of_layer[name] = torch.full((len(self._methods), n), step, dtype=torch.int64, device=device)
            self._average[name] = torch.zeros(len(self._methods), n, dtype=dtype, device=device)
        self._look_ahead()

    def _all(self) -> Iterator[Schedule]:
        """Every schedule that ever replaces anything, once."""
        of = zip(*self._schedules.values(), strict=True) if self._schedules else ()
        working = [s for m, own in zip(self._methods, of, strict=False) for s in own if not m.off]
        return iter({id(s): s for s in working}.values())

    def _look_ahead(self) -> None:
        self._working = list(self._all())
        self._next = min((s.step for s in self._working), default=None)

    def due(self, step: int) -> list[int]:
        if self._next is not None and step > self._next:  # the due renewal is done, or the horizon has passed
            self.next(step - 1)
        if self._next is None or step < self._next:
            return []
        of = self._schedules.values()
        return [i for i in range(len(self._methods)) if any(_count(own[i], step) for own in of)]

    def next(self, step: int) -> int | None:
        for schedule in self._working:
            while schedule.step <= step:
                schedule.run_ahead()
        self._next = min((s.step for s in self._working), default=None)
        return self._next

    def soonest(self, planned: int | None) -> int | None:
        return self._next

    def watched(self, step: int) -> list[int] | None:
        if any(method.observes for method in self._methods):
            return None
        if self._next is None or step < self._next:
            return []
        return [j for j, own in enumerate(self._schedules.values()) if any(s.step <= step and s.count for s in own)]

    def layers(self, step: int) -> list[int]:
        return [j for j, own in enumerate(self._schedules.values()) if any(_count(s, step) for s in own)]

    def counts(self, name: str, which: Sequence[int], step: int) -> list[int]:
        """How many units of a layer each of these members replaces at an update."""
        own = self._schedules[name]
        return [_count(own[i], step) for i in which]

    def born(self, name: str, which: Sequence[int]) -> Tensor:
        """Updates at which the units of a layer were last renewed, (k, n)."""
        return taken(self.of_layer[name], which)

    def average(self, name: str, which: Sequence[int]) -> Tensor:
        """The running average of the utility of a layer's units, for these members, (k, n)."""
        return taken(self._average[name], which)

    def remember(self, name: str, which: Sequence[int], average: Tensor) -> None:
        """Store the average utility of the units of a layer, (k, n)."""
        self._average[name] = _with(self._average[name], which, average)

    def renew(self, name: str, which: Sequence[int], chosen: Tensor, step: int) -> None:
        """Mark units of a layer as renewed at this update: chosen (k, n)."""
        born = self.born(name, which).to(chosen.device).masked_fill(chosen, step)
        self.of_layer[name] = _with(self.of_layer[name].to(chosen.device), which, born)
        average = self.average(name, which).to(chosen.device).masked_fill(chosen, 0.0)
        self.remember(name, which, average)

    def mature(self, step: int) -> Tensor:
        maturity = torch.tensor([method.maturity for method in self._methods]).unsqueeze(1)
        of = [(step - born > maturity.to(born.device)).sum(1).cpu() for born in self.of_layer.values()]
        return torch.stack(of).sum(0)

    def state(self, i: int) -> dict[str, Any]:
        return {
            name: {"born": born[i].cpu().clone(), "average": self._average[name][i].cpu().clone()}
            | {"schedule": self._schedules[name][i].state_dict()}
            for name, born in self.of_layer.items()
        }

    def load(self, i: int, state: Mapping[str, Any]) -> None:
        read = {name: _read(state, name, born.shape[1]) for name, born in self.of_layer.items()}  # all, or nothing
        shared: dict[Any, Schedule] = {}
        for name, (born, average, stored) in read.items():
            n, device, method = len(born), self.of_layer[name].device, self._methods[i]
            self.of_layer[name][i] = born.to(device)
            self.remember(name, [i], average.unsqueeze(0).to(device))
            key = n, *(tuple(v.flatten().tolist()) if isinstance(v, Tensor) else v for v in stored.values())
            if key not in shared:
                shared[key] = Schedule(n, method.replacement_rate, method.maturity)
                shared[key].load_state_dict(stored)
            self._schedules[name][i] = shared[key]
        self._look_ahead()


def _read(state: Mapping[str, Any], name: str, n: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """The stored state of one layer, checked."""
    layer = check.field(state, name, Mapping)
    born, average = check.field(layer, "born", Tensor), check.field(layer, "average", Tensor)
    if born.shape != (n,) or average.shape != (n,) or born.dtype != torch.int64 or not average.is_floating_point():
        raise ValueError(
            f"state_dict: layer {name!r} has {n} units; got {tuple(born.shape)} and {tuple(average.shape)}"
        )
    schedule = check.field(layer, "schedule", Mapping)
    for key, kind in (("step", int), ("count", int), ("mature", int), ("owed", float)):
        check.field(schedule, key, kind, low=0)
    young = check.field(schedule, "young", Tensor)
    if young.dim() != 2 or young.shape[1] != 2 or young.dtype != torch.int64:
        raise ValueError(
            f"state_dict: `young` of layer {name!r} must be int64 of shape (n, 2); got {tuple(young.shape)}"
        )
    return born, average, dict(schedule)


def _count(schedule: Schedule, step: int) -> int:
    return schedule.count if schedule.step == step else 0


def _with(x: Tensor, which: Sequence[int], values: Tensor) -> Tensor:
    """x with the rows of some members replaced."""
    if len(which) == len(x):
        return values
    return x.index_copy(0, torch.tensor(which, device=x.device), values.to(x.dtype))
