"""The front end of every method: which parameters, when, on which optimizer, from which seed, and how it is stored.

What a method does is said in `regrow.methods`; here is the one step loop that calls it, for a model as a network of
one member.
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
from ..methods import Counters, Members, Method, ModuleNetwork, StackedMethod
from ..names import Entry
from ..wiring import Units
from . import distributed, hooks, moments
from .coverage import Cover
from .hooks import outside_graphs
from .law_book import LawBook
from .state_checks import VERSION, read
from .step_counter import Clock
from .unit_layers import UnitLayers


class Maintainer:
    """Keeps a model plastic by a method. Call `attach(optimizer)` once, or `step()` after every `optimizer.step()`.

    `regrow.SWR(model, every=…)` and its sisters are this class with the method's knobs among their arguments; a method
    of your own goes in as an object.

    Args:
        model: any module; make this before training, for the laws of its parameters are found now.
        method: what to do, and how often.
        units: of a method that renews units: list of `regrow.Units`; None: `regrow.find_units(model)`.
        laws: {name pattern: law}, or the source of all: "auto", "modules", "values".
        only, skip: name patterns of what to maintain, to leave out.
        optimizer: where to clear moments if you call `step()` yourself; `attach` sets it.
        clear_moments: what the optimizer remembers of renewed entries: True: first moments 0, second moments the mean
            over the tensor's kept entries; "zero": both 0; False: both stay.
        seed: keys all random numbers, >= 0; None: `torch.initial_seed()`, the one of rank 0 on all ranks.
        track_overlap: keep a bit per weight and report how much of a renewal the one before renewed as well.

    Raises:
        ValueError, TypeError: for an argument out of its range, a pattern that matches nothing, no trainable
            parameter, a complex or quantised one, one whose law cannot be told, or a model without units.

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
        clear_moments: bool | str = True,
        seed: int | None = None,
        track_overlap: bool = False,
    ) -> None:
        if not isinstance(method, Method):
            raise TypeError(f"`method` must be a regrow.methods.Method; got {type(method).__name__}")
        self.method = method
        self._only, self._skip = check.patterns("only", only), check.patterns("skip", skip)
        self._seed = _resolve_seed(seed)
        self._cover = Cover(model, self._only, self._skip)
        self._clock = Clock()
        self._optimizer = _checked_optimizer(optimizer)
        self._attached = False
        self._clear_moments = _checked_clearing(clear_moments)
        self._laws = LawBook(laws) if method.draws else None
        self._units = UnitLayers(model, units, method.reads_activations, self._who) if method.by_unit else None
        track_overlap = check.flag("track_overlap", track_overlap)
        self._stacked = StackedMethod([method], [0], [self._seed], track_overlap=track_overlap)
        self._next: int | None = None
        self._gradients_before: list[tuple[nn.Parameter, Tensor]] = []
        self._recent: tuple[Any, list[Entry]] | None = None  # what `_entries` was, and what that depends on
        self._admit()
        self._plan(0)
        self._settle()

    @property
    def _who(self) -> str:
        return type(self.method).__name__

    @property
    def counters(self) -> Counters:
        """What its renewals amounted to."""
        return self._stacked.counters

    @property
    def watching(self) -> bool:
        """Whether the coming update needs activations, from a forward pass that runs hooks."""
        return self._units is not None and self._units.watching and self.method.reads_activations

    @property
    def is_noise(self) -> bool:
        """True where it acts after all that renews."""
        return self.method.is_noise

    @property
    def off(self) -> bool:
        """True where the knobs say that nothing shall ever happen."""
        return self.method.off

    @property
    def knobs(self) -> dict[str, Any]:
        """The method's own arguments, as numbers and strings."""
        return self.method.values() | ({"clear_moments": self._clear_moments} if self.method.renews else {})

    # What is maintained.

    def _admit(self) -> None:
        """Take up the model's parameters as they are now: their units, and their laws."""
        entries = self._cover.entries
        if self._units is not None:
            self._units.admit(self._cover)
            drawn = set(self._units.drawn)
            entries = [entry for entry in self._cover.all if entry.name in drawn]
        if self._laws is not None:
            self._laws.admit(entries, self._cover.all)
        network = self._network(self._cover.entries, laws=False) if self._units is None else self._unit_network({})
        self._stacked.dates.admit(network, [0], self._clock.steps)

    def _refresh(self) -> None:
        if self._cover.refresh():
            self._admit()
            self._recent = None
            self._next = self._next if self.off else self._stacked.dates.soonest(self._next)

    def _entries(self) -> list[Entry]:
        """The maintained parameters that are trainable now and, when attached, in the optimizer."""
        self._refresh()
        groups = [g["params"] for g in self._optimizer.param_groups] if self._attached and self._optimizer else []
        now = ([(id(p), len(p)) for p in groups], [e.parameter.requires_grad for e in self._cover.entries])
        if self._recent is None or self._recent[0] != now:
            held = self._held()
            self._recent = now, [e for e in self._maintained() if held is None or id(e.parameter) in held]
        return self._recent[1]

    def _maintained(self) -> list[Entry]:
        """The trainable parameters that this maintainer may change."""
        if self._units is not None:
            return [entry for entry in self._units.entries if entry.parameter.requires_grad]
        return self._cover.trainable()

    def _held(self) -> set[int] | None:
        """Identities of what the optimizer holds, when attached."""
        return _ids(self._optimizer) if self._attached and self._optimizer else None

    # The step loop.

    @outside_graphs
    def step(self) -> None:
        """Count one update, and act if that is due. Call it after `optimizer.step()`, gradients still in place.

        Raises:
            RuntimeError: if the maintainer is attached (the optimizer makes this call then), or if the method needs
                gradients and there are none.
        """
        if self._attached:
            raise RuntimeError(
                f"{self._who} is attached, so its optimizer calls it at every step: drop your own step(), or detach() "
                "first"
            )
        if self.method.penalizes and not self.off:
            raise RuntimeError(
                f"{self._who} adds to the gradient before the optimizer's step, and step() comes after it: attach() it"
            )
        if self._clock.attempts == 0 and self.method.needs_gradient and self._units is None and not self.off:
            grads = [entry.parameter.grad for entry in self._with_gradient(self._entries())]
            if not any((g.coalesce().values() if g.is_sparse else g).any() for g in grads if g is not None):
                raise RuntimeError(_NO_GRADIENT.format(name=self._who))
        self._before_update(None)
        self._after_update(None)

    @torch.no_grad()
    def _before_update(self, found_inf: Tensor | None, first: bool = True) -> None:
        """Before the optimizer's step, not counted yet; `first`: since the step before, where a closure has several."""
        if self.method.at_every_attempt and not self.off and (first or self.method.penalizes):
            network = self._network(self._entries())
            self.method.before(self._members(network, self._clock.attempts + 1, found_inf))
            self._gradients_before = network.gradients_before

    @torch.no_grad()
    def _penalty(self) -> Tensor | None:
        """What the method adds to the loss, if it does."""
        if self.off or not self.method.penalizes:
            return None
        return self.method.penalty(self._members(self._network(self._entries()), self._clock.attempts + 1))[0]

    def _restore_gradients(self, optimizer: Optimizer) -> None:
        """Put the gradients of the loss back where a penalty was added to them."""
        scale, skipped = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        for parameter, g in reversed(self._gradients_before):
            if scale is not None:  # a fused optimizer leaves gradients unscaled, but at a step that it skips
                by = scale if skipped is None else torch.where(skipped == 0, scale, torch.ones_like(scale))
                g.div_(by.to(g.device))
            parameter.grad = g
        self._gradients_before = []

    @torch.no_grad()
    def _after_update(self, found_inf: Tensor | None) -> None:
        self._clock.tick(found_inf)
        if self.off:
            return
        if self.method.observes:
            self._observe(found_inf)
        if self.method.at_every_attempt:
            self.method.act(self._members(self._network(self._entries()), self._clock.attempts, found_inf))
        elif self._next is not None and self._clock.reached(self._next):
            self._act(self._clock.steps)
            self._plan(self._clock.steps)
        self._settle()

    def _plan(self, step: int) -> None:
        """Note the next update at which something is due."""
        self._next = None if self.off else self._stacked.dates.next(step)

    def _settle(self) -> None:
        """Have the coming update's activations watched, where it needs them."""
        if self._units is not None:
            self._units.watch([] if self.off else self._stacked.dates.watched(self._clock.at_most + 1))

    def _observe(self, found_inf: Tensor | None) -> None:
        """Show the method an update."""
        assert self._units is not None
        self._refresh()
        layers = [i for i in self._units.ready(self._held()) if self._units.seen(i)]
        if layers:
            network = self._unit_network(self._units.activities(layers))
            self.method.observe(self._members(network, self._clock.attempts, found_inf, layers))

    def _act(self, step: int) -> None:
        """Do what is due at this update."""
        if self._units is None:
            entries = self._usable(self._entries())
            self._stacked.counters.skipped_no_grad += len(self._entries()) - len(entries)
            self._stacked.act(step, self._network(entries), None, [0])
            return
        self._refresh()
        layers = self._due_layers(self._units.ready(self._held()), step)
        if layers:
            network = self._unit_network(self._units.activities(layers))  # refuses an update without a forward pass
            self._stacked.act(step, network, None, [0], layers)

    def _due_layers(self, ready: Sequence[int], step: int) -> list[int]:
        due = self._stacked.dates.layers(step)
        return [i for i in ready if due is None or i in due]

    # The model as a network.

    def _with_gradient(self, entries: list[Entry]) -> list[Entry]:
        """Those that have what the method needs, and any entries at all."""
        entries = [entry for entry in entries if entry.parameter.numel()]
        if self.method.needs_gradient:
            return [entry for entry in entries if entry.parameter.grad is not None]
        return entries

    def _usable(self, entries: list[Entry]) -> list[Entry]:
        usable = self._with_gradient(entries)
        if entries and not usable:
            raise RuntimeError(_NO_GRADIENT.format(name=self._who))
        return usable

    def _network(self, entries: list[Entry], laws: bool = True) -> ModuleNetwork:
        """The parameters, their laws all there, or nothing is changed."""
        of = {entry.name: self._laws.law(entry) for entry in entries} if self._laws is not None and laws else {}
        scale = getattr(self._optimizer, "grad_scale", None) if self._attached else None
        named = {entry.name: entry for entry in entries}
        return ModuleNetwork(named, of, forget=self._forgetting, gradient_scale=scale)

    def _unit_network(self, activities: Mapping[int, Tensor]) -> ModuleNetwork:
        """The parameters of its units; activities of the layers that are to act."""
        assert self._units is not None and self._laws is not None
        return self._units.network(activities, self._laws, self._forgetting)

    def _members(
        self, network: ModuleNetwork, step: int, found_inf: Tensor | None = None, layers: Sequence[int] | None = None
    ) -> Members:
        return Members(self._stacked, step, network, [0], layers, skipped=found_inf)

    @property
    def _forgetting(self) -> Any:
        """What clears the optimizer's memory of renewed entries, where it is known and to be cleared."""
        clears = self.method.renews and self._optimizer is not None and self._clear_moments is not False
        return self._forget if clears else None

    def _forget(self, entry: Entry, mask: Tensor) -> None:
        state = self._optimizer.state.get(entry.parameter) if self._optimizer is not None else None
        if state:
            moments.clear(state, mask, second="zero" if self._clear_moments == "zero" else "mean")

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
            raise RuntimeError(f"{self._who} is attached already: detach() it, or make one per optimizer")
        if not isinstance(optimizer, Optimizer):
            kind = type(optimizer).__name__
            raise TypeError(f"attach takes a torch.optim.Optimizer; got {kind}: call step() yourself")
        kind, (lacking, all_of_it) = type(optimizer).__name__, self._lacking(_ids(optimizer))
        if all_of_it:
            raise ValueError(f"the {kind} holds none of the maintained parameters: is it this model's?")
        if lacking:
            warnings.warn(f"{self._who} leaves alone what the {kind} lacks: {', '.join(lacking)}", stacklevel=2)
        hooks.attach(self, optimizer)
        self._optimizer, self._attached = optimizer, True
        return self

    def _lacking(self, held: set[int]) -> tuple[list[str], bool]:
        """What cannot be maintained with an optimizer that holds these parameters, and whether that is everything."""
        if self._units is not None:
            layers = self._units.all.values()
            lacking = [layer.name for layer in layers if not layer.usable(held)]
            return lacking, len(lacking) == len(layers)
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
        if self.off:
            return nothing
        if not self.method.renews:
            return {name: torch.full_like(mask, self.method.is_noise) for name, mask in nothing.items()}
        step, layers = self._clock.steps + 1, None
        if self._units is None:
            network = self._network(self._usable(self._entries()))
        else:
            layers = self._due_layers(self._units.ready(self._held(), watched=False), step)
            network = self._unit_network(self._units.activities(layers, stale=True))
        members = Members(self._stacked, step, network, [0], layers, preview=True)
        self.method.act(members)
        members.finish()
        return nothing | {name: mask[0] for name, mask in members.masks.items()}

    def report(self) -> dict[str, float]:
        """Counts that show whether it fires; reading them waits for the device.

        Returns:
            `steps` (updates counted), `renewals` (firings), `renewed_total` and `renewed_last` (entries; of the unit
            methods, units), `share_last` (of all looked at), `zero_share_last` (share of the renewed whose utility was
            exactly 0), `mature_units`, `skipped_no_grad` and `skipped_nan` (tensors left out), and with
            `track_overlap=True` `overlap_last` (share of the renewed that the renewal before renewed as well).
        """
        mature = self._stacked.dates.mature(self._clock.steps)
        counts = {"steps": self._clock.steps, "mature_units": 0 if mature is None else int(mature)}
        return counts | self._stacked.counters.report()

    def __repr__(self) -> str:
        entries = self._maintained()
        knobs = ", ".join(f"{name}={value!r}" for name, value in self.knobs.items())
        count = sum(entry.parameter.numel() for entry in entries)
        where = f"attached to {type(self._optimizer).__name__}" if self._attached else "not attached"
        return (
            f"{self._who}({knobs}, seed={self._seed}; {len(entries)} tensors of {count:,} entries; "
            f"{where}; step {self._clock.steps})"
        )

    # How it is stored.

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: tensors, numbers and strings, so `weights_only=True` loads it."""
        state: dict[str, Any] = {
            "version": VERSION,
            "method": self.method.name,
            "step": self._clock.steps,
            "attempts": self._clock.attempts,
            "seed": self._seed,
            "knobs": dict(self.knobs),
            "tally": self._stacked.counters.state(0),
        }
        if self._laws is not None:
            state["laws"] = self._laws.state_dict()
        memory = self._stacked.dates.state(0)
        return state | ({self.method.memory: memory} if memory else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`. Seed, step and laws of the state win; of the knobs, those of this object.

        Args:
            state: from `state_dict()` of the same method.

        Raises:
            TypeError, ValueError: where it is something else; this object is then as before.
        """
        stored = read(state, self.method.name)
        differing = {k: v for k, v in stored.knobs.items() if k in self.knobs and self.knobs[k] != v}
        if differing:
            listed = ", ".join(f"{k} stored {v!r}, here {self.knobs[k]!r}" for k, v in differing.items())
            warnings.warn(f"{self._who}: knobs differ from the stored ones and stay: {listed}", stacklevel=2)
        laws = self._laws.read(state) if self._laws is not None else {}
        if self._stacked.dates.state(0):
            self._stacked.dates.load(0, check.field(state, self.method.memory, Mapping))
        if self._laws is not None:
            self._laws.take(laws, self._cover.entries)
        self._seed = stored.seed
        self._stacked.seeds = [stored.seed]
        self._clock.reset(stored.step, stored.attempts)
        self._stacked.counters.load(0, stored.tally)
        self._plan(stored.step)
        self._settle()


def _ids(optimizer: Optimizer) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _resolve_seed(seed: int | None) -> int:
    """A given seed, or torch's initial one, which all ranks take from rank 0."""
    if seed is not None:
        return check.whole("seed", seed, 0, "random numbers are keyed by it")
    return distributed.agreed_seed(torch.initial_seed())


def _checked_optimizer(optimizer: object) -> Optimizer | None:
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"`optimizer` must be a torch.optim.Optimizer or None; got {type(optimizer).__name__}")
    return optimizer


def _checked_clearing(value: object) -> bool | str:
    if not isinstance(value, bool) and value != "zero":
        raise ValueError(f"`clear_moments` must be True, False or 'zero'; got {value!r}")
    return value  # type: ignore[return-value]


_NO_GRADIENT = (
    "{name} with utility='gradient' needs the gradient of the update, and no parameter has one: call backward() first, "
    "and step() or preview() before zero_grad()"
)
