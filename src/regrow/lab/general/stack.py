"""Many networks of one structure, of any `nn.Module`, trained at once by `torch.func`.

Shapes: M members, B examples a batch, k some of the members, n units of a layer.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...laws import Law
from ...laws.find import resolve_laws
from ...methods import HiddenUnits, Lookup
from ...methods.rows import added, taken
from ...names import walk
from ...nn import ReparamLayerNorm
from ...wiring import Reading, Units, find_units
from ..unit_loops import UnitLoops
from .alike import check_alike
from .dropout import KeyedDropout
from .units import STATISTICS, Watching, hidden_units, input_readings

Loss = Callable[[Tensor, Tensor], Tensor]
Inputs = Tensor | tuple[Tensor, ...]


class Pass(NamedTuple):
    """What a forward and backward pass gave: losses (M), gradients name -> (M, ...), predictions (M, ...)."""

    losses: Tensor
    gradients: dict[str, Tensor]
    predictions: Tensor


class StackedModule(UnitLoops):
    """Networks of one structure with parameters of their own, computed together.

    `parameters` maps the names of what is trained to contiguous tensors with a leading axis of members, changed in
    place; `buffers` likewise. It serves wherever the laboratory takes a stack: optimizers, noise and renewal methods.

    Args:
        modules: one network for each member, not wrapped; their values are copied. They must be built alike, for the
            structure, what is frozen, and the mode (training or evaluation) are those of the first.
        laws: {name pattern: law or source}, or the source of all; None: as `regrow.init_laws` finds them in the first.
        units: for unit methods; None: as `regrow.find_units` finds them when one asks.
        device: of the tensors.
        dtype: of the floating-point ones; None: as they are.

    Raises:
        ValueError: for no module, or modules that differ.

    Example:
        >>> import torch
        >>> nets = [torch.nn.Linear(4, 2) for _ in range(3)]
        >>> stack = StackedModule(nets)
        >>> x, y = torch.randn(3, 8, 4), torch.randn(3, 8, 2)  # a batch of 8 for each
        >>> losses, gradients, _ = stack.losses_and_gradients(x, y, torch.nn.functional.mse_loss)
        >>> losses.shape, gradients["weight"].shape
        (torch.Size([3]), torch.Size([3, 2, 4]))

    Reference:
        Hernandez-Garcia et al. 2025, section 2, for what is trained so.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        *,
        laws: Mapping[str, Law | str] | str | None = None,
        units: Sequence[Units] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        modules = list(modules)
        check_alike(modules)
        self.members = len(modules)
        self.scale: Tensor | None = None
        self._module = copy.deepcopy(modules[0])
        self._resting = copy.deepcopy(modules[0]).eval()
        self._given_laws, self._given_units = laws, units
        self._gradients: dict[str, Tensor] = {}
        self._activities: list[Tensor] = []
        self._parts: list[Tensor] = []
        self._fed: dict[str, Tensor] = {}

        def stacked(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: torch.empty(
                    self.members, *t.shape, device=device, dtype=dtype if t.is_floating_point() and dtype else t.dtype
                )
                for name, t in named.items()
            }

        own = dict(self._module.named_parameters())
        self.parameters = stacked({name: p for name, p in own.items() if p.requires_grad})
        self._frozen = stacked({name: p for name, p in own.items() if not p.requires_grad})
        self.buffers = stacked(dict(self._module.named_buffers()))
        kinds = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, ReparamLayerNorm)
        self.norms = frozenset(e.name for e in walk(self._module) if isinstance(e.module, kinds))
        self._all = self.parameters | self._frozen | self.buffers
        for member, module in enumerate(modules):
            self.fill(member, module)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return next(iter(self.parameters.values())).device

    # Members.

    @torch.no_grad()
    def fill(self, member: int, module: nn.Module) -> None:
        """Give one member the values of a network."""
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._all[name][member] = tensor.detach()

    @torch.no_grad()
    def member(self, i: int) -> nn.Module:
        """A network of its own with the values of one member, in the mode of the first module."""
        module = copy.deepcopy(self._module).to(self.device)
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            tensor.data = self._all[name][i].clone()
        return module

    # Forward and backward.

    @torch.no_grad()
    def losses_and_gradients(
        self,
        x: Inputs,
        y: Tensor,
        loss: Loss,
        *,
        shared: bool = False,
        keys: Tensor | None = None,
        watch: bool = False,
        by_position: bool = False,
        watch_inputs: bool = False,
    ) -> Pass:
        """One forward and backward pass of all members; buffers, such as running statistics, follow.

        Args:
            x: what the module is called with, or a tuple of it; (M, B, ...), a batch for each member.
            y: the targets, (M, B, ...).
            loss: of one member, (prediction, targets) -> scalar.
            shared: x and y are one batch for all members, (B, ...).
            keys: int64 (M), of this pass, for dropout.
            watch: average the activations of the hidden units, for unit methods.
            by_position: with `watch`, also position by position.
            watch_inputs: see which inputs of linear and convolutional layers are 0.

        Returns:
            Losses before any update, gradients, predictions.

        Raises:
            ValueError: where the first axis is not that of the members, where dropout lacks keys, for other random
                operations, and, with `watch`, for units that a stack cannot renew.
        """
        self._check_batch(x, y, shared, keys)
        readings = self._readings if watch else []
        apart = [reading for of in self._apart for reading in of] if watch and by_position else []
        inputs = self._input_readings if watch_inputs else {}

        def objective(parameters: dict, buffers: dict, frozen: dict, key: Tensor, x: Inputs, y: Tensor) -> tuple:
            buffers = {name: b.clone() for name, b in buffers.items()}
            units, parts, fed = Watching(readings), Watching(apart, by_position=True), Watching(list(inputs.values()))
            with units, parts, fed, KeyedDropout(None if keys is None else key):
                prediction = functional_call(self._module, (parameters, buffers, frozen), x)
            return loss(prediction, y), (prediction, buffers, units.means(), parts.means(), fed.sums([*inputs]))

        dim = None if shared else 0
        differentiate = vmap(grad_and_value(objective, has_aux=True), in_dims=(0, 0, 0, 0, dim, dim))
        placeholder = torch.zeros(self.members, dtype=torch.int64, device=self.device)
        own = dict(self.parameters), self.buffers, self._frozen, placeholder if keys is None else keys
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no vmap
            gradients, (losses, aux) = _run(lambda: differentiate(*own, x, y))
        predictions, buffers, self._activities, self._parts, self._fed = aux
        for name, value in buffers.items():
            self.buffers[name].copy_(value)
        self._gradients = {name: g.contiguous() for name, g in gradients.items()}  # as fused optimizers read them
        return Pass(losses, self._gradients, predictions)

    @torch.no_grad()
    def predict(self, x: Inputs, *, shared: bool = False) -> Tensor:
        """Predictions of all members in evaluation mode, (M, ...); nothing changes.

        Args:
            x, shared: as for `losses_and_gradients`.
        """
        self._check_batch(x, None, shared, None)

        def forward(tensors: dict, x: Inputs) -> Tensor:
            return functional_call(self._resting, tensors, x)

        tensors = {**self.parameters, **self.buffers, **self._frozen}
        with sdpa_kernel(SDPBackend.MATH):
            return vmap(forward, in_dims=(0, None if shared else 0))(tensors, x)

    @torch.no_grad()
    def descend(self) -> None:
        """Add `scale` (M) times the gradients of the last pass: with -(step sizes), one step of plain SGD."""
        if self.scale is None:
            raise ValueError("`scale` must be set before `descend`; got None: set stack.scale = descent.scale()")
        for name, g in self._gradients.items():
            w = self.parameters[name]
            w.addcmul_(g, self.scale.to(w).view(-1, *[1] * (w.dim() - 1)))

    # What renewal methods ask for.

    @property
    def laws(self) -> dict[str, Law]:
        """The law of every parameter, and of running statistics; determined on first access."""
        return self._laws

    @cached_property
    def _laws(self) -> dict[str, Law]:
        laws = resolve_laws(walk(self._module), self._given_laws)
        return laws | {name: STATISTICS[end] for name in self.buffers if (end := name.split(".")[-1]) in STATISTICS}

    @cached_property
    def _found(self) -> list[Units]:
        if self._given_units is not None:
            return list(self._given_units)
        found = find_units(self._module)
        found.warn_of_overlooked("a stack")
        return found

    @cached_property
    def _hidden(self) -> list[tuple[HiddenUnits, Reading]]:
        return [(hidden_units(units, self._module), units.reading(self._module)) for units in self._found]

    @cached_property
    def _apart(self) -> list[list[Reading]]:
        """What the readers of each layer receive."""
        return [units.readings_by_position(self._module) for units in self._found]

    @property
    def units(self) -> list[HiddenUnits]:  # type: ignore[override]
        """What belongs to the units of each hidden layer.

        Raises:
            ValueError: if no units are detected.
        """
        return [units for units, _ in self._hidden]

    @property
    def _readings(self) -> list[Reading]:
        return [reading for _, reading in self._hidden]

    def activity(self, layer: int, places: Sequence[int]) -> Tensor:
        """Mean |h| of a hidden layer in the last pass, over examples and positions, (k, n), of some members.

        Where h is read is said by the layer's `regrow.Units`: those that `find_units` finds read what comes out of the
        activation, before a norm that follows it.
        """
        if not self._activities:
            raise ValueError("activations were not watched in the last pass: call losses_and_gradients(watch=True)")
        return taken(self._activities[layer], places)

    def activity_by_position(self, layer: int, places: Sequence[int]) -> Tensor:
        if not self._parts:
            raise ValueError(
                "activations were not watched position by position in the last pass: call "
                "losses_and_gradients(watch=True, by_position=True)"
            )
        units, start = self._found[layer], sum(map(len, self._apart[:layer]))
        readings = self._apart[layer]
        seen = units.positions_in_order(readings, self._parts[start : start + len(readings)])
        tensors = [self.tensor(place.name)[0] for place in units.weight_out]
        return taken(units.outgoing_by_position(seen, tensors), places)

    @property
    def inputs(self) -> dict[str, int]:
        return {name: reading.n for name, reading in self._input_readings.items()}

    @cached_property
    def _input_readings(self) -> dict[str, Reading]:
        return input_readings(self._module)

    def active(self, name: str, places: Sequence[int]) -> Tensor | None:
        return taken(self._fed[name], places) != 0 if name in self._fed else None

    def gradient(self, name: str) -> Tensor:
        return self._gradients[name]

    def add_to_gradient(self, name: str, places: Sequence[int], penalty: Tensor) -> None:
        self._gradients[name] = added(self._gradients[name].clone(), places, penalty)

    def lookup(self, name: str) -> Lookup | None:
        return self._lookups.get(name)

    @cached_property
    def _lookups(self) -> dict[str, Lookup]:
        found = {entry.name: Lookup.of(entry) for entry in walk(self._module)}
        return {name: lookup for name, lookup in found.items() if lookup is not None}

    def tensor(self, name: str) -> Tensor:
        return self.parameters[name] if name in self.parameters else self.buffers[name]

    def _check_batch(self, x: Inputs, y: Tensor | None, shared: bool, keys: Tensor | None) -> None:
        parts = {} if shared else {"x": x if isinstance(x, tuple) else (x,), "y": () if y is None else (y,)}
        for name, tensors in (parts | {"keys": () if keys is None else (keys,)}).items():
            for t in tensors:
                if t.shape[:1] != (self.members,):
                    raise ValueError(
                        f"the first axis of `{name}` must be the {self.members} members; got shape {tuple(t.shape)}: "
                        "stack a batch for each, or give shared=True with one batch for all"
                    )


def _run(call: Callable) -> tuple:
    """The call, with torch's word on random operations in our own."""
    try:
        return call()
    except RuntimeError as error:
        if "randomness" not in str(error):
            raise
        raise ValueError(
            "random operations in a stack must be nn.Dropout or the dropout of scaled_dot_product_attention; the "
            "module has another: take it out of the forward pass, or set its probability to 0"
        ) from error
