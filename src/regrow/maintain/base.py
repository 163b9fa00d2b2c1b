"""What all maintainers share: which parameters, when, on which optimizer, from which seed, and how it is stored.

A method states its arguments, and what a firing does (`_fire`). Everything else is here: there is one step loop.
"""

import abc
import copy
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import check
from ..names import Entry
from . import distributed, hooks
from .counters import Tally
from .coverage import Cover
from .hooks import outside_graphs
from .state_checks import VERSION, read
from .step_counter import Clock


class Maintainer(abc.ABC):
    """Keeps a model plastic. Call `attach(optimizer)` once, or `step()` after every `optimizer.step()`."""

    method: ClassVar[str]
    after_renewers: ClassVar[bool] = False

    _every: int | None = None  # None: something happens at each update

    def __init__(
        self, model: nn.Module, *, only: object, skip: object, seed: int | None, track_overlap: bool = False
    ) -> None:
        self._only, self._skip = check.patterns("only", only), check.patterns("skip", skip)
        self._seed = _resolve_seed(seed)
        self._cover = Cover(model, self._only, self._skip)
        self._clock = Clock()
        self._tally = Tally(check.flag("track_overlap", track_overlap))
        self._optimizer: Optimizer | None = None
        self._attached = False
        self._recent: tuple[Any, list[Entry]] | None = None  # what `_entries` found, and what that depends on

    # What a method provides.

    @property
    @abc.abstractmethod
    def knobs(self) -> dict[str, Any]:
        """The method's own arguments, as numbers and strings."""

    @property
    @abc.abstractmethod
    def off(self) -> bool:
        """True where the knobs say that nothing shall ever happen."""

    @abc.abstractmethod
    def _fire(self, found_inf: Tensor | None) -> None:
        """Do what is due at this update."""

    @abc.abstractmethod
    def _masks(self) -> dict[str, Tensor]:
        """What `_fire` would change if the next update were now."""

    def _before_update(self, found_inf: Tensor | None) -> None:  # noqa: B027 (may stay empty)
        """Called before the optimizer's step, when attached."""

    # The step loop.

    @outside_graphs
    def step(self) -> None:
        """Count one update, and renew if one is due. Call it after `optimizer.step()`, gradients still in place.

        Raises:
            RuntimeError: if the maintainer is attached (the optimizer makes this call then), or if the method needs
                gradients and there are none.
        """
        if self._attached:
            raise RuntimeError(
                f"{type(self).__name__} is attached, so its optimizer calls it at every step: drop your own step(), "
                "or detach() first"
            )
        self._check_manual_step()
        self._before_update(None)
        self._after_update(None)

    def _check_manual_step(self) -> None:  # noqa: B027
        """Refuse a mistake that would otherwise show only when something is due."""

    @torch.no_grad()
    def _after_update(self, found_inf: Tensor | None) -> None:
        self._clock.tick(found_inf)
        if self.off:
            return
        self._observe(found_inf)
        if self._due():
            self._fire(found_inf)
        self._settle()

    def _observe(self, found_inf: Tensor | None) -> None:  # noqa: B027
        """Called at every update, before anything is renewed."""

    def _due(self) -> bool:
        """Is something to be done at this update? Waits for the device only if it may be."""
        return self._every is None or self._clock.due(self._every)

    def _settle(self) -> None:  # noqa: B027
        """Called at every update, after what was due."""

    def _entries(self) -> list[Entry]:
        """The maintained parameters that are trainable now and, when attached, in the optimizer."""
        if self._cover.refresh():
            self._admit(self._cover.entries)
            self._recent = None
        groups = [g["params"] for g in self._optimizer.param_groups] if self._attached and self._optimizer else []
        now = ([(id(p), len(p)) for p in groups], [e.parameter.requires_grad for e in self._cover.entries])
        if self._recent is None or self._recent[0] != now:
            held = self._held()
            self._recent = now, [e for e in self._maintained() if held is None or id(e.parameter) in held]
        return self._recent[1]

    def _maintained(self) -> list[Entry]:
        """The trainable parameters that this maintainer may change."""
        return self._cover.trainable()

    def _held(self) -> set[int] | None:
        """Identities of what the optimizer holds, when attached."""
        return _ids(self._optimizer) if self._attached and self._optimizer else None

    def _admit(self, entries: list[Entry]) -> None:  # noqa: B027
        """Called when the model's parameters are others than before."""

    # The optimizer.

    def attach(self, optimizer: Optimizer) -> Self:
        """Have an optimizer call this maintainer around each of its steps, through its own step hooks.

        Steps that a `GradScaler` skips are not counted. Several maintainers of one optimizer run in the order of
        attaching, those that renew before those that add noise.

        Args:
            optimizer: holds parameters of the model; those that it lacks are left alone and named in a warning.
                Parameter groups added later are looked after from then on.

        Returns:
            The maintainer itself.

        Raises:
            RuntimeError: at a second attach.
            TypeError: where `optimizer` has no step hooks.
            ValueError: where it holds none of the parameters.

        Example:
            >>> import torch, regrow
            >>> model = torch.nn.Linear(4, 2)
            >>> opt = torch.optim.SGD(model.parameters(), lr=0.1)
            >>> swr = regrow.SWR(model, every=2, factor=0.1).attach(opt)
            >>> for _ in range(4):
            ...     model(torch.ones(1, 4)).sum().backward()
            ...     opt.step()
            >>> swr.report()["renewals"]
            2
        """
        if self._attached:
            raise RuntimeError(f"{type(self).__name__} is attached already: detach() it, or make one per optimizer")
        if not isinstance(optimizer, Optimizer):
            kind = type(optimizer).__name__
            raise TypeError(f"attach takes a torch.optim.Optimizer; got {kind}: call step() yourself")
        held = _ids(optimizer)
        lacking, nothing_left = self._lacking(held)
        if nothing_left:
            kind = type(optimizer).__name__
            raise ValueError(f"the {kind} holds none of the maintained parameters: is it this model's?")
        if lacking:
            warnings.warn(
                f"{type(self).__name__} leaves alone what the {type(optimizer).__name__} lacks: {', '.join(lacking)}",
                stacklevel=2,
            )
        hooks.attach(self, optimizer)
        self._optimizer, self._attached = optimizer, True
        return self

    def _lacking(self, held: set[int]) -> tuple[list[str], bool]:
        """What cannot be maintained with an optimizer that holds these parameters, and whether that is everything."""
        entries = self._maintained()
        lacking = [e.name for e in entries if id(e.parameter) not in held]
        return lacking, len(lacking) == len(entries)

    def detach(self) -> None:
        """Undo `attach`. The counts stay; does nothing if not attached."""
        if self._attached and self._optimizer is not None:
            hooks.detach(self, self._optimizer)
            self._attached = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy for the model's copy, if both are copied together. It is not attached: attach it to its optimizer."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for name, value in vars(self).items():
            setattr(new, name, None if name in ("_optimizer", "_recent") else copy.deepcopy(value, memo))
        new._attached = False
        return new

    # What it tells.

    @torch.no_grad()
    def preview(self) -> dict[str, Tensor]:
        """What the next update would renew, from the weights, gradients and activations of now. Changes nothing.

        SWR and ReDo answer as if a renewal were due; continual backpropagation by its schedule. Unit methods add up
        activations over ranks, so every rank must call it, and need a watched pass: one before an update that is due.

        Returns:
            A bool mask of the parameter's shape for each parameter, by canonical name.
        """
        nothing = {e.name: torch.zeros_like(e.parameter, dtype=torch.bool) for e in self._entries()}
        return nothing if self.off else nothing | self._masks()

    def report(self) -> dict[str, float]:
        """Counts that show whether it fires; reading them waits for the device.

        Returns:
            `steps` (updates counted), `renewals` (firings), `renewed_total` and `renewed_last` (entries; of the unit
            methods, units), `share_last` (of all looked at), `zero_share_last` (share of the renewed whose utility was
            exactly 0), `mature_units`, `skipped_no_grad` and `skipped_nan` (tensors left out), and with
            `track_overlap=True` `overlap_last` (share of the renewed that the renewal before renewed as well).
        """
        return {"steps": self._clock.steps, "mature_units": 0} | self._tally.report()

    def __repr__(self) -> str:
        entries = self._maintained()
        knobs = ", ".join(f"{name}={value!r}" for name, value in self.knobs.items())
        count = sum(entry.parameter.numel() for entry in entries)
        where = f"attached to {type(self._optimizer).__name__}" if self._attached else "not attached"
        return (
            f"{type(self).__name__}({knobs}, seed={self._seed}; {len(entries)} tensors of {count:,} entries; "
            f"{where}; step {self._clock.steps})"
        )

    # How it is stored.

    def _restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take over what the method itself stored; check all of it before changing anything."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: tensors, numbers and strings, so `weights_only=True` loads it."""
        return {
            "version": VERSION,
            "method": self.method,
            "step": self._clock.steps,
            "attempts": self._clock.attempts,
            "seed": self._seed,
            "knobs": dict(self.knobs),
            "tally": self._tally.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`. Seed, step and laws of the state win; of the knobs, those of this object.

        Args:
            state: from `state_dict()` of the same method.

        Raises:
            TypeError, ValueError: where it is something else; this object is then as before.
        """
        stored = read(state, self.method)
        differing = {k: v for k, v in stored.knobs.items() if k in self.knobs and self.knobs[k] != v}
        if differing:
            listed = ", ".join(f"{k} stored {v!r}, here {self.knobs[k]!r}" for k, v in differing.items())
            warnings.warn(f"{type(self).__name__}: knobs differ from the stored ones and stay: {listed}", stacklevel=2)
        self._restore(state)
        self._seed = stored.seed
        self._clock.reset(stored.step, stored.attempts)
        self._tally.load_state_dict(stored.tally)
        self._settle()


def _ids(optimizer: Optimizer) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _resolve_seed(seed: int | None) -> int:
    """A given seed, or torch's initial one, which all ranks take from rank 0."""
    if seed is not None:
        return check.whole("seed", seed, 0, "random numbers are keyed by it")
    return distributed.agreed_seed(torch.initial_seed())
