"""The optimizer of a maintainer: whose steps it follows, and what is remembered of renewed entries."""

from typing import Any, Self

from torch import Tensor
from torch.optim import Optimizer

from ..names import Entry
from . import moments


class Attachment:
    """An optimizer, known or attached to.

    Args:
        optimizer: where to clear memory before anything is attached; None: nowhere.
        clear_moments: what of it: True, False or "zero".
    """

    def __init__(self, optimizer: object, clear_moments: object) -> None:
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"`optimizer` must be a torch.optim.Optimizer or None; got {type(optimizer).__name__}")
        if not isinstance(clear_moments, bool) and clear_moments != "zero":
            raise ValueError(f"`clear_moments` must be True, False or 'zero'; got {clear_moments!r}")
        self.optimizer: Optimizer | None = optimizer
        self.clear_moments: bool | str = clear_moments  # type: ignore[assignment]
        self.attached = False

    @property
    def followed(self) -> Optimizer | None:
        """The optimizer whose steps are followed, when attached."""
        return self.optimizer if self.attached else None

    @property
    def gradient_scale(self) -> Tensor | None:
        """By which a gradient scaler has multiplied the gradients, where the optimizer takes it out."""
        return getattr(self.optimizer, "grad_scale", None) if self.attached else None

    @property
    def clears(self) -> bool:
        """Is there memory to be cleared?"""
        return self.optimizer is not None and self.clear_moments is not False

    def forget(self, entry: Entry, mask: Tensor) -> None:
        """Clear the optimizer's memory of the entries of a parameter where the mask is True."""
        state = self.optimizer.state.get(entry.parameter) if self.optimizer is not None else None
        if state:
            moments.clear(state, mask, second="zero" if self.clear_moments == "zero" else "mean")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy knows of no optimizer."""
        new = type(self)(None, self.clear_moments)
        memo[id(self)] = new
        return new
