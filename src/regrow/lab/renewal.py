"""An older way to write a learning system for `regrow.lab.general`. `regrow.methods` is the one to use now.

Shapes: k members of the stack, those of one system.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core import random
from ..methods import HiddenUnits, StackedMethod

__all__ = ["HiddenUnits", "Renewal", "StackedMethod"]


class Renewal(ABC):
    """Renews entries of some members of a stack, each by its own hyper-parameters.

    Args:
        members: their places in the stack.
        configs: their hyper-parameters.
        seeds: their seeds.
        device: of the stack.
    """

    method: ClassVar[str]
    reads_activations: ClassVar[bool] = False
    reads_positions: ClassVar[bool] = False
    observes: ClassVar[bool] = False

    def __init__(
        self,
        members: Sequence[int],
        configs: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.members, self.configs = list(members), list(configs)
        self._seeds, self._device = list(seeds), torch.device(device)

    @abstractmethod
    def due(self, step: int) -> list[int]:
        """Which of its members (numbers from 0 to k - 1) may renew something at this update."""

    @abstractmethod
    def renew(self, step: int, net: Any, gradients: Mapping[str, Tensor] | None, which: list[int], /) -> Tensor:
        """Renew after this update what is due of these members; returns which renewed anything, bool (len(which))."""

    def before(self, step: int, net: Any) -> None:  # noqa: B027
        """Called before the optimizer's step of every update."""

    def observe(self, step: int, net: Any, gradients: Mapping[str, Tensor] | None) -> None:  # noqa: B027
        """Called after the optimizer's step of every update, where it `observes`."""

    def _keys(self, which: Sequence[int], step: int, name: str, purpose: str) -> Tensor:
        """One key (w, 1) for each of these members: as the library's, for the only network of that seed."""
        of = {seed: random.key(seed, self.method, 0, step, name, purpose) for seed in {self._seeds[i] for i in which}}
        return torch.tensor([[of[self._seeds[i]]] for i in which], device=self._device)
