"""Making hidden units of a stack new on a CPU: compiled loops, member by member, that touch what is renewed only.

They decide and draw what the methods do (tests hold the two against each other), in a part of the time.

Shapes: M members, k that act, H units of a layer, O outputs of the layer that reads them, P positions.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core import draw, random, select
from ..laws import Law, Normal
from ..methods import Choice, ContinualBackprop, Members, Network
from ..wiring import Place
from . import kernels


class Renewed(NamedTuple):
    """Units to renew of a hidden layer of the member at `place`; `keys`: of the draws, by parameter."""

    layer: int
    place: int
    units: np.ndarray
    keys: Mapping[str, int]


class UnitLoops(Network):
    """A network whose units the loops may renew, where its tensors allow it."""

    @functools.cached_property
    def by_loops(self) -> bool:
        """Do the units take up dimension 0 of what makes them and dimension 1 of one layer that reads them?"""
        for units in self.units:
            plain = all(p == Place(p.name, 1) for p in units.incoming) and len(units.outgoing) == 1
            out = units.outgoing[0]
            plain = plain and out == Place(out.name, 2, positions=out.positions)
            if not plain or not all(kernels.supports(self.tensor(p.name)) for p in (*units.incoming, out)):
                return False
        return bool(self.units)

    def twin(self, method: Any) -> Callable[[Any, Any], None] | None:
        if not isinstance(method, ContinualBackprop) or not self.by_loops:
            return None
        return replace_units if method.utility == "contribution" and not method.observes else None

    def renew_units(self, choices: Sequence[Choice], keys: Mapping[str, Sequence[int]]) -> None:
        if not self.by_loops:
            return super().renew_units(choices, keys)
        renewed = []
        for choice in choices:
            for row, (place, mask) in enumerate(zip(choice.places, choice.mask.numpy(), strict=True)):
                if mask.any():
                    own = {name: of[row] for name, of in keys.items()}
                    renewed.append(Renewed(choice.layer, place, np.flatnonzero(mask), own))
        write(self, renewed)


def write(network: Network, renewed: Sequence[Renewed]) -> None:
    """All that flows in, then all that flows out: what a new unit passes on to another new unit is 0 as well."""
    for layer, place, units, keys in renewed:
        for p in network.units[layer].incoming:
            fill(network.tensor(p.name).numpy()[place], units, network.laws[p.name], keys[p.name])
    for layer, place, units, _ in renewed:
        out = network.units[layer].outgoing[0]
        w = network.tensor(out.name).numpy()[place]
        w.reshape(len(w), -1, out.positions, *w.shape[2:])[:, units] = 0


def fill(values: np.ndarray, units: np.ndarray, law: Law, key: int) -> None:
    """Draw rows `units` of one member's tensor (H, ...) from a law, under a key."""
    if not law.std:
        values[units] = law.mean
        return
    rows = values.reshape(len(values), -1)
    if isinstance(law, Normal) and law.mean == 0:
        kernels.draw_rows(rows, units, np.uint64(key % (1 << 64)), np.float32(law.std), *_table())
    else:
        entries = torch.from_numpy(np.add.outer(units * rows.shape[1], np.arange(rows.shape[1])))
        rows[units] = law.draw(random.bits(key, entries)).numpy()


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    starts, rises = draw.normal_table().numpy()
    return starts, rises


def replace_units(method: ContinualBackprop, members: Members) -> None:
    """`ContinualBackprop.act`, one member after the other."""
    del method  # members may differ in their knobs
    network, ages, renewed = members.network, members.memory, []
    for layer in members.layers:
        units = network.units[layer]
        counts = ages.counts(units.name, members.which, members.step)
        due = [row for row, count in enumerate(counts) if count]
        if not due:
            continue
        activity = network.activity(layer, [members.places[row] for row in due])
        assert activity is not None
        born, size = ages.of_layer[units.name].numpy(), network.unit_size(layer)
        outgoing = network.tensor(units.outgoing[0].name).numpy()
        for row, active in zip(due, activity.numpy(), strict=True):
            i, place = members.which[row], members.places[row]
            before = members.step - members.of(row).maturity
            weights = outgoing[place]
            u, chosen = np.empty_like(active), np.empty(counts[row], np.int64)
            n = kernels.lowest_contributions(active, weights.reshape(len(weights), -1), born[i], before, u, chosen)
            chosen = chosen[:n] if n >= 0 else _with_ties(members, row, units.name, u, born[i] < before, counts[row])
            born[i][chosen] = members.step
            zero = chosen.size - int(np.count_nonzero(u[chosen]))
            members.counters.add_here(i, chosen.size, units.n, zero, size)
            if chosen.size:
                keys = {p.name: members.key_of(row, p.name, "value") for p in units.incoming}
                renewed.append(Renewed(layer, place, chosen, keys))
    write(network, renewed)


def _with_ties(members: Members, row: int, name: str, u: np.ndarray, mature: np.ndarray, count: int) -> np.ndarray:
    """Where the least useful units tie with others."""
    utility: Tensor = torch.from_numpy(u)

    def order() -> Tensor:
        return random.order(random.bits(members.key_of(row, name, "order"), torch.arange(len(u))))

    return select.eligible_lowest(utility, torch.from_numpy(mature), count, order=order).numpy().nonzero()[0]
