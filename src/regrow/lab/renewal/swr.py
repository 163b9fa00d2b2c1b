"""Selective weight reinitialization of members of a stack.

Shapes: w members renewed at once, n entries of one member's tensor.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import random, select, utility
from ...laws import Law
from .base import Network, Renewal

_ENTRIES = 1 << 25  # drawn at once, to bound the memory of a large stack


class StackedSWR(Renewal):
    """`regrow.SWR` for members of a stack: same selection, same draws.

    Example:
        >>> import torch
        >>> from regrow.lab.nets import MLP
        >>> from regrow.lab.mlp.network import StackedMLP
        >>> config = dict(utility="magnitude", prune="proportional", reinit="resample", every=2, factor=0.5)
        >>> stack, swr = StackedMLP(MLP(hidden=4, inputs=6), 2), StackedSWR([1], [config], [0])
        >>> swr.due(1), swr.due(2)
        ([], [0])
        >>> swr.renew(2, stack, None, swr.due(2)).tolist()
        [True]
        >>> int(swr.counts["renewed"][0])  # half of the 118 entries: no tensor has an odd number of them
        59

    Reference:
        Hernandez-Garcia et al. 2025, section 2.
    """

    method = "swr"

    def __init__(
        self,
        members: Sequence[int],
        configs: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(members, configs, seeds, device)
        self._last: dict[str, Tensor] = {}  # name -> (k, n): what the renewal before renewed

    def due(self, step: int) -> list[int]:
        return [i for i, c in enumerate(self.configs) if step % c["every"] == 0 and c["factor"] > 0]

    @property
    def needs_gradient(self) -> bool:
        return any(config["utility"] == "gradient" for config in self.configs)

    def renew(self, step: int, net: Network, gradients: Mapping[str, Tensor] | None, which: list[int]) -> Tensor:
        """Renew what is least useful; returns which of the members renewed anything, bool (len(which))."""
        before = self.counts["renewed"].clone()

        def kind(i: int) -> tuple[Any, ...]:
            return tuple(self.configs[i].get(key, "all") for key in ("utility", "prune", "reinit", "among"))

        for alike, group in itertools.groupby(sorted(which, key=kind), key=kind):
            numbers = list(group)
            for name, w in net.parameters.items():
                chunk = max(1, _ENTRIES // max(w[0].numel(), 1))
                for start in range(0, len(numbers), chunk):
                    g = gradients[name] if gradients is not None else None
                    self._renew(step, name, w, g, net.laws[name], numbers[start : start + chunk], alike)
        return (self.counts["renewed"] > before)[self._index(which)]

    def _renew(
        self, step: int, name: str, w: Tensor, g: Tensor | None, law: Law, numbers: list[int], kind: tuple[Any, ...]
    ) -> None:
        """One tensor of members whose methods are alike."""
        places = self._places(numbers)
        old = w.index_select(0, places).flatten(1)
        g = g.index_select(0, places).flatten(1) if g is not None and kind[0] == "gradient" else None
        u = self._utility(kind[0], old, g, numbers, step, name)
        mask = self._select(kind[1], u, numbers, step, name)
        if kind[3] != "all":  # of these the entries of utility 0, or all but those
            mask = mask & ((u == 0) if kind[3] == "zero" else (u != 0))
        if kind[2] == "mean" or law.std == 0:
            new = old.masked_fill(mask, law.mean)
        else:
            index = torch.arange(old.shape[1], device=self._device)
            keys = self._keys(numbers, step, name, "value")
            new = torch.where(mask, law.draw(random.bits(keys, index)).to(old.dtype), old)
        w.index_copy_(0, places, new.view(-1, *w.shape[1:]))
        self._tally(name, mask, u, numbers)

    def _utility(self, kind: str, w: Tensor, g: Tensor | None, numbers: list[int], step: int, name: str) -> Tensor:
        if kind == "gradient":
            assert g is not None
            return utility.gradient(w, g)
        if kind == "magnitude":
            return utility.magnitude(w)
        keys = self._keys(numbers, step, name, "utility")
        return utility.random(w, random.uniform(random.bits(keys, torch.arange(w.shape[1], device=w.device))))

    def _select(self, prune: str, u: Tensor, numbers: list[int], step: int, name: str) -> Tensor:
        factor = self._column("factor", numbers)
        if prune == "threshold":
            return select.threshold(u, factor, 1)

        def order() -> Tensor:
            keys = self._keys(numbers, step, name, "order")
            return random.order(random.bits(keys, torch.arange(u.shape[1], device=u.device)))

        zero = torch.zeros(1, dtype=torch.int64, device=u.device)
        uniform = random.uniform(random.bits(self._keys(numbers, step, name, "count"), zero)).squeeze(1)
        return select.proportional(u, factor, 1, uniform=uniform, order=order)

    def _tally(self, name: str, mask: Tensor, u: Tensor, numbers: list[int]) -> None:
        if name not in self._last:
            self._last[name] = torch.zeros(len(self.members), mask.shape[1], dtype=torch.bool, device=mask.device)
        index = self._index(numbers)
        self._add("renewed", numbers, mask.sum(1))
        self._add("renewed_zero", numbers, (mask & (u == 0)).sum(1))
        self._add("again", numbers, (mask & self._last[name].index_select(0, index)).sum(1))
        self._last[name].index_copy_(0, index, mask)

    def permute(self, name: str, shuffle: Tensor) -> None:
        if name in self._last:
            last = self._last[name]
            self._last[name] = last.view(len(last), -1, len(shuffle)).index_select(2, shuffle).view_as(last)

    def state_dict(self) -> dict[str, Any]:
        return {"last": {name: mask.cpu().clone() for name, mask in self._last.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._last = {name: mask.to(self._device, copy=True) for name, mask in state["last"].items()}
