"""What is maintained: the parameters that a method may change, and the model as a network of one member."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from .. import check
from ..laws import Law
from ..methods import Method, ModuleNetwork, Network, network_of
from ..names import Entry
from ..wiring import Units
from .coverage import Coverage
from .law_book import LawBook
from .layer_inputs import LayerInputs
from .unit_layers import UnitLayers


class Memory(Protocol):
    """What an optimizer remembers of parameters: see `Attachment`."""

    def sums(self, entry: Entry, mask: Tensor) -> dict[tuple[int, str], Tensor]: ...
    def forget(self, entry: Entry, mask: Tensor, totals: Mapping[tuple[int, str], Tensor] | None = None) -> None: ...


class Maintained:
    """The parameters of a model that a method may change.

    Args:
        model: any module.
        method: what is to be done to it.
        units: of a method that renews units: `regrow.Units`; None: they are searched for.
        laws: as given by the user.
        only, skip: name patterns.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        units: Sequence[Units] | None,
        laws: Mapping[str, Law] | str | None,
        only: str | Sequence[str] | None,
        skip: str | Sequence[str] | None,
    ) -> None:
        self._method = method
        self.coverage = Coverage(model, check.patterns("only", only), check.patterns("skip", skip))
        self.laws = LawBook(laws) if method.draws else None
        self.units = UnitLayers(model, units, method) if method.by_unit else None
        self.inputs = LayerInputs(model, type(method).__name__) if method.reads_inputs else None
        self._recent: tuple[Any, list[Entry]] | None = None  # what `entries` was, and what that depends on
        self._before: set[str] | None = None  # names of what could be changed when last asked

    def admit(self) -> Network:
        """Take up the model's parameters as they are now: their units, and their laws; the network they make up."""
        self._refuse_computed()
        self._refuse_shards()
        entries = self.coverage.entries
        if self.units is not None:
            self.units.admit(self.coverage)
            drawn = set(self.units.drawn)
            entries = [entry for entry in self.coverage.all if entry.name in drawn]
        if self.inputs is not None:
            self.inputs.admit(self.coverage)
            entries = self.inputs.entries
        if self.laws is not None:
            self.laws.admit(entries, self.coverage.all)
        self._recent = None
        return self.of_units() if self.units is not None else self._whole({e.name: e for e in self.stored()}, {})

    @property
    def watches(self) -> list[UnitLayers | LayerInputs]:
        """What sees forward passes, by hooks on the model."""
        return [watch for watch in (self.units, self.inputs) if watch is not None]

    def all(self) -> list[Entry]:
        """The trainable parameters that the method may change."""
        return [entry for entry in self.stored() if entry.parameter.requires_grad]

    def shown(self) -> list[Entry]:
        """`all`, but for what has gone since the model was last looked at."""
        present = [e for e in self.stored() if e.module._parameters.get(e.attribute) is not None]
        return [entry for entry in present if entry.parameter.requires_grad]

    def stored(self) -> list[Entry]:
        """What a state is of: all that may be changed when it is trainable."""
        return self.watches[0].entries if self.watches else self.coverage.entries

    def entries(self, optimizer: Optimizer | None) -> list[Entry]:
        """Those that, where an optimizer is given, it holds."""
        held = identities(optimizer)
        now = held, [e.parameter.requires_grad for e in self.coverage.entries]
        if self._recent is None or self._recent[0] != now:
            self._recent = now, [e for e in self.all() if held is None or id(e.parameter) in held]
        return self._recent[1]

    def settle_laws(self) -> None:
        """Raise or warn of laws that could not be determined, before they change anything."""
        self._refuse_computed()
        if self.laws is not None:
            self.laws.settle()

    def _refuse_computed(self) -> None:
        if self.laws is not None and self.coverage.computed:
            name = self.coverage.computed[0]
            raise ValueError(
                f"{name!r} was a parameter and is computed from others now (pruning, weight norm, a parametrization): "
                f"make the maintainer after that, or leave it out with skip={name!r}"
            )

    def _refuse_shards(self) -> None:
        if self.coverage.sharded and self._method.reads_positions:
            raise TypeError(
                f"{type(self._method).__name__} with utility='contribution-by-position' does not serve parameters in "
                "shards (FSDP2): use utility='contribution'"
            )
        if self.coverage.sharded and not self._method.on_shards:
            who = type(self._method).__name__
            raise TypeError(
                f"{who} does not serve parameters in shards (FSDP2): set on_shards = True in its class if it goes by "
                "single entries, and leaves sums over entries to members.select and members.unit_utility; or use DDP"
            )

    def holds_any(self, identities: set[int]) -> bool:
        """Is anything that is maintained among these parameters? Whatever has become of the model."""
        present = [entry.module._parameters.get(entry.attribute) for entry in self.coverage.entries]
        return any(id(p) in identities for p in present if p is not None)

    def parameters(self, optimizer: Optimizer | None) -> list[nn.Parameter]:
        """All that the optimizer holds or, without one, all of the model."""
        if optimizer is None:
            return [entry.parameter for entry in self.coverage.all]
        return [p for group in optimizer.param_groups for p in group["params"]]

    def lacking(self, optimizer: Optimizer) -> tuple[list[str], bool]:
        """What cannot be maintained with an optimizer, and whether that is everything."""
        held = identities(optimizer) or set()
        if self.units is not None:
            layers = self.units.all.values()
            lacking = [layer.name for layer in layers if not layer.usable(held)]
            return lacking, len(lacking) == len(layers)
        entries = self.all()
        lacking = [e.name for e in entries if id(e.parameter) not in held]
        return lacking, len(lacking) == len(entries)

    def leavers(self, optimizer: Optimizer) -> list[str]:
        """What could be changed when last asked, and can no longer be, though it was not frozen."""
        held = identities(optimizer) or set()
        if self.units is not None:
            now = {layer.name for layer in self.units.all.values() if layer.usable(held)}
            layers = self.units.all
            frozen = {name for name in layers if not all(w.requires_grad for w in layers[name].weights)}
        else:
            now = {entry.name for entry in self.entries(optimizer)}
            frozen = {entry.name for entry in self.coverage.all if not entry.parameter.requires_grad}
        left, self._before = (self._before or set()) - now - frozen, now
        return sorted(left)

    def network(
        self,
        entries: list[Entry],
        memory: Memory | None = None,
        gradient_scale: Tensor | None = None,
        maximized: Set[int] = frozenset(),
    ) -> ModuleNetwork:
        """These parameters as a network; one without a law is refused before anything is changed."""
        laws = {entry.name: self.laws.law(entry) for entry in entries} if self.laws is not None else {}
        named = {entry.name: entry for entry in entries}
        of_gradients = {"gradient_scale": gradient_scale, "maximized": maximized}
        return self._whole(named, laws, **_clearing(memory), **of_gradients)

    def seen(self) -> ModuleNetwork:
        """The network with the inputs that were active in the update, and nothing to change."""
        assert self.inputs is not None
        return self._whole({}, {}, active=self.inputs.active())

    def _whole(self, named: Mapping[str, Entry], laws: Mapping[str, Law], **more: Any) -> ModuleNetwork:
        counts = self.inputs.counts if self.inputs is not None else {}
        return network_of(named, laws, inputs={n: k for n, k in counts.items() if not named or n in named}, **more)

    def of_units(self, activities: Mapping[int, Tensor] | None = None, memory: Memory | None = None) -> ModuleNetwork:
        """The parameters of its units; activities of the layers that are to act."""
        assert self.units is not None and self.laws is not None
        return self.units.network(activities or {}, self.laws, **_clearing(memory))


def _clearing(memory: Memory | None) -> dict[str, Any]:
    return {} if memory is None else {"forget": memory.forget, "sums": memory.sums}


def identities(optimizer: Optimizer | None) -> set[int] | None:
    """Identities of the parameters that an optimizer holds; None without one."""
    return None if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}
