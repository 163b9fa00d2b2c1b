"""When does a method act? Known on the host, without reading from the device."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .network import Network


class Dates:
    """Each member acts at the multiples of a number of updates.

    Also the memory of a method that has one: what it must know of its members from one update to the next.

    Args:
        every: of each member, 0 for never.
    """

    def __init__(self, every: Sequence[int]) -> None:
        self._every = list(every)
        self._periods = sorted({n for n in self._every if n})

    def due(self, step: int) -> list[int]:
        """Numbers of the members that act at this update."""
        if all(step % n for n in self._periods):
            return []
        return [i for i, n in enumerate(self._every) if n and step % n == 0]

    def next(self, step: int) -> int | None:
        """The first update after this one at which any may act; None: never."""
        return min(((step // n + 1) * n for n in self._periods), default=None)

    def soonest(self, planned: int | None) -> int | None:
        """The next update at which any may act, where others may have been admitted since that was planned."""
        return planned

    def watched(self, step: int) -> list[int] | None:
        """Hidden layers whose activations an update needs that comes no later than `step`; None: all."""
        following = self.next(step - 1)
        return None if following is not None and following <= step else []

    def layers(self, step: int) -> list[int] | None:
        """Hidden layers in which something is due at an update; None: all."""
        del step

    def admit(self, network: Network, places: Sequence[int], step: int) -> None:
        """Take up the network, with the members at these places: called at the start, and when it has changed."""

    def state(self, i: int) -> dict[str, Any]:
        """The memory of one member: tensors, numbers, text."""
        del i
        return {}

    def load(self, i: int, state: Mapping[str, Any]) -> None:
        """Continue from what was stored of one member; refuse all of it, or take all."""
        del i, state

    def permute(self, name: str, shuffle: Tensor) -> None:
        """The columns of a parameter were shuffled: follow them."""

    def mature(self, step: int) -> Tensor | None:
        """Units old enough to be renewed, of each member (k), where the method has such."""
        del step
        return None
