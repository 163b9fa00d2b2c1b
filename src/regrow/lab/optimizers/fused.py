"""SGD with momentum and AdamW of a stack by torch's own fused optimizers, on any device."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .base import Configs, Remembering, Stack


class TorchOptimizer(Remembering):
    """torch's own optimizer, fused, on slices of the stack."""

    def __init__(self, net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> None:
        super().__init__(net, configs, seeds, alone)
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


class TorchSGDW(TorchOptimizer):
    knobs = ("step_size", "momentum")

    @staticmethod
    def _group(config: Mapping[str, Any]) -> dict[str, Any]:
        return {"lr": float(config["step_size"]), "momentum": float(config["momentum"])}

    @staticmethod
    def _make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, fused=True)


class TorchAdamW(TorchOptimizer):
    knobs = ("step_size", "beta1", "beta2")

    @staticmethod
    def _group(config: Mapping[str, Any]) -> dict[str, Any]:
        return {"lr": float(config["step_size"]), "betas": (float(config["beta1"]), float(config["beta2"]))}

    @staticmethod
    def _make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        on_device = groups[0]["params"][0].is_cuda  # there a captured graph must count the steps itself
        return torch.optim.AdamW(groups, weight_decay=0.0, fused=True, capturable=on_device)
