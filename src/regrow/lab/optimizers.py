"""The optimizers of a stack: one step for all members, each with its own hyper-parameters.

    SGD    theta <- (1 - decay) theta - step_size g
    SGDW   b <- momentum b + g;  theta <- (1 - decay) theta - step_size b
    AdamW  theta <- (1 - decay) theta - step_size m / (sqrt(v) + 1e-8)

Decay is decoupled and not multiplied by the step size. The noise of shrink and perturb is added where it shrinks.

Shapes: C members.
"""

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from . import kernels
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


class CompiledOptimizer(Remembering):
    """One compiled loop over all members, on a CPU; it shrinks them too."""

    shrinks = True
    memories: tuple[str, ...]
    """names in the state of torch's optimizer"""
    counts = False
    """whether that state counts steps"""

    def __init__(self, net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> None:
        super().__init__(net, configs, seeds, alone)
        self._dtype = _flat(net.parameters[self._names[0]]).dtype
        self._memory = {key: {n: torch.zeros_like(w) for n, w in net.parameters.items()} for key in self.memories}
        self._steps = torch.zeros(len(configs))  # of each member, since its memory was cleared
        self._arrays: list[list[np.ndarray]] = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": []}  # in a copy, arrays would no longer share memory with tensors

    def step(self, gradients: Mapping[str, Tensor] | None) -> None:
        assert gradients is not None
        if not self._arrays:
            tensors = [self.net.parameters, *self._memory.values()]
            self._arrays = [[_flat(named[name]) for named in tensors] for name in self._names]
        self._steps += 1
        loop, knobs = self._loop(), self._knobs()
        for name, (w, *memory) in zip(self._names, self._arrays, strict=True):
            loop(w, _flat(gradients[name]), *memory, *knobs)

    @staticmethod
    @abstractmethod
    def _loop() -> Callable[..., None]:
        """Makes a step of one parameter, from its values, gradient and memories, (C, n), and the knobs."""

    @abstractmethod
    def _knobs(self) -> list[np.ndarray]:
        """Of each member at this step, (C) each."""

    def _of(self, key: str) -> np.ndarray:
        """A knob of each member, in float64."""
        return np.array([float(config[key]) for config in self.configs])

    def _cast(self, *knobs: np.ndarray | Sequence[float]) -> list[np.ndarray]:
        return [np.asarray(knob, self._dtype) for knob in knobs]

    def forget(self, member: int) -> None:
        for memory in self._tensors():
            memory[member] = 0

    def _tensors(self) -> Iterator[Tensor]:
        yield self._steps
        for named in self._memory.values():
            yield from named.values()

    def permute(self, name: str, shuffle: Tensor) -> None:
        for named in self._memory.values():
            named[name].copy_(named[name].index_select(2, shuffle))

    def state_dict(self) -> dict[str, Any]:
        if not self._steps.any():
            return {}
        return {i: {key: memory.clone() for key, memory in piece.items()} for i, piece in self._pieces()}

    def _pieces(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The state of torch's optimizer, as views."""
        for i, (members, name) in enumerate(itertools.product(self._slices, self._names)):
            steps = {"step": self._steps[members][0]} if self.counts else {}
            yield str(i), steps | {key: named[name][members] for key, named in self._memory.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for memory in self._tensors():
            memory.zero_()
        for (i, piece), (members, _) in zip(self._pieces(), itertools.product(self._slices, self._names), strict=True):
            stored = state.get(i, {})  # torch's has none where momentum is 0
            for key, memory in piece.items():
                memory.copy_(stored.get(key, torch.zeros(())))
            if state:
                self._steps[members] = float(stored.get("step", 1))


class CompiledSGDW(CompiledOptimizer):
    knobs, memories = ("step_size", "momentum"), ("momentum_buffer",)

    @staticmethod
    def _loop() -> Callable[..., None]:
        return kernels.sgdw

    def _knobs(self) -> list[np.ndarray]:
        return self._constant

    @functools.cached_property
    def _constant(self) -> list[np.ndarray]:
        return self._cast(self._keep, self._of("step_size"), self._of("momentum"))


class CompiledAdamW(CompiledOptimizer):
    knobs, memories, counts = ("step_size", "beta1", "beta2"), ("exp_avg", "exp_avg_sq"), True

    @staticmethod
    def _loop() -> Callable[..., None]:
        return kernels.adamw

    def _knobs(self) -> list[np.ndarray]:
        """The corrections of both means, 1 - beta^t, are part of the step size and of the root."""
        step_size, beta1, beta2 = self._constant
        t = self._steps.double().numpy()
        return self._cast(self._keep, step_size / (1 - beta1**t), beta1, beta2, np.sqrt(1 - beta2**t))

    @functools.cached_property
    def _constant(self) -> tuple[np.ndarray, ...]:
        return self._of("step_size"), self._of("beta1"), self._of("beta2")


def _flat(x: Tensor) -> np.ndarray:
    """(C, n)"""
    return x.reshape(len(x), -1).numpy()


def _by_loops(net: Stack) -> bool:
    """Whether compiled loops can work on a stack's parameters."""
    parameters = list(net.parameters.values())
    alike = len({w.dtype for w in parameters}) == 1
    return alike and all(kernels.supports(w) and w.is_contiguous() for w in parameters)


def sgdw(net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> StackOptimizer:
    """SGD with momentum and decoupled decay, by the fastest code for a stack."""
    return (CompiledSGDW if _by_loops(net) else TorchSGDW)(net, configs, seeds, alone)


def adamw(net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> StackOptimizer:
    """AdamW with a decay that the step size does not multiply, by the fastest code for a stack."""
    return (CompiledAdamW if _by_loops(net) else TorchAdamW)(net, configs, seeds, alone)


OPTIMIZERS: dict[str, Callable[..., StackOptimizer]] = {"sgd": SGD, "sgdw": sgdw, "adamw": adamw}
