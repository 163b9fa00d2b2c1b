"""ReDo of members of a stack.

Shapes: w members due, H units of a layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...core import select, utility
from .units import Choice, UnitNetwork, UnitRenewal


class StackedReDo(UnitRenewal):
    """`regrow.ReDo` (utility activation) for members of a stack.

    Args:
        members, configs, seeds, device: as for `Renewal`.
        read: activations "before" the norm or "after" it.
    """

    method = "redo"

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
        self._every = [int(config["every"]) for config in configs]
        self._off = [config["threshold"] == 0 for config in configs]

    def due(self, step: int) -> list[int]:
        return [i for i, every in enumerate(self._every) if step % every == 0 and not self._off[i]]

    def renew(
        self,
        step: int,
        net: UnitNetwork,
        gradients: Mapping[str, Tensor] | None,
        which: list[int],
        layers: Sequence[int] | None = None,
    ) -> Tensor:
        """Renew the dormant units, of these hidden layers only; which members renewed any, bool (len(which))."""
        del gradients
        places, limit = self._places(which), self._column("threshold", which)
        chosen = []
        for i in range(len(net.units)) if layers is None else layers:
            u = utility.activation(net.activity(i, self._read, places), 1)
            mask = select.threshold(u, limit, 1)
            if not self._host or mask.any():
                chosen.append(Choice(i, which, mask, u))
        return self._fire(step, net, chosen, which)
