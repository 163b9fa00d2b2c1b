"""The optimizer of a maintainer: whose steps it follows, and what is remembered of renewed entries."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ..names import Entry, unsupported
from ..shards import local
from . import moments, optimizers, restart
from .restart import Restarts
from .signal import frozen

CLEARING = (True, False, "zero", "restart")


class Attachment:
    """An optimizer, known or attached to, and the optimizers inside it.

    Args:
        optimizer: where to clear memory before anything is attached; None: nowhere.
        clear_moments: what of it: True, False, "zero" or "restart".
    """

    def __init__(self, optimizer: object, clear_moments: object) -> None:
        if optimizer is not None and optimizers.followed(optimizer) is None:
            raise TypeError(f"`optimizer` must be a torch.optim.Optimizer or None; got {type(optimizer).__name__}")
        if not isinstance(clear_moments, bool | str) or clear_moments not in CLEARING:
            raise ValueError(f"`clear_moments` must be True, False, 'zero' or 'restart'; got {clear_moments!r}")
        self.clear_moments: bool | str = clear_moments
        self.attached = False
        self.optimizer: Optimizer | None = None  # whose steps are followed, if they are
        self._memory: list[Optimizer] = []
        self._warned: set[str] = set()
        self.restarts = Restarts() if clear_moments == "restart" else None
        if optimizer is not None:
            self.know(optimizer)

    def know(self, optimizer: object) -> None:
        """Remember the optimizer, or a wrapper of it."""
        memory = optimizers.with_memory(optimizer)
        for own in memory if self.restarts is not None else ():
            restart.refuse(own)
        self.optimizer, self._memory = optimizers.followed(optimizer), memory

    @property
    def followed(self) -> Optimizer | None:
        """The optimizer whose steps are followed, when attached."""
        return self.optimizer if self.attached else None

    @property
    def gradient_scale(self) -> Tensor | None:
        """The factor that a gradient scaler has put on the gradients, where the optimizer removes it."""
        return getattr(self.optimizer, "grad_scale", None) if self.attached else None

    @property
    def changes_gradients(self) -> bool:
        """Does a step of the optimizer, or of one inside it, change `.grad`?"""
        return any(map(optimizers.changes_gradients, self._memory))

    @property
    def maximized(self) -> set[int]:
        """Identities of the parameters that the optimizer moves up the gradient."""
        groups = self.optimizer.param_groups if self.optimizer is not None else ()
        return {id(p) for group in groups if group.get("maximize") for p in group["params"]}

    @property
    def clears(self) -> bool:
        """Is there memory to be cleared?"""
        return self.optimizer is not None and self.clear_moments is not False

    def frozen(self, wait: bool) -> set[int]:
        """Identities of the parameters in groups whose lr is 0."""
        return frozen(self.optimizer, wait)

    def refuse_memory(self, entries: Iterable[Entry]) -> None:
        """Refuse memory that cannot be cleared entry by entry, before anything is changed.

        Raises:
            TypeError: where a state holds tensors of a kind of their own.
        """
        for entry in entries if self.clears else ():
            for state in optimizers.states(self._memory, entry.parameter):
                for key, value in state.items():
                    if isinstance(value, Tensor) and (why := unsupported(value)):
                        raise TypeError(
                            f"optimizer state {key!r} of {entry.name!r} cannot be cleared because it is {why}; "
                            "or keep it with clear_moments=False"
                        )

    def correct(self, entries: Iterable[Entry], skipped: Tensor | None) -> None:
        """After a step of the optimizer: make the steps of restarted entries as long as a new optimizer's."""
        if self.restarts is not None and self.restarts.born:
            self.restarts.correct(entries, self._memory, skipped)

    def sums(self, entry: Entry, mask: Tensor) -> dict[tuple[int, str], Tensor]:
        """What `forget` must be given the totals of, where a parameter lies in shards."""
        if self.clear_moments is not True:
            return {}
        states = optimizers.states(self._memory, entry.parameter)
        return {(i, key): s for i, state in enumerate(states) for key, s in moments.sums(state, mask).items()}

    def forget(self, entry: Entry, mask: Tensor, totals: Mapping[tuple[int, str], Tensor] | None = None) -> None:
        """Clear the optimizers' memory of the entries of a parameter where the mask is True.

        Args:
            entry: the parameter.
            mask: of the shape of the parameter or, in shards, of its part here.
            totals: in shards, of what `sums` returned.
        """
        second = "mean" if self.clear_moments is True else "zero"
        for i, state in enumerate(optimizers.states(self._memory, entry.parameter)):
            if "old_dirs" not in state and "prev_flat_grad" not in state:
                own = {key: total for (j, key), total in (totals or {}).items() if j == i}
                weight = local(entry.parameter).detach()
                moments.clear(state, mask, second, weight=weight, warned=self._warned, totals=own)
                if self.restarts is not None:
                    self.restarts.renew(entry, mask, state)
        for state in optimizers.history(self._memory):
            if bool(mask.any()):  # its steps depend on all entries at once: it begins anew
                state.clear()

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or what is read from a file, knows of no optimizer: attach it to its own."""
        return vars(self) | {"optimizer": None, "attached": False, "_memory": [], "_warned": set()}
