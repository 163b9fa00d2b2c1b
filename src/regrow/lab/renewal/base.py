"""What the renewal methods of a stack share.

Shapes: k members of the stack that a method looks after.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ...core import random
from ...laws import Law


class Network(Protocol):
    """What a renewal method needs of a stack of networks."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """name -> (members, ...), changed in place."""
        ...

    @property
    def laws(self) -> Mapping[str, Law]: ...


class Renewal(ABC):
    """Renews entries or units of some members of a stack, each by its own hyper-parameters.

    Random numbers are keyed as in the library (seed, method, step, tensor, entry), so a member's draws are those of a
    single network with that seed.

    Args:
        members: their places in the stack.
        configs: their hyper-parameters.
        seeds: their seeds.
        device: of the stack.
    """

    method: ClassVar[str]

    def __init__(
        self,
        members: Sequence[int],
        configs: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.members, self.configs = list(members), list(configs)
        self._seeds = list(seeds)
        self._device = torch.device(device)
        self._host = self._device.type == "cpu"
        self._known_places: dict[tuple[int, ...], Tensor] = {}
        self.counts = {
            name: torch.zeros(len(self.members), dtype=torch.int64, device=device)
            for name in ("renewed", "renewed_units", "renewed_zero", "again")
        }

    @abstractmethod
    def due(self, step: int) -> list[int]:
        """Which of its members (numbers from 0 to k - 1) may renew something at this update."""

    @abstractmethod
    def renew(self, step: int, net: Any, gradients: Mapping[str, Tensor] | None, which: list[int], /) -> Tensor:
        """Renew after this update what is due of these members; returns which renewed anything, bool (len(which)).

        `net` is a `Network`, `gradients` are those of the update where `needs_gradient`.
        """

    @property
    def needs_gradient(self) -> bool:
        """Does a renewal need the gradient of the update?"""
        return False

    def state_dict(self) -> dict[str, Any]:
        """All that the next task needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        del state

    def permute(self, name: str, shuffle: Tensor) -> None:  # noqa: B027
        """The columns of a parameter were shuffled: follow them."""

    def mature(self, step: int) -> Tensor | None:
        """Units old enough to be renewed, (k), where the method has such."""
        return None

    def begin_task(self) -> None:
        """Count anew."""
        for count in self.counts.values():
            count.zero_()

    def _keys(self, which: Sequence[int], step: int, name: str, purpose: str) -> Tensor:
        """One key (w, 1) for each of these members: as the library's, for the only network of that seed."""
        of = {seed: random.key(seed, self.method, 0, step, name, purpose) for seed in {self._seeds[i] for i in which}}
        return torch.tensor([[of[self._seeds[i]]] for i in which], device=self._device)

    def _add(self, count: str, which: Sequence[int], numbers: Tensor) -> None:
        """Add to the counts of these members."""
        if self._host:
            self.counts[count].numpy()[list(which)] += numbers.numpy()
        else:
            self.counts[count].index_add_(0, self._index(which), numbers)

    def _index(self, which: Sequence[int]) -> Tensor:
        """Their numbers, from 0 to k - 1."""
        return torch.tensor(which, device=self._device)

    def _places(self, which: Sequence[int]) -> Tensor:
        """Their places in the stack."""
        found = tuple(which)
        if found not in self._known_places:
            self._known_places[found] = torch.tensor([self.members[i] for i in found], device=self._device)
        return self._known_places[found]

    def _column(self, key: str, which: Sequence[int]) -> Tensor:
        """One hyper-parameter of these members, float64 (w)."""
        return torch.tensor([float(self.configs[i][key]) for i in which], dtype=torch.float64, device=self._device)
