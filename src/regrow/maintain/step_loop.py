"""The one step loop: what happens before and after each update of an optimizer, whatever the method."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..methods import Members, Method, ModuleNetwork, StackedMethod
from ..names import Entry
from .attachment import Attachment
from .maintained import Forget, Maintained, identities
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
        self._next: int | None = None
        self._gradients_before: list[tuple[nn.Parameter, Tensor]] = []
        self.stacked.dates.admit(maintained.admit(), [0], 0)
        self.plan()

    @property
    def _who(self) -> str:
        return type(self.method).__name__

    # What is there now.

    def refresh(self) -> None:
        """Look at the model again, if it has changed."""
        if self._maintained.coverage.refresh():
            self.stacked.dates.admit(self._maintained.admit(), [0], self.counter.steps)
            self._next = self._next if self.method.off else self.stacked.dates.soonest(self._next)

    def entries(self) -> list[Entry]:
        """The maintained parameters that are trainable now and, when attached, in the optimizer."""
        self.refresh()
        return self._maintained.entries(self._attachment.followed)

    @property
    def _held(self) -> set[int] | None:
        return identities(self._attachment.followed)

    # Around an update.

    @torch.no_grad()
    def before_update(self, found_inf: Tensor | None, first: bool = True) -> None:
        """Before the optimizer's step, not counted yet; `first`: since the step before, where a closure has several."""
        if self.method.at_every_attempt and not self.method.off and (first or self.method.penalizes):
            network = self._network(self.entries())
            self.method.before(self._members(network, self.counter.attempts + 1, found_inf))
            self._gradients_before = network.gradients_before

    def restore_gradients(self, optimizer: Optimizer) -> None:
        """Put the gradients of the loss back where a penalty was added to them."""
        scale, skipped = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        for parameter, g in reversed(self._gradients_before):
            if scale is not None:  # a fused optimizer leaves gradients unscaled, but at a step that it skips
                by = scale if skipped is None else torch.where(skipped == 0, scale, torch.ones_like(scale))
                g.div_(by.to(g.device))
            parameter.grad = g
        self._gradients_before = []

    @torch.no_grad()
    def after_update(self, found_inf: Tensor | None) -> None:
        """Count an update, and act if that is due."""
        self.counter.tick(found_inf)
        if self.method.off:
            return
        if self.method.observes:
            self._observe(found_inf)
        if self.method.at_every_attempt:
            self.method.act(self._members(self._network(self.entries()), self.counter.attempts, found_inf))
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
        units = self._maintained.units
        if units is not None:
            units.watch([] if self.method.off else self.stacked.dates.watched(self.counter.at_most + 1))

    def _observe(self, found_inf: Tensor | None) -> None:
        """Show the method an update."""
        units = self._maintained.units
        assert units is not None
        self.refresh()
        layers = [i for i in units.ready(self._held) if units.seen(i)]
        if layers:
            network = self._maintained.of_units(units.activities(layers), self._forget)
            self.method.observe(self._members(network, self.counter.attempts, found_inf, layers))

    def _act(self, step: int) -> None:
        """Do what is due at this update."""
        units = self._maintained.units
        if units is None:
            entries = self._usable(self.entries())
            self.stacked.counters.skipped_no_grad += len(self.entries()) - len(entries)
            self.stacked.act(step, self._network(entries), None, [0])
            return
        self.refresh()
        layers = self._due_layers(units.ready(self._held), step)
        if layers:
            activities = units.activities(layers)  # refuses an update without a forward pass
            self.stacked.act(step, self._maintained.of_units(activities, self._forget), None, [0], layers)

    def preview(self) -> dict[str, Tensor]:
        """Masks of what would be renewed if the next update were now, of what is looked at."""
        units, step, layers = self._maintained.units, self.counter.steps + 1, None
        if units is None:
            network = self._network(self._usable(self.entries()))
        else:
            self.refresh()
            layers = self._due_layers(units.ready(self._held, watched=False), step)
            network = self._maintained.of_units(units.activities(layers, stale=True), self._forget)
        members = Members(self.stacked, step, network, [0], layers, preview=True)
        self.method.act(members)
        members.finish()
        return {name: mask[0] for name, mask in members.masks.items()}

    def _due_layers(self, ready: Sequence[int], step: int) -> list[int]:
        due = self.stacked.dates.layers(step)
        return [i for i in ready if due is None or i in due]

    # What the method works on.

    def with_gradient(self, entries: list[Entry]) -> list[Entry]:
        """Those that have what the method needs, and any entries at all."""
        entries = [entry for entry in entries if entry.parameter.numel()]
        if self.method.needs_gradient:
            return [entry for entry in entries if entry.parameter.grad is not None]
        return entries

    def _usable(self, entries: list[Entry]) -> list[Entry]:
        usable = self.with_gradient(entries)
        if entries and not usable:
            raise RuntimeError(NO_GRADIENT.format(name=self._who))
        return usable

    @property
    def _forget(self) -> Forget | None:
        """What clears the optimizer's memory of renewed entries, where it is known and to be cleared."""
        return self._attachment.forget if self.method.renews and self._attachment.clears else None

    def _network(self, entries: list[Entry]) -> ModuleNetwork:
        return self._maintained.network(entries, self._forget, self._attachment.gradient_scale)

    def _members(
        self, network: ModuleNetwork, step: int, found_inf: Tensor | None = None, layers: Sequence[int] | None = None
    ) -> Members:
        return Members(self.stacked, step, network, [0], layers, skipped=found_inf)


NO_GRADIENT = (
    "{name} with utility='gradient' needs the gradient of the update, and no parameter has one: call backward() first, "
    "and step() or preview() before zero_grad()"
)
