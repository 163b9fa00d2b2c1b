"""Where maintainers sit on an optimizer: its own step hooks, never backward hooks.

One pair of hooks serves all maintainers of an optimizer, so that they run in a fixed order: renewers before noise,
each in the order of attaching.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

P = ParamSpec("P")
R = TypeVar("R")


def outside_graphs(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.compiler.disable`, applied at the first call: at import it would load the whole compiler."""

    disabled: Any = None

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal disabled
        if disabled is None:
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    return call


class Attached(Protocol):
    """What the hooks of an optimizer call."""

    @property
    def is_noise(self) -> bool: ...
    def _before_update(self, found_inf: Tensor | None, first: bool) -> None: ...
    def _penalty(self) -> Tensor | None: ...
    def _restore_gradients(self, optimizer: Optimizer) -> None: ...
    def _after_update(self, found_inf: Tensor | None) -> None: ...


class StepHooks:
    """The maintainers of one optimizer.

    The optimizer itself keeps this object: the two go together, and neither is copied or stored with its state.
    """

    ATTRIBUTE = "_regrow_hooks"

    def __init__(self, optimizer: Optimizer) -> None:
        self._maintainers: list[Attached] = []
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    @outside_graphs
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """What comes before the update: now or, where a closure computes the gradients, after each of its calls."""
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._begin(optimizer, first=True)
            return None
        calls = itertools.count()

        def then_begin() -> Any:
            loss = closure()
            self._begin(optimizer, first=next(calls) == 0)
            for maintainer in self._maintainers if isinstance(loss, Tensor) else ():
                penalty = maintainer._penalty()  # a line search compares losses: they must be those of the gradients
                loss = loss if penalty is None else loss.detach() + penalty.to(loss)
            return loss

        return ((args[0], then_begin, *args[2:]), kwargs) if len(args) > 1 else (args, kwargs | {"closure": then_begin})

    def _begin(self, optimizer: Optimizer, first: bool) -> None:
        for maintainer in self._maintainers:
            maintainer._before_update(getattr(optimizer, "found_inf", None), first)

    @outside_graphs
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for maintainer in self._maintainers:  # what renews sees the gradient of the loss alone
            maintainer._restore_gradients(optimizer)
        for maintainer in self._maintainers:
            maintainer._after_update(getattr(optimizer, "found_inf", None))

    def add(self, maintainer: Attached) -> None:
        self._maintainers.append(maintainer)
        self._maintainers.sort(key=lambda m: m.is_noise)  # stable

    def remove(self, maintainer: Attached) -> bool:
        """Take a maintainer off; True if it was the last one."""
        self._maintainers = [m for m in self._maintainers if m is not maintainer]
        if not self._maintainers:
            for handle in self._handles:
                handle.remove()
        return not self._maintainers


def attach(maintainer: Attached, optimizer: Optimizer) -> None:
    """Have the optimizer call the maintainer around each of its steps."""
    if not hasattr(optimizer, StepHooks.ATTRIBUTE):
        setattr(optimizer, StepHooks.ATTRIBUTE, StepHooks(optimizer))
    getattr(optimizer, StepHooks.ATTRIBUTE).add(maintainer)


def detach(maintainer: Attached, optimizer: Optimizer) -> None:
    """Undo `attach`."""
    if getattr(optimizer, StepHooks.ATTRIBUTE).remove(maintainer):
        delattr(optimizer, StepHooks.ATTRIBUTE)
