"""Where maintainers sit on an optimizer: its own step hooks, never backward hooks.

One pair of hooks serves all maintainers of an optimizer, so that they run in a fixed order: renewers before noise,
each in the order of attaching.
"""

from typing import Any, ClassVar, Protocol

from torch import Tensor
from torch.optim import Optimizer

from .eager import outside_graphs


class Attached(Protocol):
    """What a seat calls."""

    after_renewers: ClassVar[bool]

    def _before_update(self, found_inf: Tensor | None) -> None: ...
    def _after_update(self, found_inf: Tensor | None) -> None: ...


class Seat:
    """The maintainers of one optimizer."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._maintainers: list[Attached] = []
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    @outside_graphs
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Run what comes before the update: now, or if the gradients come from a closure, after its first call."""
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._begin(optimizer)
            return None
        begun = False

        def then_begin() -> Any:
            nonlocal begun
            loss = closure()
            if not begun:
                self._begin(optimizer)
            begun = True
            return loss

        return ((args[0], then_begin, *args[2:]), kwargs) if len(args) > 1 else (args, kwargs | {"closure": then_begin})

    def _begin(self, optimizer: Optimizer) -> None:
        for maintainer in self._maintainers:
            maintainer._before_update(getattr(optimizer, "found_inf", None))

    @outside_graphs
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for maintainer in self._maintainers:
            maintainer._after_update(getattr(optimizer, "found_inf", None))

    def add(self, maintainer: Attached) -> None:
        self._maintainers.append(maintainer)
        self._maintainers.sort(key=lambda m: m.after_renewers)  # stable

    def remove(self, maintainer: Attached) -> bool:
        """Take a maintainer off; True if it was the last one."""
        self._maintainers = [m for m in self._maintainers if m is not maintainer]
        if not self._maintainers:
            for handle in self._handles:
                handle.remove()
        return not self._maintainers


# The optimizer itself keeps its seat: the two go together, and neither is copied or stored with the optimizer's state.
_SEAT = "_regrow_seat"


def attach(maintainer: Attached, optimizer: Optimizer) -> None:
    """Have the optimizer call the maintainer around each of its steps."""
    if not hasattr(optimizer, _SEAT):
        setattr(optimizer, _SEAT, Seat(optimizer))
    getattr(optimizer, _SEAT).add(maintainer)


def detach(maintainer: Attached, optimizer: Optimizer) -> None:
    """Undo `attach`."""
    if getattr(optimizer, _SEAT).remove(maintainer):
        delattr(optimizer, _SEAT)
