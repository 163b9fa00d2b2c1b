"""Updates that a maintainer does not see: its own hooks are gone, or another optimizer has taken over.

A global torch hook, called after every optimizer's step, detects them. It exists while any maintainer is attached, and
keeps no reference to model or optimizer.
"""

import weakref
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from .optimizers import inner

ATTRIBUTE = "_regrow_hooks"
IN_A_ROW = 3

_all: list["weakref.ref[Steps]"] = []
_handle: Any = None


class Steps:
    """Watches all optimizers' steps on behalf of one optimizer's hooks.

    Args:
        hooks: of the watched optimizer; has `maintainers`.
    """

    def __init__(self, hooks: Any) -> None:
        self._hooks = weakref.ref(hooks)
        self.begin()

    def begin(self) -> None:
        """Start watching: clear all counts, and hook the steps of all torch optimizers unless that is done already."""
        global _handle
        self.inside = False  # this optimizer is making a step, which may step another one inside it
        self.ran = False  # its hooks ran in its last step
        self.gone = False
        self.missed = 0  # steps in a row of another optimizer, once it is known to be of the same parameters
        self._other: weakref.ref[Optimizer] | None = None
        self._count = 0
        if all(steps() is not self for steps in _all):
            _all.append(weakref.ref(self, _forget))
        if _handle is None:
            _handle = register_optimizer_step_post_hook(_after_any_step)

    def end(self) -> None:
        """Nothing is attached any more."""
        _all[:] = [steps for steps in _all if steps() not in (None, self)]
        _stop_if_idle()

    def own(self) -> None:
        """This optimizer has made a step."""
        if self.ran:
            self.ran, self.missed, self._count, self._other = False, 0, 0, None
            return
        self.missed += 1
        if not self.gone:
            self.gone = True
            self._warn("its hooks are gone from the optimizer, whose __init__ must have run again")

    def other(self, optimizer: Optimizer) -> None:
        """Another optimizer has made a step."""
        if self.inside:
            return
        last = None if self._other is None else self._other()
        if last is not None and inner(optimizer) is last:
            return  # a wrapper's step, which was the inner one's
        if last is not optimizer:
            self._other, self._count, self.missed = weakref.ref(optimizer), 0, 0
        self._count += 1
        if self.missed:
            self.missed += 1
        elif self._count == IN_A_ROW:
            self._judge(optimizer)

    def _judge(self, optimizer: Optimizer) -> None:
        """Warn if an optimizer that has made some steps alone holds what is maintained here."""
        hooks, held = self._hooks(), {id(p) for group in optimizer.param_groups for p in group["params"]}
        if hooks is not None and any(maintainer._holds_any(held) for maintainer in hooks.maintainers):
            self.missed = self._count
            kind = type(optimizer).__name__
            self._warn(f"another optimizer, of type {kind}, made {IN_A_ROW} steps in a row on what is maintained")

    def _warn(self, why: str) -> None:
        hooks = self._hooks()
        for maintainer in hooks.maintainers if hooks is not None else ():
            maintainer._warn_of_steps_elsewhere(why)


def _after_any_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if torch.compiler.is_compiling():
        return
    own = optimizer.__dict__.get(ATTRIBUTE)
    for reference in _all:
        steps = reference()
        if steps is None:
            continue
        if own is not None and own.steps is steps:
            steps.own()
        else:
            steps.other(optimizer)


def _forget(reference: "weakref.ref[Steps]") -> None:
    _all[:] = [steps for steps in _all if steps is not reference]
    _stop_if_idle()


def _stop_if_idle() -> None:
    global _handle
    if not _all and _handle is not None:
        _handle.remove()
        _handle = None
