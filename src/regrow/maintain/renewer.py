"""What the methods that renew share: the laws of the parameters, and the optimizer's memory of what they were."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core import random, renew
from ..laws import Law, law_from_dict, resolve_laws
from ..names import Entry
from . import moments
from .base import Maintainer
from .state_checks import field


class Renewer(Maintainer):
    """A maintainer that draws entries anew from the law of their parameter."""

    def __init__(
        self,
        model: nn.Module,
        *,
        laws: Mapping[str, Law] | str | None,
        optimizer: Optimizer | None,
        clear_moments: bool | str,
        **common: Any,
    ) -> None:
        super().__init__(model, **common)
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"`optimizer` must be a torch.optim.Optimizer or None; got {type(optimizer).__name__}")
        if not isinstance(clear_moments, bool):
            if clear_moments != "zero":
                raise ValueError(f"`clear_moments` must be True, False or 'zero'; got {clear_moments!r}")
        self._optimizer = optimizer
        self._clear_moments = clear_moments
        self._given_laws = laws
        self._laws: dict[str, Law] = {}
        self._shapes: dict[str, torch.Size] = {}
        self._kinds: dict[str, type[nn.Module]] = {}  # of the modules when the laws were taken
        self._admit(self._cover.entries)

    def _admit(self, entries: list[Entry]) -> None:
        """Find the law of every parameter that has none yet, or is not of the shape it had."""
        new = [e for e in entries if e.parameter.numel() and self._shapes.get(e.name) != e.parameter.shape]
        self._laws |= resolve_laws(new, self._given_laws, among=self._cover.all)
        self._shapes |= {e.name: e.parameter.shape for e in new if e.name in self._laws}
        self._kinds |= {e.name: type(e.module) for e in new}

    def _law(self, entry: Entry) -> Law:
        if entry.name not in self._laws:
            raise ValueError(
                f"{entry.name!r} was frozen when the laws were taken and has none: "
                f"give it one with laws={{{entry.name!r}: ...}}, or leave it out with skip={entry.name!r}"
            )
        if entry.name in self._kinds and self._kinds[entry.name] is not type(entry.module):
            was, now = self._kinds[entry.name].__name__, type(entry.module).__name__
            raise ValueError(
                f"the module of {entry.name!r} was a {was} when its law was taken and is a {now} now: make the "
                "maintainer after converting the model"
            )
        return self._laws[entry.name]

    def _key(self, step: int, name: str, purpose: str) -> int:
        """What a draw is for: seed, method, member (one network: 0), step, tensor, purpose."""
        key = random.key(self._seed, self.method, 0, step, name, purpose)
        assert isinstance(key, int)
        return key

    def _renew(self, entry: Entry, mask: Tensor, law: Law, step: int) -> None:
        """Draw the selected entries of one parameter from a law."""
        key = self._key(step, entry.name, "value")
        if law.std == 0:
            entry.parameter.masked_fill_(mask, law.mean)
        else:
            renew.resample_(entry.parameter, mask, lambda index: law.draw(random.bits(key, index)))

    def _forget(self, entry: Entry, mask: Tensor) -> None:
        """Clear the optimizer's memory of the renewed entries, where an optimizer is known."""
        state = self._optimizer.state.get(entry.parameter) if self._optimizer is not None else None
        if state and self._clears_moments:
            moments.clear(state, mask, second="zero" if self._clear_moments == "zero" else "mean")

    @property
    def _clears_moments(self) -> bool:
        return self._optimizer is not None and self._clear_moments is not False

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"laws": {name: law.to_dict() for name, law in self._laws.items()}}

    def _restore(self, state: Mapping[str, Any]) -> None:
        laws = {name: law_from_dict(stored) for name, stored in field(state, "laws", Mapping).items()}
        self._laws |= laws
        self._shapes |= {e.name: e.parameter.shape for e in self._cover.entries if e.name in laws}
