"""A step of training as one CUDA graph: launched as a whole, without waiting for the device.

A hundred small kernels cost a host more time to launch than a device needs to run them. Steps at which something is
renewed or measured run one kernel after another as everywhere; the host knows beforehand which these are.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

_WARM_UP = 3  # calls made before the capture, so that libraries have set themselves up

T = TypeVar("T")


class Captured(Generic[T]):
    """A function of tensors, captured at its fourth call and replayed from then on.

    Each of the calls before the capture is a real one, made on a stream of its own: a function that changes tensors in
    place changes them once a call.

    Args:
        function: takes tensors on a CUDA device, of the same shapes at every call; looks at no value.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self.forget()

    def forget(self) -> None:
        """Capture anew: tensors that the graph uses were replaced."""
        self._calls, self._graph, self._inputs = 0, None, ()

    def __call__(self, *inputs: Tensor) -> T:
        """What the function returns, valid until the next call."""
        if self._calls < _WARM_UP:
            self._calls += 1
            return self._on_a_side_stream(inputs)
        if self._graph is None:
            self._inputs = tuple(t.clone() for t in inputs)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._output = self._function(*self._inputs)
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given)
        self._graph.replay()
        return self._output

    def _on_a_side_stream(self, inputs: tuple[Tensor, ...]) -> T:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            output = self._function(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        return output
