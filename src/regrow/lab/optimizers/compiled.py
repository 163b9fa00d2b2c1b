"""SGD with momentum and AdamW of a stack by compiled loops, on a CPU: the arithmetic of `fused`, in one pass.

Shapes: C members, n entries of a parameter.
"""

import functools
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from .base import Configs, Remembering, Stack


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


def serves(net: Stack) -> bool:
    """Can compiled loops work on a stack's parameters?"""
    parameters = list(net.parameters.values())
    alike = len({w.dtype for w in parameters}) == 1
    return alike and all(kernels.supports(w) and w.is_contiguous() for w in parameters)
