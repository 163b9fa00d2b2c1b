"""Watching activations: a per-unit sum of |h|, never the activation itself."""

from typing import Any

import torch
from torch import Tensor, nn

from ..wiring import Reading


class Watch:
    """Sums |h| of one layer's units over the forward passes since the last update.

    A forward pass counts if the module is training and gradients are enabled. Its methods serve as hooks bound to it,
    so that a copy of the model and its maintainer watches itself.

    Args:
        reading: where h is.
        weight: an incoming weight of the layer; its gradient tells where one update's passes end and the next begin.
    """

    def __init__(self, reading: Reading, weight: Tensor) -> None:
        self.wanted = False
        self.fresh = False  # a pass has been summed since the last update
        self.total: Tensor | None = None  # sum |h|, (units,); kept until the next pass, for `preview`
        self.count: Tensor | None = None  # number of summands
        self._reading, self._weight = reading, weight
        self._from_forward = self._gradient_came = False
        self._hooked: Tensor | None = None
        if reading.kind == "input":
            self._handle = reading.module.register_forward_pre_hook(self._pass, with_kwargs=True)
        else:
            self._handle = reading.module.register_forward_hook(self._pass, with_kwargs=True)

    def _pass(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any = None) -> None:
        """A forward pass of the watched module."""
        if not (self.wanted and module.training and torch.is_grad_enabled()):
            return
        if not torch.compiler.is_compiling():
            self._mind_windows()
            if torch._C._current_graph_task_id() != -1:  # type: ignore[attr-defined]
                # Inside a backward pass: activation checkpointing runs the forward again. It counts if the first run
                # did not, having had no gradients (the reentrant kind).
                if self._from_forward:
                    return
            else:
                self._from_forward = True
        total, count = self._reading.sum_abs(self._reading.activation(args, kwargs, output))
        if self.fresh and self.total is not None and self.count is not None:
            self.total, self.count = self.total + total, self.count + count
        else:
            self.total, self.count = total, total.new_full((), count)
        self.fresh = True

    def _mind_windows(self) -> None:
        """Forget passes whose gradients were dropped: an update that a gradient scaler skipped, without a step."""
        if self._hooked is not self._weight:
            self._weight.register_post_accumulate_grad_hook(self._gradient)
            self._hooked = self._weight
        if self._gradient_came and self._weight.grad is None:
            self.forget()

    def _gradient(self, weight: Tensor) -> None:
        self._gradient_came = True

    def forget(self) -> None:
        """The update is over."""
        self.fresh = self._from_forward = self._gradient_came = False

    def remove(self) -> None:
        """Watch no longer."""
        self._handle.remove()
