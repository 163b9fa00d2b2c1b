"""ReDo of members of a stack.

Shapes: w members due, H units of a layer.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...core import select, utility
from .units import Choice, Few, UnitNetwork, UnitRenewal


class StackedReDo(UnitRenewal):
    """`regrow.ReDo` (utility activation) for members of a stack."""

    method = "redo"

    def due(self, step: int) -> list[int]:
        return [i for i, c in enumerate(self.configs) if step % c["every"] == 0 and c["threshold"] > 0]

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
            chosen.append(Choice(i, which, select.threshold(u, limit, 1), u))
        if not self._looks(net):
            return self._fire(step, net, chosen, which)
        few = [
            Few.of(choice.layer, number, mask.nonzero()[0], u)
            for choice in chosen
            for number, mask, u in zip(which, choice.mask.numpy(), choice.utility.numpy(), strict=True)
        ]
        return self._fire_few(step, net, few, which)
