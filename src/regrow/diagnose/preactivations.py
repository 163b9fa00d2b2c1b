"""Where the pre-activations of a model's hidden layers lie in the graph of its forward pass.

The graph holds the values; this module keeps only their places (gradient edges). No tensor gets a hook, and in-place
activations do no harm, since the place is that of the value before them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from ..wiring import Reading, Tap, Units, locate
from ..wiring.modules import Catalog

Rows = Callable[[Tensor], Tensor]
"""From a tensor of the shape of z to (R, n): examples times positions, units."""


class Seen(NamedTuple):
    """A pre-activation z, as seen in a forward pass."""

    edge: GradientEdge
    shape: torch.Size
    rows: Rows


class Preactivations:
    """Hooks on a model that record where the z of each hidden layer is.

    z is what the activation module receives. If that is no module, or changes the shape, z is the
    output of the last norm or layer before it.

    Args:
        model: any module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._catalog = Catalog(model)
        self._pending: dict[Any, Seen] = {}  # seen, and not yet assigned to a layer
        self._noted: list[tuple[str, int, list[Seen]]] = []  # layer, number of units, its parts

    @property
    def edges(self) -> list[GradientEdge]:
        """All that were recorded, in order."""
        return [seen.edge for _, _, parts in self._noted for seen in parts]

    def sums(self, gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Sum |dL/dz_i| over rows, for each unit of each layer.

        Args:
            gradients: for each of `edges`; None where the loss does not depend on it.

        Returns:
            {layer: float64 of shape (n,)}, in the order of the forward pass.
        """
        places = [(name, n, seen) for name, n, parts in self._noted for seen in parts]
        totals: dict[str, Tensor] = {}
        # Not strict: activation checkpointing reruns layers in the backward pass, which records them again at the end.
        for (name, n, seen), g in zip(places, gradients, strict=False):
            total = torch.zeros(n, dtype=torch.float64)
            if g is not None:
                total = seen.rows(g.detach()).abs().sum(0, dtype=torch.float64).cpu()
            totals[name] = totals[name] + total if name in totals else total
        return totals

    # Layers of units.

    def watch(self, units: Units, reading: Reading) -> list[RemovableHandle | Tap]:
        """Record the pre-activations of these units.

        Args:
            units: of one layer.
            reading: where their activation is read.
        """
        key = units.layer
        handles: list[RemovableHandle | Tap] = []
        for i, place in enumerate(units.weight_in):
            module, _ = locate(self._catalog.root, place.name)
            dense = self._catalog.dense(module)
            assert dense is not None, place
            made = replace(reading, axis=dense.axis, places=() if place.start is None else (place,))
            handles.append(module.register_forward_hook(partial(self._ran, (key, "layer", i), made.matrix)))
        norms = {id(locate(self._catalog.root, place.name)[0]): place for place in units.norm}
        for place in norms.values():
            module, attribute = locate(self._catalog.root, place.name)
            layered = hasattr(module, "normalized_shape")  # others have their channels in dimension 1
            axis = place.dim - getattr(module, attribute).dim() if layered else 1
            normed = replace(reading, axis=axis, places=(place,))
            handles.append(module.register_forward_hook(partial(self._ran, (key, "norm"), normed.matrix)))
        claim = partial(self._claim, key, len(units.weight_in), reading.n)
        if reading.kind == "output":
            plain = replace(reading, places=())
            enter = partial(self._enters, (key, "act"), plain.matrix)
            handles.append(reading.module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(reading.module.register_forward_hook(claim))
        elif reading.kind == "formula":
            handles.append(Tap(reading, claim))
        else:
            handles.append(reading.module.register_forward_pre_hook(claim))
        return handles

    def _ran(self, key: Any, rows: Rows, module: nn.Module, args: Any, out: Any) -> None:
        """A layer or a norm has run."""
        if key[1] == "layer":
            self._pending.pop((key[0], "norm"), None)
        self._keep(key, rows, out)

    def _enters(self, key: Any, rows: Rows, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """An activation module is called."""
        self._keep(key, rows, args[0] if args else next(iter(kwargs.values()), None))

    def _keep(self, key: Any, rows: Rows, z: Any) -> None:
        self._pending.pop(key, None)
        if isinstance(z, Tensor) and z.requires_grad and z.numel():
            self._pending[key] = Seen(get_gradient_edge(z), z.shape, rows)

    def _claim(self, key: str, layers: int, n: int, module: nn.Module, given: Any, out: Any = None) -> None:
        """The activation has run: the last value recorded before it was z."""
        act, norm = self._pending.pop((key, "act"), None), self._pending.pop((key, "norm"), None)
        made = [self._pending.pop((key, "layer", i), None) for i in range(layers)]
        if act is not None and isinstance(out, Tensor) and out.shape == act.shape:
            made = [act]
        elif norm is not None:
            made = [norm]
        parts = [seen for seen in made if seen is not None]
        if len(parts) == len(made):
            self._noted.append((key, n, parts))

    # Activation modules, where there are no units.

    def enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """A pre-hook for an activation module."""
        self._enters(id(module), _all, module, args, kwargs)

    def acted(self, module: nn.Module, name: str, axis: int) -> None:
        """The module has computed the activations of a layer.

        Args:
            module: the activation module.
            name: of the layer.
            axis: of features in z.
        """
        seen = self._pending.pop(id(module), None)
        if seen is not None:
            axis = axis if len(seen.shape) >= -axis else -1
            rows = partial(_last, axis)
            self._noted.append((name, seen.shape[axis], [seen._replace(rows=rows)]))


def _all(z: Tensor) -> Tensor:
    return z


def _last(axis: int, z: Tensor) -> Tensor:
    z = z.movedim(axis, -1)
    return z.reshape(-1, z.shape[-1])
