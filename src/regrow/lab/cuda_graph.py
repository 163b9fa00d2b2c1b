"""An update of a stack as one CUDA graph: launched as a whole, without waiting for the device.

A hundred small kernels an update cost a host more time than a device needs to run them. Updates at which something is
renewed or measured are made one kernel after another as everywhere; the host knows beforehand which these are.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

_WARM_UP = 3  # updates made before the capture, so that libraries have set themselves up


class Trainer(Protocol):
    """The part of `regrow.lab.mlp.trainer.Trainer` that is captured."""

    @property
    def problem(self) -> Any:
        """The images, with `device` and `course`."""
        ...

    def plain_update(self, order: Tensor, labels: Tensor, step: Tensor) -> Tensor:
        """Make one update of fixed shapes."""
        ...


class CapturedUpdate:
    """`Trainer.plain_update`, captured once and replayed.

    Args:
        trainer: on a CUDA device.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, device = trainer, trainer.problem.device
        course = trainer.problem.course
        self._order = torch.zeros(course.updates_a_task, course.batch, dtype=torch.int64, device=device)
        self._u = torch.zeros(1, dtype=torch.int64, device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._made = 0
        self._labels = torch.zeros_like(self._order)
        self._out: Tensor | None = None

    def begin(self, order: Tensor, labels: Tensor) -> None:
        """Take over the images and labels (U, B) of a new task."""
        self._order.copy_(order)
        self._labels.copy_(labels)

    def forget(self) -> None:
        """Capture anew: tensors that the graph uses were replaced."""
        self._graph, self._made = None, 0

    def __call__(self, u: int, step: int) -> Tensor:
        """Make update u; returns the metrics of its batch, valid until the next."""
        self._u.fill_(u)
        self._step.fill_(step)
        if self._made < _WARM_UP:
            self._made += 1
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                out = self._update()
            torch.cuda.current_stream().wait_stream(side)
            return out
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._out = self._update()
        self._graph.replay()
        assert self._out is not None
        return self._out

    def _update(self) -> Tensor:
        order, labels = (t.index_select(0, self._u).squeeze(0) for t in (self._order, self._labels))
        return self._trainer.plain_update(order, labels, self._step)
