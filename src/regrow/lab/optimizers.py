"""The optimizers of a stack: one step for all members, each with its own hyper-parameters.

    SGD    theta <- (1 - decay) theta - step_size g
    SGDW   b <- momentum b + g;  theta <- (1 - decay) theta - step_size b
    AdamW  theta <- (1 - decay) theta - step_size m / (sqrt(v) + 1e-8)

Decay is decoupled and not multiplied by the step size. The noise of shrink and perturb is added where it shrinks.

Shapes: C members.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .noise import ShrinkAndPerturb

Configs = Sequence[Mapping[str, Any]]


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

    def __init__(self, net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> None:
        self.net, self.configs = net, configs
        decays, variances = ([float(c[key]) for c in configs] for key in ("decay", "noise_variance"))
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


class TorchOptimizer(StackOptimizer):
    """torch's own optimizer, fused, on slices of the stack: one parameter group for neighbours that are alike."""

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
        pieces = [
            {"params": [w[s] for w in net.parameters.values()]} | self._group(configs[s.start]) for s in self._slices
        ]
        self._optimizer = self._make(pieces)

    @staticmethod
    @abstractmethod
    def _group(config: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a parameter group."""

    @staticmethod
    @abstractmethod
    def _make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer: ...

    def step(self, gradients: Mapping[str, Tensor] | None) -> None:
        assert gradients is not None
        for members, name, piece in self._pieces():
            piece.grad = gradients[name][members]
        self._optimizer.step()

    def _pieces(self) -> Iterator[tuple[slice, str, Tensor]]:
        for members, group in zip(self._slices, self._optimizer.param_groups, strict=True):
            for name, piece in zip(self._names, group["params"], strict=True):
                yield members, name, piece

    def forget(self, member: int) -> None:
        for members, _, piece in self._pieces():
            for memory in self._optimizer.state[piece].values() if members.start == member else ():
                memory.zero_()  # in place: a captured graph uses it

    def permute(self, name: str, shuffle: Tensor) -> None:
        for _, own, piece in self._pieces():
            for memory in self._optimizer.state[piece].values() if own == name else ():
                if memory.dim():
                    memory.copy_(memory.index_select(2, shuffle))

    def state_dict(self) -> dict[str, Any]:
        state = self._optimizer.state_dict()["state"]
        return {str(i): {k: v.cpu().clone() for k, v in memories.items()} for i, memories in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": {int(i): m for i, m in state.items()}, "param_groups": groups})


class SGDW(TorchOptimizer):
    knobs = ("step_size", "momentum")

    @staticmethod
    def _group(config: Mapping[str, Any]) -> dict[str, Any]:
        return {"lr": float(config["step_size"]), "momentum": float(config["momentum"])}

    @staticmethod
    def _make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, fused=True)


class AdamW(TorchOptimizer):
    knobs = ("step_size", "beta1", "beta2")

    @staticmethod
    def _group(config: Mapping[str, Any]) -> dict[str, Any]:
        return {"lr": float(config["step_size"]), "betas": (float(config["beta1"]), float(config["beta2"]))}

    @staticmethod
    def _make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        on_device = groups[0]["params"][0].is_cuda  # there a captured graph must count the steps itself
        return torch.optim.AdamW(groups, weight_decay=0.0, fused=True, capturable=on_device)


OPTIMIZERS: dict[str, type[StackOptimizer]] = {"sgd": SGD, "sgdw": SGDW, "adamw": AdamW}
