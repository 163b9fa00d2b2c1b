"""The one step loop: what happens before and after each update of an optimizer, whatever the method."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..methods import Members, Method, ModuleNetwork, StackedMethod
from ..names import Entry
from ..shards import local
from .attachment import Attachment
from .maintained import Maintained, Memory, identities
from .signal import has_signal
from .step_counter import StepCounter


class StepLoop:
    """Counts updates and has a method act on a model when that is due.

    Args:
        method: what is done.
        maintained: to what.
        attachment: the optimizer that makes the updates.
        seed: keys all random numbers.
        track_overlap: count how much of a renewal the one before renewed as well.
    """

    def __init__(
        self, method: Method, maintained: Maintained, attachment: Attachment, seed: int, track_overlap: bool
    ) -> None:
        self.method, self._maintained, self._attachment = method, maintained, attachment
        self.counter = StepCounter()
        self.stacked = StackedMethod([method], [0], [seed], track_overlap=track_overlap)
        self._off, self._rests = method.off, not (method.at_every_attempt or method.observes)
        self._next: int | None = None
        self._gradients_before: list[tuple[nn.Parameter, Tensor]] = []
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._warned: set[str] = set()
        self.stacked.dates.admit(maintained.admit(), [0], 0)
        self.plan()

    @property
    def _who(self) -> str:
        return type(self.method).__name__

    def refresh(self) -> None:
        """Look at the model again, if it has changed."""
        if self._maintained.coverage.refresh():
            self.stacked.dates.admit(self._maintained.admit(), [0], self.counter.steps)
            self._next = self._next if self.method.off else self.stacked.dates.soonest(self._next)

    def entries(self) -> list[Entry]:
        """The maintained parameters that are trainable now and, when attached, in the optimizer."""
        self.refresh()
        return self._maintained.entries(self._attachment.followed)

    # Around an update.

    def before_update(self, found_inf: Tensor | None, first: bool = True) -> None:
        """Before the optimizer's step is counted; `first`: at its first gradient, where a closure computes several."""
        if self._off:
            return
        self._maintained.settle_laws()
        if self.method.at_every_attempt and (first or self.method.penalizes):
            self._act_before(found_inf)
        if self.method.needs_gradient:
            self._keep_gradients()

    @torch.no_grad()
    def _keep_gradients(self) -> None:
        """Copy what the optimizer's step would change, at an update at which something may be due."""
        due = self._next is None or self.counter.at_most + 1 >= self._next
        if due and self._attachment.changes_gradients:
            gradients = (local(entry.parameter.grad) for entry in self._live(self.entries()))
            self._copies = [(g, g.clone()) for g in gradients if g is not None]

    @torch.no_grad()
    def _act_before(self, found_inf: Tensor | None) -> None:
        if live := self._live(self.entries()):
            network = self._network(live)
            self.method.before(self._members(network, self.counter.attempts + 1, found_inf))
            self._gradients_before = network.gradients_before

    @torch.no_grad()
    def penalty(self) -> Tensor | None:
        """What the method adds to the loss, if it does."""
        if self.method.off or not self.method.penalizes:
            return None
        live = self._live(self.entries())
        return self.method.penalty(self._members(self._network(live), self.counter.attempts + 1))[0] if live else None

    def restore_gradients(self, optimizer: Optimizer) -> None:
        """Put the gradients of the loss back where a penalty was added to them, or the optimizer changed them."""
        self._put_copies_back()
        scale, skipped = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        for parameter, g in reversed(self._gradients_before):
            if scale is not None:  # a fused optimizer leaves gradients unscaled, but at a step that it skips
                by = scale if skipped is None else torch.where(skipped == 0, scale, torch.ones_like(scale))
                local(g).div_(by.to(g.device))
            parameter.grad = g
        self._gradients_before = []

    @torch.no_grad()
    def _put_copies_back(self) -> None:
        for g, copy in self._copies:
            g.copy_(copy)
        self._copies = []

    def after_update(self, found_inf: Tensor | None) -> None:
        """Count an update, and act if that is due."""
        self.counter.tick(found_inf)
        if not (self._off or self._nothing_to_do()):
            self._act_after(found_inf)

    def _nothing_to_do(self) -> bool:
        """Is nothing due now or at the coming update? Most updates are such, and should cost next to nothing."""
        units, attachment = self._maintained.units, self._attachment
        rests = self._rests and attachment.restarts is None and (units is None or not units.watching)
        return rests and self._next is not None and self.counter.at_most + 1 < self._next

    @torch.no_grad()
    def _act_after(self, found_inf: Tensor | None) -> None:
        """Correct the step of restarted entries, show the update to the method, act if due, and plan the next one.

        found_inf: nonzero where the gradient scaler has skipped the step.
        """
        if self._attachment.restarts is not None:
            units = self._maintained.units
            self._attachment.correct(self._live(self.entries() if units is None else units.entries), found_inf)
        if self.method.observes:
            self._observe(found_inf)
        if self.method.at_every_attempt:
            self._act_always(found_inf)
        elif self._next is not None and self.counter.reached(self._next):
            self._act(self.counter.steps)
            self._next = self.stacked.dates.next(self.counter.steps)
        self._settle()

    def plan(self) -> None:
        """Note the next update at which something is due, and what it needs."""
        self._next = None if self.method.off else self.stacked.dates.next(self.counter.steps)
        self._settle()

    def _settle(self) -> None:
        """Have the coming update's activations summed, where it needs them."""
        units, inputs = self._maintained.units, self._maintained.inputs
        if inputs is not None:
            inputs.watch()
        if units is not None:
            units.watch([] if self.method.off else self.stacked.dates.watched(self.counter.at_most + 1))

    def _observe(self, found_inf: Tensor | None) -> None:
        """Show the method an update."""
        units = self._maintained.units
        self.refresh()
        if units is None:
            if self._maintained.inputs is not None:
                self.method.observe(self._members(self._maintained.seen(), self.counter.attempts, found_inf))
            elif live := self._live(self.entries()):
                self.method.observe(self._members(self._network(live), self.counter.attempts, found_inf))
            return
        layers = [i for i in units.ready(identities(self._attachment.followed)) if units.seen(i)]
        if layers:
            network = self._maintained.of_units(units.activities(layers), self._memory)
            self.method.observe(self._members(network, self.counter.attempts, found_inf, layers))

    # What is due.

    def _act_always(self, found_inf: Tensor | None) -> None:
        """Do what is done at each step of the optimizer."""
        self._warn_of_leavers()
        entries = [entry for entry in self.entries() if entry.parameter.numel()]
        live = self._live(entries)
        self.stacked.counters.skipped_no_grad += len(entries) - len(live)
        if live:
            self.stacked.begin()
            members = self._members(self._network(live), self.counter.attempts, found_inf)
            self.method.act(members)
            members.finish()

    def _act(self, step: int) -> None:
        """Do what is due at this update."""
        self._warn_of_leavers()
        if self._maintained.units is not None:
            self._act_on_units(step)
            return
        entries = [entry for entry in self.entries() if entry.parameter.numel()]
        self._maintained.settle_laws()  # the model may have grown since the last one
        live = self._live(entries, wait=True)
        self._refuse_without_gradient(entries, by_hand=not self._attachment.attached)
        self.stacked.counters.skipped_no_grad += len(entries) - len(live)
        if self._signal() and live:
            self._attachment.refuse_memory(live if self.method.renews else ())
            self.stacked.act(step, self._network(live), None, [0])

    def _act_on_units(self, step: int) -> None:
        units = self._maintained.units
        assert units is not None
        self.refresh()
        self._maintained.settle_laws()
        held = identities(self._attachment.followed)
        due = self._due_layers(units.ready(held), step)
        if not due:
            return
        activities = units.activities(due)  # refuses an update without a forward pass
        self._refuse_without_gradient(units.entries, by_hand=not self._attachment.attached)
        live = {id(entry.parameter) for entry in self._live(units.entries, wait=True)}
        layers = self._due_layers(units.ready(live if held is None else live & held), step)
        self.stacked.counters.skipped_no_grad += len(due) - len(layers)
        if self._signal() and layers:
            self._attachment.refuse_memory(units.entries)
            network = self._maintained.of_units({i: a for i, a in activities.items() if i in layers}, self._memory)
            self.stacked.act(step, network, None, [0], layers)

    @torch.no_grad()
    def preview(self) -> dict[str, Tensor]:
        """Masks of what would be renewed if the next update were now, of what is looked at."""
        units, step, layers = self._maintained.units, self.counter.steps + 1, None
        entries = self.entries()
        self._maintained.settle_laws()
        if units is None:
            self._refuse_without_gradient(entries, by_hand=True)
        if not self._has_signal():
            return {}
        if units is None:
            live = self._live([entry for entry in entries if entry.parameter.numel()], wait=True)
            network = self._network(live)
        else:
            held = identities(self._attachment.followed)
            layers = self._due_layers(units.ready(held, watched=False), step)
            network = self._maintained.of_units(units.activities(layers, stale=True), self._memory)
        members = Members(self.stacked, step, network, [0], layers, preview=True)
        self.method.act(members)
        members.finish()
        return {name: network.whole(name, mask[0]) for name, mask in members.masks.items()}

    def _due_layers(self, ready: Sequence[int], step: int) -> list[int]:
        due = self.stacked.dates.layers(step)
        return [i for i in ready if due is None or i in due]

    # What may be changed.

    def _live(self, entries: Sequence[Entry], wait: bool = False) -> list[Entry]:
        """Those that an update changes: they have a gradient, and the lr of their group is not 0.

        If you call `step()` yourself after `zero_grad()`, it is unknown which had a gradient; a method that does not
        need gradients then treats all as live.
        """
        frozen = self._attachment.frozen(wait)
        learning = [entry for entry in entries if id(entry.parameter) not in frozen]
        live = [entry for entry in learning if entry.parameter.grad is not None]
        unknown = not self._attachment.attached and not self.method.at_every_attempt and not self.method.needs_gradient
        return learning if unknown and self._none_has_gradient(entries) else live

    def _none_has_gradient(self, entries: Sequence[Entry]) -> bool:
        return all(entry.parameter.grad is None for entry in entries)

    def _refuse_without_gradient(self, entries: Sequence[Entry], by_hand: bool) -> None:
        """Refuse a call at which no gradient is in place, as after `zero_grad()`."""
        if by_hand and entries and self.method.needs_gradient and self._none_has_gradient(entries):
            raise RuntimeError(self.no_gradient)

    @property
    def no_gradient(self) -> str:
        """What to say where no gradient is in place."""
        return (NO_GRADIENT if self.method.needs_gradient else LEFT_ALONE).format(name=self._who)

    def _signal(self) -> bool:
        """False, and counted, if the method uses gradients and every gradient of the trained parameters is zero."""
        there = self._has_signal()
        if not there:
            self.stacked.counters.skipped_no_signal += 1
            self._warn_once(NO_SIGNAL.format(name=self._who, step=self.counter.steps))
        return there

    def _has_signal(self) -> bool:
        parameters = self._maintained.parameters(self._attachment.optimizer)
        return not self.method.needs_gradient or has_signal(parameters)

    def _warn_of_leavers(self) -> None:
        """Warn of what was maintained and no longer is, though nobody has frozen it."""
        followed = self._attachment.followed
        if followed is None:
            return
        self.refresh()
        for name in self._maintained.leavers(followed):
            self._warn_once(LEFT.format(name=self._who, left=name, kind=type(followed).__name__))

    def _warn_once(self, message: str) -> None:
        kind = message.split(":")[0]
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(message, stacklevel=2)

    # What the method works on.

    @property
    def _memory(self) -> Memory | None:
        """The optimizer's memory of renewed entries, where it is known and to be cleared."""
        return self._attachment if self.method.renews and self._attachment.clears else None

    def _network(self, entries: list[Entry]) -> ModuleNetwork:
        attachment = self._attachment
        return self._maintained.network(entries, self._memory, attachment.gradient_scale, attachment.maximized)

    def _members(
        self, network: ModuleNetwork, step: int, found_inf: Tensor | None = None, layers: Sequence[int] | None = None
    ) -> Members:
        return Members(self.stacked, step, network, [0], layers, skipped=found_inf)


NO_GRADIENT = (
    "{name} with utility='gradient' needs the gradient of the update, and no parameter has one: call backward() first, "
    "and step() or preview() before zero_grad()"
)
LEFT_ALONE = (
    "{name} leaves alone what has no gradient, and no parameter has one: call backward() first, and step() or "
    "preview() before zero_grad()"
)
NO_SIGNAL = (
    "{name} renews nothing at an update without signal: every gradient was zero or None at step {step} (an empty "
    "batch, a loss times 0, gradients cleared before the optimizer's hooks ran); later ones are counted as "
    "`skipped_no_signal`"
)
LEFT = (
    "{name} no longer maintains {left!r}: the parameter has left the model or the {kind}; if another replaces it, add "
    "that one to a parameter group"
)
