"""What the optimizers of a stack have in common: hyper-parameters of each member, decay, and the noise beside it."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..noise import ShrinkAndPerturb

Configs = Sequence[Mapping[str, Any]]
"""The hyper-parameters of each member."""


class Stack(Protocol):
    """What an optimizer needs of a stack of networks."""

    @property
    def parameters(self) -> Mapping[str, Tensor]: ...

    def descend(self) -> None:
        """Add the gradients, whose scale carries the step size, to the parameters."""
        ...


class StackOptimizer(ABC):
    """Steps of one optimizer for all members of a stack.

    Args:
        net: the stack.
        configs: of each member: `step_size`, `decay`, `noise_variance`, and those of the optimizer.
        seeds: of each member, for its noise.
        alone: members whose state will be cleared by `forget`.
    """

    needs_gradient = True
    shrinks = False
    """whether `step` shrinks members without noise; else `shrink_and_perturb` shrinks all"""

    def __init__(self, net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> None:
        self.net, self.configs = net, configs
        decays, variances = ([float(c[key]) for c in configs] for key in ("decay", "noise_variance"))
        self._keep = [1.0] * len(decays)
        if self.shrinks:
            self._keep = [1.0 if noise else 1 - decay for decay, noise in zip(decays, variances, strict=True)]
            decays = [decay if noise else 0.0 for decay, noise in zip(decays, variances, strict=True)]
        self.shrink_and_perturb = ShrinkAndPerturb(net.parameters, decays, variances, seeds)

    def scale(self) -> Tensor:
        """What each member's loss is multiplied with before the backward pass, (C)."""
        return torch.ones(len(self.configs), dtype=torch.float64)

    @abstractmethod
    def step(self, gradients: Mapping[str, Tensor] | None) -> None:
        """Update the parameters, from gradients where `needs_gradient`."""

    def forget(self, member: int) -> None:  # noqa: B027
        """Clear one member's optimizer state."""

    def permute(self, name: str, shuffle: Tensor) -> None:  # noqa: B027
        """Shuffle the state's columns as those of a parameter were."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next update needs besides the parameters."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        del state


class SGD(StackOptimizer):
    """No weight gradient is ever stored: the scale of the loss carries the step size."""

    needs_gradient = False

    def scale(self) -> Tensor:
        return torch.tensor([-float(c["step_size"]) for c in self.configs], dtype=torch.float64)

    def step(self, gradients: Mapping[str, Tensor] | None) -> None:
        self.net.descend()


class Remembering(StackOptimizer):
    """An optimizer with memory. Its state is that of torch's: parameter groups are neighbours of equal knobs."""

    knobs: tuple[str, ...]

    def __init__(self, net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> None:
        super().__init__(net, configs, seeds)
        runs = [
            [i for i, _ in run]
            for _, run in itertools.groupby(
                enumerate(configs),
                lambda pair: (*(pair[1][knob] for knob in self.knobs), pair[0] if pair[0] in alone else -1),
            )
        ]
        self._slices = [slice(run[0], run[-1] + 1) for run in runs]
        self._names = list(net.parameters)
