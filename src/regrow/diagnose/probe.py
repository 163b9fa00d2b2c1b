"""Statistics of a model's hidden layers in a forward pass, kept as sums, never as activations.

Shapes: R rows (examples times positions), n units.
"""

import math
from dataclasses import replace
from functools import partial
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor, nn

from ..wiring import Reading, Tap, Units, find_measurable, ops
from ..wiring.modules import Catalog
from .preactivations import Preactivations
from .ranks import effective_rank, rank99, stable_rank

_BLOCK = 1 << 22  # entries of an activation matrix that are factorised at a time


class LayerSums:
    """Running statistics of one layer's activations: sums and extremes of each unit, and a triangle.

    The triangle is the R of a QR factorisation of all rows so far. It has the singular values of A, to float64
    precision, and at most n rows.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._low = self._high = self._total = self._triangle = torch.empty(0)

    def add(self, h: Tensor) -> None:
        """One forward pass: (R, n)."""
        rows, n = h.shape
        if rows == 0:
            return
        low, high = h.aminmax(dim=0)
        if self.rows == 0:
            self._low, self._high = low, high
            self._total = h.new_zeros(n, dtype=torch.float64)
            self._triangle = h.new_zeros(0, n, dtype=torch.float64)
        self.rows += rows
        self._low, self._high = torch.minimum(self._low, low), torch.maximum(self._high, high)
        for part in h.split(max(_BLOCK // n, 2 * n)):
            part = part.double()
            self._total += part.abs().sum(0)
            self._triangle = torch.linalg.qr(torch.cat([self._triangle, part]), mode="r").R

    @property
    def finite(self) -> bool:
        return bool(self._total.isfinite().all())

    def dead(self) -> Tensor:
        """bool of shape (n,)"""
        low, high = self._low, self._high
        return (low == high) & ((low == 0) | (low.abs() == 1))

    def dormant(self, threshold: float) -> Tensor:
        """bool of shape (n,)"""
        return self._total <= threshold * self._total.mean()

    def ranks(self) -> dict[str, float]:
        if not self.finite:
            return dict.fromkeys(("stable_rank", "rank99", "effective_rank"), math.nan)
        singular = torch.linalg.svdvals(self._triangle)
        return {f.__name__: float(f(singular)) for f in (stable_rank, rank99, effective_rank)}


class Probe:
    """Hooks that measure a model's hidden layers, removed on exit.

    Args:
        model: any module.
        gradients: also record where the pre-activations are, for their gradients.
    """

    def __init__(self, model: nn.Module, gradients: bool = False) -> None:
        self._model = model
        self.units: list[Units] = []
        self._why_no_units = ""
        self.preactivations = Preactivations(model) if gradients else None
        self._layers: dict[str, LayerSums] = {}  # in the order of the forward pass
        self._handles: list[Any] = []
        self._maker: tuple[str, int] = "", -1  # name of the layer that ran last, and the axis of its features
        self._names: dict[tuple[str, str, int], str] = {}

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def watch(self, inputs: Any) -> None:
        """Start measuring the layers of units or, if there are none, the outputs of activation modules.

        Args:
            inputs: what the model will be called with, to find its units.
        """
        found = find_measurable(self._model, inputs)
        if not found:
            self._why_no_units = found.why
            self._watch_activations()
        self.units = list(found)
        for units in found:
            reading = units.reading(self._model)
            if self.preactivations is not None:
                self._handles += self.preactivations.watch(units, reading)
            self._handles.append(Tap(reading, partial(self._read, units.layer, reading)))

    def reached(self) -> dict[str, LayerSums]:
        """The layers that the forward pass reached."""
        layers = {name: layer for name, layer in self._layers.items() if layer.rows}
        if self._layers and not layers:
            raise ValueError("`inputs` must hold at least one example; got none")
        if not layers:
            raise ValueError(
                f"no hidden layer to measure in {type(self._model).__name__}: no units are found in it "
                f"({self._why_no_units}), and the inputs reach no activation module; make its nonlinearities modules "
                "(nn.ReLU() in place of F.relu)"
            )
        return layers

    def _layer(self, name: str) -> LayerSums:
        return self._layers.setdefault(name, LayerSums())

    def _read(self, name: str, reading: Reading, module: nn.Module, h: Tensor) -> None:
        h = h.detach()
        # A reader that sees the units twice (CReLU) sees twice as many.
        seen = [replace(reading, places=(place,)) for place in reading.places] or [reading]
        matrices = [one.matrix(h) for one in seen]
        self._layer(name).add(matrices[0] if len(matrices) == 1 else torch.cat(matrices, dim=1))

    def _watch_activations(self) -> None:
        catalog = Catalog(self._model)
        for name, module in catalog.candidates().items():
            dense = catalog.dense(module)
            maker = name, -1 if dense is None else dense.axis
            self._handles.append(module.register_forward_hook(partial(self._made, maker)))
        for name, module in catalog.modules.items():
            if _is_activation(module) and catalog.name(module) == name:
                acted = partial(self._acted, name or type(module).__name__)
                if self.preactivations is not None:
                    enter = self.preactivations.enter
                    self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                self._handles.append(module.register_forward_hook(acted))

    def _made(self, maker: tuple[str, int], module: nn.Module, args: tuple, out: Any) -> None:
        self._maker = maker

    def _acted(self, name: str, module: nn.Module, args: tuple, out: Tensor) -> None:
        maker, axis = self._maker
        h = out.detach().movedim(axis if out.dim() >= -axis else -1, -1)
        # An activation module may serve several layers, and a layer have several of them.
        key = maker, name, h.shape[-1]
        if key not in self._names:
            others = (f"{name}#{i}" for i in count(2))
            self._names[key] = next(n for n in chain((maker, name), others) if n and n not in self._layers)
        self._layer(self._names[key]).add(h.reshape(-1, h.shape[-1]))
        if self.preactivations is not None:
            self.preactivations.acted(module, self._names[key], axis)


def _is_activation(module: nn.Module) -> bool:
    """One of torch's activations, or a module named like one that has no parameters."""
    names = ("LU", "Activation", "Tanh", "Sigmoid", "Swish", "Mish")
    if ops.is_activation(module) or isinstance(module, nn.PReLU):
        return True
    return not module._modules and not module._parameters and any(name in type(module).__name__ for name in names)
