"""Where the activation of a layer's units is seen in a forward pass, and how it is summed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.eager import CHUNK, looking_is_free
from ..core.precision import wide_type
from ..names import Entry
from .entries import Place, find_module
from .formula import Formula

KINDS = ("input of ", "values of ")
"""What the activation may be besides the output of a module; the module's name follows."""


@dataclass(frozen=True)
class Reading:
    """Where h appears in a forward pass, and which entries belong to which unit.

    Args:
        module: the module to hook; of a formula the first of those whose outputs it takes.
        name: its canonical name.
        kind: "output", "input", "values" or "formula".
        n: number of units.
        axis: of the units in h; negative counts from the end.
        places: of the units along that axis, if the layer that reads them defines them (its parameter's name and
            dimension do not matter here); empty: the units fill the axis in order, with equally many entries.
        formula: of h, where it is no module's input or output; else None.
        outputs, called: the modules whose outputs the formula uses, and those that it calls.
    """

    module: nn.Module
    name: str
    kind: str
    n: int
    axis: int
    places: tuple[Place, ...] = ()
    formula: Formula | None = None
    outputs: tuple[nn.Module, ...] = ()
    called: tuple[nn.Module, ...] = ()

    def activation(self, args: tuple, kwargs: dict[str, Any], output: Any = None) -> Tensor:
        """h, from what a hook with keyword arguments receives: a pre-hook for "input", a forward hook otherwise.

        Reading it costs nothing, except for "values", which repeats one projection, and for a formula, which is
        evaluated again. A formula of several modules' outputs needs a `Tap`.
        """
        if self.formula is not None:
            return self.formula.evaluate([output.detach()], self.called)
        if self.kind == "output":
            return output
        if self.kind == "input":
            return args[0] if args else next(iter(kwargs.values()))
        return _values(self.module, args[2] if len(args) > 2 else kwargs["value"])

    def sum_abs(self, h: Tensor) -> tuple[Tensor, int]:
        """Sum |h_i| over everything but units.

        Args:
            h: as the hook gives it, of any shape.

        Returns:
            The sums, of shape (n,), float32 (float64 for float64), without gradient; and the number of summands of
            each: examples times positions.

        Raises:
            ValueError: where the axis of h does not hold the units.
        """
        h = h.detach()
        at = self._at(h)
        if not self.places and h.shape[at : at + 1] == (self.n,):  # the usual case, without detours
            return _sum_abs(h, (at,)), h.numel() // self.n
        parts = self._split(h)
        sums = [_sum_abs(part, (at, at + 2)).view(self.n) for part in parts]
        return sum(sums[1:], sums[0]), sum(part.numel() for part in parts) // self.n

    def sum_abs_by_position(self, h: Tensor) -> tuple[Tensor, int]:
        """Sum |h_i| over everything but units and their positions along the axis.

        Args:
            h: as the hook gives it, of any shape.

        Returns:
            The sums, of shape (n, positions), place after place, as of `sum_abs`; and the number of summands of each.
        """
        h = h.detach()
        at = self._at(h)
        sums = [_sum_abs(part, (at, at + 1, at + 2)).transpose(1, 2).reshape(self.n, -1) for part in self._split(h)]
        return torch.cat(sums, dim=1), h.numel() // h.shape[at]

    def matrix(self, h: Tensor) -> Tensor:
        """h as a matrix.

        Args:
            h: as the hook gives it, of any shape.

        Returns:
            (examples times positions, n): column i is unit i; a view where the memory layout allows.
        """
        at = self._at(h)
        rows = [part.movedim((at, at + 2), (-2, -1)).reshape(-1, self.n) for part in self._split(h)]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _at(self, h: Tensor) -> int:
        return self.axis if self.axis >= 0 else h.dim() + self.axis

    def _split(self, h: Tensor) -> list[Tensor]:
        """For each place a view of h with the axis of units split into (n / stride, positions, stride)."""
        at = self._at(h)
        size = h.shape[at] if 0 <= at < h.dim() else 0
        places = self.places or (Place(self.name, at, None, max(1, size // self.n)),)
        for place in places:
            if size < (place.start or 0) + self.n * place.positions or (
                place.start is None and size != self.n * place.positions
            ):
                raise ValueError(
                    f"axis {self.axis} of the {self.kind} of {self.name!r} must hold {self.n} units; its shape is "
                    f"{tuple(h.shape)}: give `axis` to `Units`, or another `activation`"
                )
        return [place.split(h, self.n, at) for place in places]


def _sum_abs(x: Tensor, kept: tuple[int, ...]) -> Tensor:
    """Sum |x| over all dimensions but those kept, in float32 (float64 for float64)."""
    dtype = wide_type(x)
    over = [d for d in range(x.dim()) if d not in kept]
    if not looking_is_free(x):
        return torch.linalg.vector_norm(x, 1, over, dtype=dtype)
    if x.numel() <= CHUNK or 0 in kept:
        return x.abs().sum(over, dtype=dtype) if over else x.abs().to(dtype)
    # On a CPU pieces that stay in a core's cache take a fraction of the time of the whole.
    pieces = x.split(max(1, len(x) * CHUNK // x.numel()))
    buffer = torch.empty_like(pieces[0])
    total = x.new_zeros([x.shape[d] for d in kept], dtype=dtype)
    for piece in pieces:
        total += torch.abs(piece, out=buffer[: len(piece)]).sum(over, dtype=dtype)
    return total


def _values(attention: nn.Module, value: Tensor) -> Tensor:
    """The values of an `nn.MultiheadAttention`, before its heads mix them."""
    assert isinstance(attention, nn.MultiheadAttention)
    width = attention.embed_dim
    weight, bias = attention.v_proj_weight, attention.in_proj_bias
    if attention.in_proj_weight is not None:
        weight = attention.in_proj_weight[2 * width :]
    return F.linear(value, weight, None if bias is None else bias[2 * width :])


def reads_inputs(entry: Entry) -> bool:
    """Is it the weight of a linear or convolutional layer?"""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(entry.module, kinds) and entry.attribute == "weight"


def input_reading(entry: Entry) -> Reading:
    """What the layer of such a weight receives; its units are features, or channels."""
    module: Any = entry.module
    n = module.in_channels if hasattr(module, "in_channels") else module.in_features
    return Reading(module, entry.name.rpartition(".")[0], "input", n, feature_axis(module))


def module_named(model: nn.Module, name: str) -> nn.Module:
    """The module that `activation` names, or one clear line."""
    module = find_module(model, name)
    if module is None:
        raise ValueError(f"`activation` must name a module of the model; there is no {name!r}")
    return module


def feature_axis(layer: nn.Module) -> int:
    """The axis of features in what a layer reads and gives."""
    return -1 - len(layer.kernel_size) if isinstance(layer, nn.modules.conv._ConvNd) else -1


class Tap:
    """Hooks that hand over h once per forward pass.

    Args:
        reading: where h is.
        receive: called with the hooked module and h.
        wanted: called with the hooked module and its output (or input) before h is computed; h is skipped if it returns
            False. None: never skipped.

    The hooks are bound to the tap, so copying the model together with its tap gives the copy its own hooks.
    """

    def __init__(
        self,
        reading: Reading,
        receive: Callable[[nn.Module, Tensor], None],
        wanted: Callable[[nn.Module, Any], bool] | None = None,
    ) -> None:
        self._reading, self._receive, self._wanted = reading, receive, wanted
        self._parts: list[Tensor | None] = [None] * len(reading.outputs)
        if reading.kind == "input":
            self._handles = [reading.module.register_forward_pre_hook(self._seen, with_kwargs=True)]
        elif len(reading.outputs) < 2:
            self._handles = [reading.module.register_forward_hook(self._seen, with_kwargs=True)]
        else:
            hooks = [partial(self._gather, i) for i in range(len(reading.outputs))]
            self._handles = [m.register_forward_hook(h) for m, h in zip(reading.outputs, hooks, strict=True)]

    def _seen(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any = None) -> None:
        inputs = (*args, *kwargs.values())
        given = output if self._reading.kind != "input" else inputs[0] if inputs else None
        if self._wanted is None or self._wanted(module, given):
            self._receive(module, self._reading.activation(args, kwargs, output))

    def _gather(self, index: int, module: nn.Module, args: tuple, output: Any) -> None:
        """Keep one of several outputs that a formula needs; the last one evaluates it and releases them all."""
        if self._wanted is not None and not self._wanted(module, output):
            return
        if self._parts[index] is not None:  # left over from an interrupted pass
            self._parts = [None] * len(self._parts)
        self._parts[index] = output.detach()
        parts = [part for part in self._parts if part is not None]
        if len(parts) == len(self._parts) and self._reading.formula is not None:
            self._parts = [None] * len(parts)
            self._receive(module, self._reading.formula.evaluate(parts, self._reading.called))

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
