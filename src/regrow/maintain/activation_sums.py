"""Watching activations: a per-unit sum of |h|, never the activation itself."""

from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor  # type: ignore[import]

from ..names import Entry
from ..wiring import Reading

Sums = tuple[Tensor, Tensor]
"""(sum |h| per unit, number of summands)"""


class ActivationSums:
    """Sums |h| of one layer's units over the forward passes since the last update.

    A forward pass counts if the module is training and gradients are enabled. Its methods serve as hooks bound to it,
    so that a copy of the model and its maintainer watches itself.

    Args:
        reading: where h is.
        home: of an incoming weight of the layer, whose gradient tells where one update's passes end.
    """

    def __init__(self, reading: Reading, home: Entry) -> None:
        self.reading = reading
        self._wanted = False
        self._home = home
        self._armed: Tensor | None = None  # the weight whose gradient is watched
        self._from_forward = False
        self._begins = False
        self._pending: Sums | None = None  # passes that no backward has followed yet
        self._banked: Sums | None = None  # passes whose gradients are in place
        self._last: Sums | None = None  # of the update before, for `preview`
        if reading.kind == "input":
            self._handle = reading.module.register_forward_pre_hook(self._pass, with_kwargs=True)
        else:
            self._handle = reading.module.register_forward_hook(self._pass, with_kwargs=True)

    @property
    def wanted(self) -> bool:
        """Are passes to be summed?"""
        return self._wanted

    def want(self, wanted: bool) -> None:
        """Begin a new update, and sum its passes or not."""
        self._last = self.sums() or self._last
        self._pending = self._banked = None
        self._from_forward = False
        self._wanted = wanted
        if wanted:
            self._arm()

    def sums(self, stale: bool = False) -> Sums | None:
        """The sums of this update's passes; None if there was none. With `stale`, then those of an update before."""
        present = _add(self._banked, self._pending)
        return present if present is not None or not stale else self._last

    def _pass(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any = None) -> None:
        """A forward pass of the watched module."""
        if not (self._wanted and module.training and torch.is_grad_enabled()):
            return
        h = self.reading.activation(args, kwargs, output)
        if not torch.compiler.is_compiling():
            if is_functorch_wrapped_tensor(h):
                return  # inside torch.func, whose tensors must not leave it
            self._arm()
            if torch._C._current_graph_task_id() != -1:  # type: ignore[attr-defined]
                # Inside a backward pass: activation checkpointing runs the forward again. It counts if the first run
                # did not, having had no gradients (the reentrant kind).
                if self._from_forward:
                    return
            else:
                self._from_forward = True
        total, count = self.reading.sum_abs(h)
        self._pending = _add(self._pending, (total, total.new_full((), count)))

    def _arm(self) -> None:
        """Have the weight tell of its gradients."""
        weight = self._home.parameter
        if self._armed is not weight:
            weight.register_hook(self._before_gradient)
            weight.register_post_accumulate_grad_hook(self._after_gradient)
            self._armed = weight

    def _before_gradient(self, gradient: Tensor) -> None:
        """A gradient comes to the weight. If none is there to add it to, a new update has begun."""
        if self._wanted:
            before = self._home.parameter.grad
            self._begins = before is None or not bool(before.any())

    _before_gradient.__torch_unserializable__ = True  # type: ignore[attr-defined]

    def _after_gradient(self, weight: Tensor) -> None:
        """It has been added (it is not where `torch.autograd.grad` asked for it): the passes before it belong to it.

        Those banked when an update begins are of one that never took place: one that a gradient scaler skipped.
        """
        if self._wanted:
            self._banked = _add(None if self._begins else self._banked, self._pending)
            self._pending = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies and stored models: the weight's hook is not copied with it, and is to be made anew."""
        return vars(self) | {"_armed": None}

    def remove(self) -> None:
        """Watch no longer."""
        self._wanted = False
        self._handle.remove()


def _add(a: Sums | None, b: Sums | None) -> Sums | None:
    if a is None or b is None:
        return b if a is None else a
    return a[0] + b[0], a[1] + b[1]
