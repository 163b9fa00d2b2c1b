"""Many MLPs of one shape, trained at once as stacked tensors.

Shapes: C members, B images a batch, P pixels, H units, O outputs of a layer, I its inputs; members lead.

All members of a stack see the same images, so their first layers are one product: (B, P) x (P, C * H). Plain SGD
needs no weight gradient: `backward` stops at the gradients of the pre-activations, and `descend` adds each product
of these with a layer's inputs straight to its weights.

Gradients, in this folder, are those of the *scaled loss*: each member's loss times its scale, which is -(step size) for
plain SGD and 1 for other optimizers.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...laws import Law
from ...methods import HiddenUnits
from ...methods.rows import added, taken
from ...wiring import Place
from .. import kernels
from ..nets import MLP
from ..unit_loops import UnitLoops
from .activations import Activation, Affine, Norm, ReLU
from .activations_cpu import CompiledAffine, CompiledNorm, CompiledReLU
from .narrow import NarrowLayer

_WIDE = 32  # units from which a matrix product is faster with the images' axis first


@dataclass
class Layer:
    """One layer of every member: its weights, what follows their product, and the results of the last passes.

    weight (C, O, I); `name`: of the module in the MLP; `own`: names of the activation's parameters; `narrow`: the
    activation, where it makes the product as well. inputs (C, B, I), of the first layer (B, I), hidden (C, B, O) after
    the ReLU, outputs (C, B, O), grad (C, B, O): the gradient at the pre-activations.
    """

    name: str
    weight: Tensor
    activation: Activation
    own: tuple[str, ...]
    narrow: NarrowLayer | None = None
    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    hidden: Tensor = field(default_factory=lambda: torch.empty(0))
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    grad: Tensor = field(default_factory=lambda: torch.empty(0))


class StackedMLP(UnitLoops):
    """C networks of the structure of one MLP.

    `parameters` maps the MLP's parameter names, in its order, to contiguous tensors with a leading axis of members.

    Args:
        net: its structure, and the initial values of every member.
        members: C >= 1.
        device, dtype: of the parameters.

    Example:
        >>> import torch
        >>> stack = StackedMLP(MLP(hidden=4, inputs=6), 3)
        >>> stack.forward(torch.rand(16, 6)).shape
        torch.Size([3, 16, 10])

    Reference:
        Hernandez-Garcia et al. 2025, section 3.
    """

    def __init__(
        self, net: MLP, members: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.members = members
        self._laws: dict[str, Law] = net.init_laws()
        self.norms = frozenset(name for name, _ in net.named_parameters() if name.startswith("norm"))
        self.units_read = "before"
        self._penalties: list[tuple[str, Sequence[int], Tensor]] = []
        self.scale: Tensor | None = None
        self.normed = isinstance(net.norm1, torch.nn.LayerNorm)
        self.norm_first = self.normed and net.ln_position == "before"
        wide = net.fc1.out_features >= _WIDE
        self.parameters = {
            name: torch.empty(members, *p.shape, device=device, dtype=dtype) for name, p in net.named_parameters()
        }
        self._narrow = not wide and kernels.supports(next(iter(self.parameters.values())))
        self._wide = self.normed or wide
        self._gradients: dict[str, Tensor] = {}
        self._filled = 0  # pixels from here on have a gradient of 0 in `_gradients`
        self._formed = False  # whether they belong to the last backward pass
        self.slots = torch.arange(net.fc1.in_features, device=device)  # where each stored pixel enters the network
        self.layers: list[Layer] = []
        for name, norm in (("fc1", "norm1"), ("fc2", "norm2"), ("fc3", "norm3"), ("out", "")):
            self.layers.append(self._layer(name, norm))
        self._small = [p for layer in self.layers for p in layer.activation.parameters]
        self._small_grads = [p for layer in self.layers for p in layer.activation.grads]
        self.units = [self._units(layer, above) for layer, above in itertools.pairwise(self.layers)]
        for member in range(members):
            self.fill(member, net)

    def _layer(self, name: str, norm: str = "") -> Layer:
        own = tuple(n for n in (f"{name}.bias", f"{norm}.weight", f"{norm}.bias") if n in self.parameters)
        values = [self.parameters[n] for n in own]
        compiled, first = kernels.supports(values[0]), name == "fc1"
        weight = self.parameters[f"{name}.weight"]
        if self._narrow:
            below = None if first else self.layers[-1].activation
            order = {"last": not norm, "relu_first": not self.norm_first}
            activation = NarrowLayer(weight, *values, below=below, **order)
        elif not norm:
            activation = CompiledAffine(*values) if compiled else Affine(*values)
        elif self.normed:
            order = {"relu_first": not self.norm_first}
            activation = CompiledNorm(*values, **order, first=first) if compiled else Norm(*values, **order)
        else:
            activation = CompiledReLU(*values, first=first) if compiled else ReLU(*values)
        return Layer(name, weight, activation, own, activation if isinstance(activation, NarrowLayer) else None)

    @property
    def hidden(self) -> list[Layer]:
        """The layers of hidden units, from the input on."""
        return self.layers[:-1]

    def _units(self, layer: Layer, above: Layer) -> HiddenUnits:
        incoming = [Place(name, 0) for name in (f"{layer.name}.weight", *layer.own)]
        return HiddenUnits.of(layer.name, layer.weight.shape[1], incoming, [Place(f"{above.name}.weight", 1)])

    @property
    def laws(self) -> dict[str, Law]:
        return self._laws

    def fill(self, member: int, net: MLP) -> None:
        """Give one member the values of a network."""
        for name, parameter in net.named_parameters():
            self.parameters[name][member] = parameter.detach()

    def permute(self, shuffle: Tensor) -> None:
        """Permute the pixels: column i of the first weights becomes what was column shuffle[i]."""
        w = self.layers[0].weight
        w.copy_(w.index_select(2, shuffle))
        self.slots.copy_(self.slots.index_select(0, shuffle))

    def position(self, name: str) -> Tensor:
        """As of networks whose pixels are permuted, not their weights: columns of the first layer are input slots."""
        own = super().position(name)
        return own if name != f"{self.layers[0].name}.weight" else own.index_select(1, self.slots)

    # Forward.

    def forward(self, x: Tensor) -> Tensor:
        """Logits (C, B, outputs) of the images (B, P), or (B, k) where all pixels from k on are 0.

        Valid until the next call: on a CPU the next batch reuses their memory.
        """
        a = x.to(self.layers[0].weight.dtype)
        for layer in self.layers:
            layer.inputs = a
            if layer.narrow:
                z = a
            else:
                z = self._first(layer, a) if layer is self.layers[0] else self._product(layer, a)
            layer.hidden, layer.outputs = layer.activation.forward(z)
            a = layer.outputs
        return a

    def _first(self, layer: Layer, x: Tensor) -> Tensor:
        """One product for all members."""
        w = layer.weight.flatten(0, 1)[:, : x.shape[1]]
        z = torch.mm(x, w.T, out=layer.activation.buffer(len(x)))
        return z.view(len(x), self.members, -1).transpose(0, 1)

    def _product(self, layer: Layer, a: Tensor) -> Tensor:
        """W a, in the faster of two memory orders."""
        buffer = layer.activation.buffer(a.shape[1])
        if self._wide and layer is not self.layers[-1]:
            return torch.bmm(a, layer.weight.mT, out=buffer)
        return torch.bmm(layer.weight, a.mT, out=buffer).mT

    # Backward.

    def backward(self, grad: Tensor, after: Callable[[int, str], None] | None = None) -> None:
        """Gradients at every layer's pre-activations, from that at the logits (C, B, outputs).

        `after(l, place)` is called once the gradient at hidden layer l is known, before those of the layers below: at
        its outputs (`place` "after" the norm), then at its ReLU's ("before" it). Changes that it makes to the weights
        affect the gradients below; those above were computed with the old weights.
        """
        self._formed = False
        self.layers[-1].grad = self.layers[-1].activation.backward(grad)
        for i in range(len(self.layers) - 2, -1, -1):
            layer = self.layers[i]
            d = self._back(self.layers[i + 1], layer)
            if after:
                after(i, "after")
                if self.norm_first:
                    after(i, "before")
            layer.grad = layer.activation.backward(d)
            if after and not self.norm_first:
                after(i, "before")

    def _back(self, above: Layer, layer: Layer) -> Tensor:
        """The gradient at a layer's outputs."""
        if layer.narrow:
            return layer.narrow.receive(above.activation)
        buffer = layer.activation.grad_buffer
        if self._wide:
            return torch.bmm(above.grad, above.weight, out=buffer)
        return torch.bmm(above.weight.mT, above.grad.mT, out=buffer).mT

    # From these gradients to parameters.

    def descend(self) -> None:
        """Add the gradients to the parameters: with the loss scaled by -(step size), a step of plain SGD."""
        self.add_penalties()
        if self._formed:  # same rounding as `_add_products`: BLAS treats a batch as one block
            grads = [self._gradients[name] for name in self.parameters]
            torch._foreach_add_(list(self.parameters.values()), grads)  # type: ignore[attr-defined]
            return
        for layer in self.layers:
            self._add_products(layer, layer.weight, 1)
        torch._foreach_add_(self._small, self._small_grads)  # type: ignore[attr-defined]  # one call, since overhead dominates

    def add_penalties(self) -> None:
        """The part of `descend` that `add_to_gradient` left to it."""
        for name, places, penalty in self._penalties:
            added(self.parameters[name], places, penalty)
        self._penalties.clear()

    def _add_products(self, layer: Layer, out: Tensor, beta: int) -> None:
        """out <- beta * out + grad^T inputs; in the first layer only for the active pixels, those of its inputs."""
        if layer.narrow:
            layer.narrow.add_products(out, layer.inputs, beta == 1)
        elif layer is self.layers[0]:
            x = layer.inputs
            flat = layer.grad.transpose(0, 1).flatten(1).T if self._wide else layer.grad.mT.flatten(0, 1)
            out.flatten(0, 1)[:, : x.shape[1]].addmm_(flat, x, beta=beta)
        else:
            out.baddbmm_(layer.grad.mT, layer.inputs, beta=beta)

    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the parameters, by name; valid until the next backward pass."""
        if not self._gradients:
            named = {f"{layer.name}.weight": torch.zeros_like(layer.weight) for layer in self.layers}
            for layer in self.layers:
                named |= zip(layer.own, layer.activation.grads, strict=True)
            self._gradients = {name: named[name] for name in self.parameters}
        active = self.layers[0].inputs.shape[1]
        self._gradients["fc1.weight"][:, :, active : self._filled] = 0  # zeroing the rest would cost a pass over it
        self._filled = active
        for layer in self.layers:
            self._add_products(layer, self._gradients[f"{layer.name}.weight"], 0)
        self._formed = True
        return self._gradients

    def activity(self, layer: int, places: Sequence[int]) -> Tensor:
        """Mean |h| of a hidden layer over the batch, (k, H), of some members: before the norm, or after it."""
        own = self.layers[layer]
        h = own.hidden if self.units_read == "before" else own.outputs
        if not kernels.supports(h):
            return h.index_select(0, torch.tensor(places, device=h.device)).abs().mean(1)
        out = h.new_empty(len(places), h.shape[2])
        kernels.mean_magnitude(h.numpy(), np.array(places), out.numpy())
        return out

    @property
    def inputs(self) -> dict[str, int]:
        return {f"{layer.name}.weight": layer.weight.shape[2] for layer in self.layers}

    def active(self, name: str, places: Sequence[int]) -> Tensor:
        """Of the last batch; all members see the same images."""
        layer = next(layer for layer in self.layers if f"{layer.name}.weight" == name)
        if layer is not self.layers[0]:
            return (taken(layer.inputs, places) != 0).any(1)
        seen = (layer.inputs != 0).any(0)
        rest = layer.weight.shape[2] - len(seen)  # pixels that are 0 in the whole batch
        return torch.nn.functional.pad(seen, (0, rest)).expand(len(places), -1)

    def gradient(self, name: str) -> Tensor:
        return self._gradients[name]

    def add_to_gradient(self, name: str, places: Sequence[int], penalty: Tensor) -> None:
        if self.scale is None:
            self._filled = self.layers[0].weight.shape[2]  # at all pixels
            added(self._gradients[name], places, penalty)
        else:  # of plain SGD no gradient is stored: `descend` adds it to the parameters, after they have decayed
            scale = taken(self.scale, places).to(penalty).view(-1, *[1] * (penalty.dim() - 1))
            self._penalties.append((name, places, scale * penalty))
