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

from . import elsewhere
from .signal import no_update

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
    def _holds_any(self, parameters: set[int]) -> bool: ...
    def _warn_of_steps_elsewhere(self, why: str) -> None: ...


class StepHooks:
    """The maintainers of one optimizer.

    The optimizer itself keeps this object: the two go together, and neither is copied or stored with its state.
    """

    ATTRIBUTE = elsewhere.ATTRIBUTE

    def __init__(self, optimizer: Optimizer) -> None:
        self.maintainers: list[Attached] = []
        self.steps = elsewhere.Steps(self)
        self._no_update: bool | Tensor = False
        self._handles: list[Any] = []
        self.put(optimizer)

    def put(self, optimizer: Optimizer) -> None:
        """Put the hooks on the optimizer, if they are not there."""
        if not self.there(optimizer):
            self._handles = [
                optimizer.register_step_pre_hook(self._before),
                optimizer.register_step_post_hook(self._after),
            ]
            self.steps.begin()

    def there(self, optimizer: Optimizer) -> bool:
        """Are the hooks where they were put? `optimizer.__init__(...)` drops them."""
        return bool(self._handles) and self._handles[1].id in optimizer._optimizer_step_post_hooks

    @outside_graphs
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """What comes before the update: now or, where a closure computes the gradients, after each of its calls."""
        self.steps.inside = True
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._begin(optimizer, first=True)
            return None
        calls = itertools.count()

        def then_begin() -> Any:
            loss = closure()
            self._begin(optimizer, first=next(calls) == 0)
            penalized = isinstance(loss, Tensor) and self._no_update is not True
            for maintainer in self.maintainers if penalized else ():
                penalty = maintainer._penalty()  # a line search compares losses: they must be those of the gradients
                loss = loss if penalty is None else loss.detach() + penalty.to(loss)
            return loss

        return ((args[0], then_begin, *args[2:]), kwargs) if len(args) > 1 else (args, kwargs | {"closure": then_begin})

    def _begin(self, optimizer: Optimizer, first: bool) -> None:
        self._no_update = no_update(optimizer)
        if self._no_update is not True:
            skipped = self._skipped(optimizer)
            for maintainer in self.maintainers:
                maintainer._before_update(skipped, first)

    def _skipped(self, optimizer: Optimizer) -> Tensor | None:
        """Nonzero where this step is none: a gradient scaler skips it, or there is neither lr nor gradient."""
        skipped, none = getattr(optimizer, "found_inf", None), self._no_update
        if isinstance(none, Tensor):
            return none if skipped is None else none | (skipped.detach().reshape(()).to(none.device) != 0)
        return skipped

    @outside_graphs
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.steps.inside, self.steps.ran = False, True
        for maintainer in self.maintainers:  # what renews sees the gradient of the loss alone
            maintainer._restore_gradients(optimizer)
        if self._no_update is not True:
            skipped = self._skipped(optimizer)
            for maintainer in self.maintainers:
                maintainer._after_update(skipped)
        self._no_update = False

    def add(self, maintainer: Attached) -> None:
        self.maintainers.append(maintainer)
        self.maintainers.sort(key=lambda m: m.is_noise)  # stable

    def remove(self, maintainer: Attached) -> bool:
        """Take a maintainer off; True if it was the last one."""
        self.maintainers = [m for m in self.maintainers if m is not maintainer]
        if not self.maintainers:
            for handle in self._handles:
                handle.remove()
            self.steps.end()
        return not self.maintainers


def of(optimizer: Optimizer) -> StepHooks | None:
    """The hooks that an optimizer has."""
    return vars(optimizer).get(StepHooks.ATTRIBUTE)


def attach(maintainer: Attached, optimizer: Optimizer) -> None:
    """Have the optimizer call the maintainer around each of its steps."""
    hooks = of(optimizer)
    if hooks is None:
        hooks = StepHooks(optimizer)
        setattr(optimizer, StepHooks.ATTRIBUTE, hooks)
    hooks.put(optimizer)
    hooks.add(maintainer)


def detach(maintainer: Attached, optimizer: Optimizer) -> None:
    """Undo `attach`."""
    hooks = of(optimizer)
    if hooks is not None and hooks.remove(maintainer):
        delattr(optimizer, StepHooks.ATTRIBUTE)


def replaces(new: Optimizer, own: Optimizer, lacking: Callable[[Optimizer], tuple[list[str], bool]]) -> bool:
    """May a maintainer move to another optimizer, or hook its own anew?

    It may if the other holds all of what it maintains with its own, or if its own has lost the hooks.

    Args:
        new: to attach to.
        own: the one that it is attached to.
        lacking: gives the names of what an optimizer lacks, first.
    """
    if own is new:
        hooks = of(own)
        return hooks is None or not hooks.there(own)
    return set(lacking(new)[0]) <= set(lacking(own)[0])


def steps_elsewhere(optimizer: Optimizer | None) -> int:
    """Steps in a row that another optimizer made on what is maintained with this one, or this one without the hooks."""
    hooks = of(optimizer) if optimizer is not None else None
    return 0 if hooks is None else hooks.steps.missed
