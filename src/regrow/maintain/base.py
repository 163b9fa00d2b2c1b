"""The front end of every method: which parameters, when, on which optimizer, from which seed, and how it is stored.

What a method does is said in `regrow.methods`; when it acts, in `step_loop`; on what, in `maintained`.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import check
from ..laws import Law
from ..methods import Counters, Method
from ..wiring import Units
from . import hooks, optimizers, storing
from .attachment import Attachment
from .default_seed import default_seed
from .hooks import outside_graphs
from .maintained import Maintained
from .policies import check_policies, check_precision
from .signal import has_signal, no_update
from .step_loop import StepLoop


class Maintainer:
    """Keeps a model plastic by a method. Call `attach(optimizer)` once, or `step()` after every `optimizer.step()`.

    `regrow.SWR(model, every=…)` and its sisters are this class with the method's knobs among their arguments; a method
    of your own goes in as an object.

    Args:
        model: any module; make this before training, because its parameters' laws are determined now.
        method: what to do, and how often.
        units: of a method that renews units: list of `regrow.Units`; None: `regrow.find_units(model)`.
        laws: {name pattern: law}, or the source of all: "auto", "modules", "values".
        only, skip: name patterns of what to maintain, to leave out.
        optimizer: where to clear moments if you call `step()` yourself; `attach` sets it.
        clear_moments: what the optimizer remembers of renewed entries: "zero": first and second moments 0; True: first
            moments 0, second moments the mean over the tensor's kept entries; "restart": both 0, and steps as long as
            those of a new Adam; False: both stay.
        seed: keys all random numbers, >= 0; None: from `torch.initial_seed()` and the initial parameters, of rank 0.
        track_overlap: keep a bit per weight and report how much of a renewal the one before renewed as well.
        state: from `state_dict()`, to go on from; its laws win, so that none is read off trained values.

    Raises:
        ValueError, TypeError: for an argument out of its range, a pattern that matches nothing, no trainable
            parameter, a complex or quantised one, one whose law cannot be determined, or a model without units.

    Example:
        >>> import torch, regrow
        >>> model = torch.nn.Linear(4, 2)
        >>> opt = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> swr = regrow.Maintainer(model, regrow.methods.SWR(every=2048, factor=1e-5)).attach(opt)
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        *,
        units: Sequence[Units] | None = None,
        laws: Mapping[str, Law] | str | None = None,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        optimizer: Optimizer | None = None,
        clear_moments: bool | str = "zero",
        seed: int | None = None,
        track_overlap: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(method, Method):
            raise TypeError(f"`method` must be a regrow.methods.Method; got {type(method).__name__}")
        self.method = method
        if seed is not None:
            seed = check.whole("seed", seed, 0, "random numbers are keyed by it")
        self._attachment = Attachment(optimizer, clear_moments)
        self._maintained = Maintained(model, method, units, laws, only, skip)
        seed = default_seed(self._maintained.coverage.all) if seed is None else seed
        check_policies(method, self._maintained)
        check_precision(method, self._maintained)
        track_overlap = check.flag("track_overlap", track_overlap)
        self._loop = StepLoop(method, self._maintained, self._attachment, seed, track_overlap)
        self._loaded = self._warned_of_elsewhere = False
        if state is not None:
            self.load_state_dict(state)

    @property
    def _who(self) -> str:
        return type(self.method).__name__

    @property
    def counters(self) -> Counters:
        """What its renewals amounted to."""
        return self._loop.stacked.counters

    @property
    def watching(self) -> bool:
        """Whether the coming update needs activations, from a forward pass that runs hooks."""
        units = self._maintained.units
        return self.method.reads_inputs or (units is not None and units.watching and self.method.reads_activations)

    @property
    def is_noise(self) -> bool:
        """True where it acts after all maintainers that renew."""
        return self.method.is_noise

    @property
    def off(self) -> bool:
        """True where the knobs are such that nothing ever happens."""
        return self.method.off

    @property
    def knobs(self) -> dict[str, Any]:
        """The method's own arguments, as numbers and strings."""
        clearing = {"clear_moments": self._attachment.clear_moments} if self.method.renews else {}
        return self.method.values() | clearing

    # Updates.

    @outside_graphs
    def step(self) -> None:
        """Count one update, and act if that is due. Call it after `optimizer.step()`, gradients still in place.

        Raises:
            RuntimeError: if the maintainer is attached (the optimizer makes this call then), or if the method needs
                gradients and there are none.
        """
        if self._attachment.attached:
            raise RuntimeError(
                f"{self._who} is attached, so its optimizer calls it at every step: drop your own step(), or detach() "
                "first"
            )
        if self.method.penalizes and not self.off:
            raise RuntimeError(
                f"{self._who} adds to the gradient before the optimizer's step, and step() comes after it: attach() it"
            )
        self._refuse_without_gradient()
        if no_update(self._attachment.optimizer) is True:
            return
        self._install()
        self._before_update(None)
        self._after_update(None)

    def _refuse_without_gradient(self) -> None:
        """Refuse a call after `zero_grad()` at once, not when the first renewal is due."""
        method = self.method
        first = self._loop.counter.attempts == 0 and method.needs_gradient and not method.by_unit
        if self.off or not (first or method.at_every_attempt):
            return
        entries = self._loop.entries()
        gradients = [g for entry in entries if (g := entry.parameter.grad) is not None]
        if not gradients or (first and not has_signal([entry.parameter for entry in entries])):
            raise RuntimeError(self._loop.no_gradient)

    def _install(self) -> None:
        """Watch the model again, where `detach` has ended that."""
        for watch in self._maintained.watches:
            if not watch.installed:
                watch.install()
                self._loop.plan()

    def _before_update(self, found_inf: Tensor | None, first: bool = True) -> None:
        self._loop.before_update(found_inf, first)

    def _penalty(self) -> Tensor | None:
        return self._loop.penalty()

    def _restore_gradients(self, optimizer: Optimizer) -> None:
        self._loop.restore_gradients(optimizer)

    def _after_update(self, found_inf: Tensor | None) -> None:
        self._loop.after_update(found_inf)

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
        target = optimizers.followed(optimizer)
        if target is None:
            kind = type(optimizer).__name__
            raise TypeError(f"attach takes a torch.optim.Optimizer; got {kind}: call step() yourself")
        kind, own = type(target).__name__, self._attachment.followed
        self._loop.refresh()
        lacking, all_of_it = self._maintained.lacking(target)
        if own is not None and not hooks.replaces(target, own, self._maintained.lacking):
            raise RuntimeError(f"{self._who} is attached already: detach() it, or make one per optimizer")
        if all_of_it:
            units = "of no layer of units both incoming and outgoing weights"
            why = "is it this model's?" if self._maintained.units is None else units
            raise ValueError(f"the {kind} holds none of the maintained parameters: {why}")
        if lacking:
            warnings.warn(
                f"{self._who} ignores parameters that the {kind} does not hold: {', '.join(lacking)}; add them to a "
                "parameter group, or exclude them with skip=[...]",
                stacklevel=2,
            )
        self._warn_of_late_start(optimizer)
        if own is not None:
            self.detach()
        self._attachment.know(optimizer)
        self._install()
        hooks.attach(self, target)
        self._attachment.attached = True
        self._maintained.leavers(target)
        self._warned_of_elsewhere = False
        return self

    def _warn_of_late_start(self, optimizer: object) -> None:
        """Warn if the optimizer has already taken steps but this maintainer has no stored state: forgotten, maybe."""
        untouched = self._loop.counter.attempts == 0 and not (self._loaded or self._attachment.optimizer is not None)
        if untouched and not self.off and optimizers.has_stepped(optimizers.with_memory(optimizer)):
            warnings.warn(
                f"{self._who} starts at step 0 with an optimizer that has taken steps: give it the state that was "
                "stored with the model, by state=... or load_state_dict(), or it takes trained values for initial ones",
                stacklevel=3,
            )

    def detach(self) -> None:
        """Undo `attach`, and leave no hook on optimizer and model. The counts stay, and `attach` goes on from them."""
        if self._attachment.followed is not None:
            hooks.detach(self, self._attachment.followed)
            self._attachment.attached = False
        for watch in self._maintained.watches:
            watch.remove()

    def covers(self, optimizer: Optimizer) -> bool:
        """Does an optimizer hold any of what is maintained, so that `attach` takes it?

        Args:
            optimizer: as for `attach`; False for what is none.

        Example:
            >>> import torch, regrow
            >>> actor, critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)
            >>> swr = regrow.SWR(actor, every=2, factor=0.1)
            >>> swr.covers(torch.optim.SGD(actor.parameters())), swr.covers(torch.optim.SGD(critic.parameters()))
            (True, False)
        """
        target = optimizers.followed(optimizer)
        if target is None:
            return False
        self._loop.refresh()
        return not self._maintained.lacking(target)[1]

    def _holds_any(self, parameters: set[int]) -> bool:
        return self._maintained.holds_any(parameters)

    def _warn_of_steps_elsewhere(self, why: str) -> None:
        if not self._warned_of_elsewhere and not self.off:
            self._warned_of_elsewhere = True
            warnings.warn(
                f"{self._who} does nothing at present: {why}; attach() it to the one that trains", stacklevel=4
            )

    def __copy__(self) -> Self:
        """A copy for the same model, with counts of its own. It is not attached."""
        model = self._maintained.coverage.model
        parts = [*model.modules(), *model.parameters(), *model.buffers()]
        new = copy.deepcopy(self, {id(part): part for part in parts})
        for watch in new._maintained.watches:
            watch.rebuild()
        new._loop.plan()
        return new

    # What it reports.

    @torch.no_grad()
    def preview(self) -> dict[str, Tensor]:
        """What the next update would renew, from the weights, gradients and activations of now. Changes nothing.

        SWR and ReDo answer as if a renewal were due; continual backpropagation by its schedule. Unit methods add up
        activations over ranks, so every rank must call it, and need a watched pass: one before an update that is due.

        Returns:
            A bool mask of the parameter's shape for each parameter, by canonical name.
        """
        entries = self._loop.entries()
        nothing = {e.name: torch.zeros_like(e.parameter, dtype=torch.bool) for e in entries}
        if self.off:
            return nothing
        if not self.method.renews:
            return {name: torch.full_like(mask, self.method.is_noise) for name, mask in nothing.items()}
        return nothing | self._loop.preview()

    def report(self) -> dict[str, float]:
        """Counts that show whether it fires; reading them waits for the device.

        Returns:
            `steps` (updates counted), `renewals` (firings), `renewed_total` and `renewed_last` (entries; of the unit
            methods, units), `share_last` (of all looked at), `zero_share_last` (share of the renewed whose utility was
            exactly 0), `mature_units`, `skipped_no_grad` (tensors, or layers of units, left alone for want of a
            gradient or of an lr), `skipped_nan` (tensors left out), `skipped_no_signal` (updates at which every
            gradient was 0); with `track_overlap=True` `overlap_last` (share of the renewed that the renewal before
            renewed as well); and where another optimizer has taken over, `steps_elsewhere` (its steps).
        """
        steps = self._loop.counter.steps
        mature = self._loop.stacked.dates.mature(steps)
        counts = {"steps": steps, "mature_units": 0 if mature is None else int(mature)}
        missed = hooks.steps_elsewhere(self._attachment.followed)
        return counts | self.counters.report() | ({"steps_elsewhere": missed} if missed else {})

    def __repr__(self) -> str:
        entries = self._maintained.shown()
        knobs = ", ".join(f"{name}={value!r}" for name, value in self.knobs.items())
        count = sum(entry.parameter.numel() for entry in entries)
        followed = self._attachment.followed
        where = "not attached" if followed is None else f"attached to {type(followed).__name__}"
        if missed := hooks.steps_elsewhere(followed):
            where += f", which has not been heard of for {missed} steps"
        return (
            f"{self._who}({knobs}, seed={self._loop.stacked.seeds[0]}; {len(entries)} tensors of {count:,} entries; "
            f"{where}; step {self._loop.counter.steps})"
        )

    # How it is stored.

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: tensors, numbers and strings, so `weights_only=True` loads it."""
        return storing.state_of(self._loop, self._maintained, self._attachment, self.knobs)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`. Seed, step and laws of the state win; of the knobs, those of this object.

        Args:
            state: from `state_dict()` of the same method.

        Raises:
            TypeError, ValueError: where it is something else; this object is then as before.
        """
        storing.load(self._loop, self._maintained, self._attachment, self.knobs, state)
        self._loaded = True
        self._loop.plan()
