"""Any `nn.Module` as a network of one member: views of its own tensors, nothing copied.

Shapes: n units of a layer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set

import torch
from torch import Tensor, nn

from ..laws import Law
from ..names import Entry
from ..shards import local, whole
from .network import HiddenUnits, Lookup, Network


class Views(Mapping[str, Tensor]):
    """Parameters by name, (1, ...), looked up at each access, since `.to()` and loading may replace them."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> Tensor:
        return local(self.entries[name].parameter).detach().unsqueeze(0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class ModuleNetwork(Network):
    """A module as a network of one member.

    Args:
        entries: what may be changed, by name.
        laws: of these, by name.
        units: of its hidden layers.
        statistics: running means and variances that belong to units: name -> (module, buffer).
        activities: mean |h| of the units of some layers, each (n); or (n, F), at what each outgoing weight reads.
        inputs, active: of weights that are renewed by their inputs: how many inputs, and which were not 0, bool (n).
        forget: clears an optimizer's memory of the entries of a parameter where a mask of its shape is True.
        gradient_scale: the factor that a gradient scaler has put on the gradients, where the optimizer removes it.
        maximized: identities of the parameters that the optimizer moves up the gradient.
    """

    members = 1

    def __init__(
        self,
        entries: Mapping[str, Entry],
        laws: Mapping[str, Law],
        *,
        units: Sequence[HiddenUnits] = (),
        statistics: Mapping[str, tuple[nn.Module, str]] | None = None,
        activities: Mapping[int, Tensor] | None = None,
        inputs: Mapping[str, int] | None = None,
        active: Mapping[str, Tensor] | None = None,
        forget: Callable[..., None] | None = None,
        gradient_scale: Tensor | None = None,
        maximized: Set[int] = frozenset(),
    ) -> None:
        self.parameters = Views(entries)
        self.units = units
        self._entries, self._laws = entries, laws
        self._statistics, self._activities = statistics or {}, activities or {}
        self._inputs, self._active = inputs or {}, active or {}
        self._forget, self._gradient_scale, self._maximized = forget, gradient_scale, maximized
        self.remembers = forget is not None
        self.gradients_before: list[tuple[nn.Parameter, Tensor]] = []

    @property
    def laws(self) -> Mapping[str, Law]:
        return self._laws

    def activity(self, layer: int, places: Sequence[int]) -> Tensor | None:
        return self._activities[layer].unsqueeze(0)

    def activity_by_position(self, layer: int, places: Sequence[int]) -> Tensor:
        return self._activities[layer].unsqueeze(0)

    @property
    def inputs(self) -> Mapping[str, int]:
        return self._inputs

    def active(self, name: str, places: Sequence[int]) -> Tensor | None:
        seen = self._active.get(name)
        return None if seen is None else seen.unsqueeze(0)

    def gradient(self, name: str) -> Tensor | None:
        g = local(self._entries[name].parameter.grad)
        return None if g is None else (g.to_dense() if g.is_sparse else g).detach().unsqueeze(0)

    def has_gradient(self, places: Sequence[int], gradients: Mapping[str, Tensor] | None = None) -> list[bool] | None:
        """None: the maintainer has already looked at all that its optimizer trains, on all ranks."""

    def tensor(self, name: str) -> Tensor:
        if name in self._statistics:
            module, buffer = self._statistics[name]
            return getattr(module, buffer).unsqueeze(0)
        return self.parameters[name]

    def shape(self, name: str) -> torch.Size:
        if name in self._entries:
            return self._entries[name].parameter.shape  # of the whole, where it lies in shards
        return super().shape(name)

    def lookup(self, name: str) -> Lookup | None:
        return Lookup.of(self._entries[name])

    def matches(self, name: str, pattern: str) -> bool:
        return self._entries[name].matches(pattern)

    def forget(self, name: str, places: Sequence[int], mask: Tensor) -> None:
        if self._forget is not None:
            self._forget(self._entries[name], mask[0])

    def add_to_gradient(self, name: str, places: Sequence[int], penalty: Tensor) -> None:
        """Replace the gradient by its sum with the penalty; `gradients_before` keeps the original."""
        parameter = self._entries[name].parameter
        g = parameter.grad
        if g is None:
            return
        self.gradients_before.append((parameter, g))
        dense = g.to_dense() if g.is_sparse else local(g)
        if id(parameter) in self._maximized:
            penalty = -penalty
        if self._gradient_scale is not None:
            penalty = penalty * self._gradient_scale.to(penalty.device)
        parameter.grad = whole(g, dense + penalty[0].to(dense.dtype))
