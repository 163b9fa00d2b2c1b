"""Watching activations: a per-unit sum of |h|, never the activation itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor  # type: ignore[import]

from ..names import Entry
from ..shards import gathered, gradients, is_sharded
from ..wiring import Reading, Tap, Units

Sums = tuple[Tensor, Tensor]
"""(sum |h| per unit, number of summands)"""

NO_FORWARD = (
    "{name} is due and has seen no forward pass of {layers} since the last update: run the model in training mode with "
    "gradients enabled before optimizer.step(). If the model is compiled, make {name} first; if another model of the "
    "same class was compiled before, call torch._dynamo.reset() too, or its code without the hooks is used again. "
    "Passes of a copy that borrows the model's parameters (TorchRL's losses, tensordict's to_module) are not seen: "
    "unit methods cannot be used there"
)
"""The error at an update that is due but has no sums; format it with the maintainer's `name` and the `layers`."""


class ActivationSums:
    """Sums |h| of one layer's units over the forward passes since the last update.

    A forward pass counts if the module is training and gradients are enabled. Its methods serve as hooks bound to it,
    so that a copy of the model and its maintainer watches itself.

    Args:
        reading: where h is.
        home: of an incoming weight of the layer, whose gradient tells where one update's passes end.
        by_position: keep the positions of a unit apart; the sums are then of shape (units, positions).
        stale: whether the model has changed since the reading was made.
    """

    def __init__(
        self, reading: Reading, home: Entry, by_position: bool = False, stale: Callable[[], bool] | None = None
    ) -> None:
        self.reading, self._stale = reading, stale
        self._sum = reading.sum_abs_by_position if by_position else reading.sum_abs
        self._wanted = False
        self._home = home
        self._armed: Tensor | None = None  # the weight whose gradient is watched
        self._in_shards: Tensor | None = None  # the same between passes, where it lies in shards
        self._gradient_hooks: list[Any] = []
        self._from_forward = False
        self._begins = False
        self._pending: Sums | None = None  # passes that no backward has followed yet
        self._banked: Sums | None = None  # passes whose gradients are in place
        self._last: Sums | None = None  # of the update before, for `preview`
        self._tap: Tap | None = None
        self.install()

    @property
    def wanted(self) -> bool:
        """Are passes to be summed?"""
        return self._wanted

    def begin_update(self, wanted: bool) -> None:
        """Drop the sums of the last update (kept for `preview`), and sum activations from now on if `wanted`."""
        self._last = self.sums() or self._last
        self._pending = self._banked = None
        self._from_forward = False
        self._wanted = wanted
        if wanted:
            self._arm()

    def sums(self, stale: bool = False) -> Sums | None:
        """The sums of this update's passes; None if there was none. With `stale`, those of an earlier update then."""
        present = _add(self._banked, self._pending)
        if present is not None and _is_fake(present[0]):  # Dynamo of torch 2.6 does not say that it exports
            raise RuntimeError(
                "torch.export(strict=True) left traced tensors in this update's sums of activations: before torch 2.7 "
                "export with strict=False, or between detach() and attach()"
            )
        return present if present is not None or not stale else self._last

    def _counts(self, module: nn.Module, seen: object) -> bool:
        """Does a forward pass of the watched module count, in which this tensor was seen?"""
        return self._wanted and module.training and torch.is_grad_enabled() and not _is_traced(seen)

    def _pass(self, module: nn.Module, h: Tensor) -> None:
        """A forward pass that counts, and its activation."""
        if not torch.compiler.is_compiling():
            if is_functorch_wrapped_tensor(h):
                return  # inside torch.func, whose tensors must not leave it
            if not self._of_the_model():
                return
            if torch._C._current_graph_task_id() != -1:  # type: ignore[attr-defined]
                # Inside a backward pass: activation checkpointing runs the forward again. It counts if the first run
                # did not, having had no gradients (the reentrant kind).
                if self._from_forward:
                    return
            else:
                self._from_forward = True
        try:
            total, count = self._sum(h)
        except ValueError:
            if self._stale is not None and self._stale():
                return  # the model has grown, and the layer is to be looked at anew
            raise
        self._pending = _add(self._pending, (total, total.new_full((), count)))

    def _of_the_model(self) -> bool:
        """Does a pass belong to an update? Not with detached tensors in the place of the parameters.

        `torch.func.functional_call` puts them there; with tensors that follow from the parameters it belongs to one.
        And not while the layer is frozen, as a discriminator is while its generator learns.
        """
        weight = self._home.module._parameters.get(self._home.attribute)
        if weight is None or not weight.requires_grad:
            return False
        if isinstance(weight, nn.Parameter):
            self._arm()
        return True

    def _arm(self) -> None:
        """Hook the weight, to hear of its gradients; a frozen one has none, and waits for a pass that counts."""
        weight = self._home.module._parameters.get(self._home.attribute)
        if weight is not None and not weight.requires_grad:
            return
        if is_sharded(weight):
            if weight is self._in_shards and self._armed is not None:
                return
            self._in_shards, weight = weight, gathered(self._around(), weight)
        if weight is not None and self._armed is not weight:
            for hook in self._gradient_hooks:
                hook.remove()
            self._gradient_hooks = [
                weight.register_hook(self._before_gradient),
                weight.register_post_accumulate_grad_hook(self._after_gradient),
            ]
            self._armed = weight

    def _before_gradient(self, gradient: Tensor) -> None:
        """A gradient comes to the weight. If none is there to add it to, a new update has begun."""
        if self._wanted:
            before = self._armed.grad if self._armed is not None else None
            self._begins = (before is None or not bool(before.any())) and not self._gradient_in_shards()

    def _gradient_in_shards(self) -> bool:
        """Has the weight a gradient in shards? What lies here of it may be 0 all the same."""
        return self._in_shards is not None and bool(gradients(self._around(), self._in_shards))

    def _around(self) -> list[nn.Module]:
        return [module for _, module in self._home.ancestors]

    _before_gradient.__torch_unserializable__ = True  # type: ignore[attr-defined]

    def _after_gradient(self, weight: Tensor) -> None:
        """It has been added (it is not where `torch.autograd.grad` asked for it): the passes before it belong to it.

        Those banked when an update begins belong to one that never took place: a gradient scaler skipped it.
        """
        if self._wanted:
            self._banked = _add(None if self._begins else self._banked, self._pending)
            self._pending = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies and stored models: the weight's hook is not copied with it, and is to be made anew."""
        return vars(self) | {"_armed": None, "_in_shards": None, "_gradient_hooks": []}

    def install(self) -> None:
        """Put the hooks on the model, if they are not there."""
        if self._tap is None:
            self._tap = Tap(self.reading, self._pass, self._counts)

    def remove(self) -> None:
        """Take the hooks off the model: watch no longer."""
        self._wanted = False
        if self._tap is not None:
            self._tap.remove()
        for hook in self._gradient_hooks:
            hook.remove()
        self._tap, self._armed, self._gradient_hooks = None, None, []


class ActivationSumsByPosition:
    """Sums |h| of one layer's units as the layers that read them receive it, position by position.

    What it has in common with `ActivationSums` is used the same way; the sums are of shape (units, positions of all
    entries of `weight_out`), which `Units.outgoing_by_position` gives to the outgoing weights.

    Args:
        units: of the layer.
        model: whose units they are.
        home, stale: as for `ActivationSums`.
    """

    def __init__(self, units: Units, model: nn.Module, home: Entry, stale: Callable[[], bool] | None = None) -> None:
        self._readings, self._units = units.readings_by_position(model), units
        self._watches = [ActivationSums(reading, home, by_position=True, stale=stale) for reading in self._readings]

    @property
    def wanted(self) -> bool:
        """Are passes to be summed?"""
        return self._watches[0].wanted

    def begin_update(self, wanted: bool) -> None:
        """Begin a new update: drop the sums of the last one, and sum activations from now on if `wanted`."""
        for watch in self._watches:
            watch.begin_update(wanted)

    def sums(self, stale: bool = False) -> Sums | None:
        """(sums, number of summands of each position) of this update's passes; None if a reader has seen none."""
        sums = [s for watch in self._watches if (s := watch.sums(stale)) is not None]
        if len(sums) < len(self._watches):
            return None
        totals, counts = [total for total, _ in sums], [count.expand(total.shape[1]) for total, count in sums]
        return tuple(self._units.positions_in_order(self._readings, of) for of in (totals, counts))  # type: ignore[return-value]

    def install(self) -> None:
        """Put the hooks on the model, if they are not there."""
        for watch in self._watches:
            watch.install()

    def remove(self) -> None:
        """Take the hooks off the model: watch no longer."""
        for watch in self._watches:
            watch.remove()


def _is_traced(h: object) -> bool:
    """Is this forward only traced (torch.export, fake or meta tensors, symbolic tracing) and part of no update?

    Its tensors must not stay in the sums. `torch.compile` traces too, but what it traces runs later and counts.
    """
    if not isinstance(h, Tensor) or h.is_meta or _is_exporting():
        return True
    if torch.compiler.is_compiling():
        return False
    return torch._C._get_tracing_state() is not None or _is_fake(h)


def _is_fake(x: Tensor) -> bool:
    return any(kind.__name__ == "FakeTensor" for kind in type(x).__mro__)


def _is_exporting() -> bool:
    """`torch.compiler.is_exporting`; torch 2.6 has none, and torch.export, if not strict, sets this flag alone."""
    if hasattr(torch.compiler, "is_exporting"):
        return torch.compiler.is_exporting()
    return torch.compiler._is_compiling_flag


def _add(a: Sums | None, b: Sums | None) -> Sums | None:
    if a is None or b is None:
        return b if a is None else a
    return a[0] + b[0], a[1] + b[1]
