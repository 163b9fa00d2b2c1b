"""Many MLPs of one shape, trained at once as stacked tensors.

Shapes: C members, B images a batch, P pixels, H units, O outputs of a layer, I its inputs; members lead.

All members of a stack see the same images, so their first layers are one product: (B, P) x (P, C * H). Plain SGD
needs no weight gradient: `backward` stops at the gradients of the pre-activations, and `descend` adds each product
of these with a layer's inputs straight to its weights.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...laws import Law
from ...methods import HiddenUnits
from ...methods.network import added
from ...wiring import Place
from .. import kernels
from ..nets import MLP
from ..unit_loops import UnitLoops
from .activations import Activation, Affine, Norm, ReLU
from .activations_cpu import LoopedAffine, LoopedNorm, LoopedReLU

_WIDE = 32  # units from which a matrix product is faster with the images' axis first


@dataclass
class Layer:
    """One layer of every member: its weights, what follows their product, and what the last passes left.

    weight (C, O, I); `name`: of the module in the MLP; `own`: names of the activation's parameters. inputs (C, B, I),
    of the first layer (B, I), hidden (C, B, O) after the ReLU, outputs (C, B, O), slope: of the objective at the
    pre-activations, (C, B, O).
    """

    name: str
    weight: Tensor
    activation: Activation
    own: tuple[str, ...]
    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    hidden: Tensor = field(default_factory=lambda: torch.empty(0))
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    slope: Tensor = field(default_factory=lambda: torch.empty(0))


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
        self.scale: Tensor | None = None
        self.normed = isinstance(net.norm1, torch.nn.LayerNorm)
        self.norm_first = self.normed and net.ln_position == "before"
        self._wide = self.normed or net.fc1.out_features >= _WIDE
        self.parameters = {
            name: torch.empty(members, *p.shape, device=device, dtype=dtype) for name, p in net.named_parameters()
        }
        self._gradients: dict[str, Tensor] = {}
        self._formed = False  # are these of the last backward pass?
        self.layers = [self._layer(f"fc{i}", f"norm{i}") for i in (1, 2, 3)] + [self._layer("out")]
        self._small = [p for layer in self.layers for p in layer.activation.parameters]
        self._small_slopes = [p for layer in self.layers for p in layer.activation.slopes]
        self.units = [self._units(layer, above) for layer, above in itertools.pairwise(self.layers)]
        for member in range(members):
            self.fill(member, net)

    def _layer(self, name: str, norm: str = "") -> Layer:
        own = tuple(n for n in (f"{name}.bias", f"{norm}.weight", f"{norm}.bias") if n in self.parameters)
        values = [self.parameters[n] for n in own]
        by_loops, first = kernels.fit(values[0]), name == "fc1"
        if not norm:
            activation = LoopedAffine(*values) if by_loops else Affine(*values)
        elif self.normed:
            order = {"relu_first": not self.norm_first}
            activation = LoopedNorm(*values, **order, first=first) if by_loops else Norm(*values, **order)
        else:
            activation = LoopedReLU(*values, first=first, narrow=not self._wide) if by_loops else ReLU(*values)
        return Layer(name, self.parameters[f"{name}.weight"], activation, own)

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
        """Show the pixels in another order from now on: column i of the first weights is what was column shuffle[i]."""
        w = self.layers[0].weight
        w.copy_(w.index_select(2, shuffle))

    # Forward.

    def forward(self, x: Tensor) -> Tensor:
        """Logits (C, B, outputs) of the images (B, P), or (B, k) where all pixels from k on are 0.

        Valid until the next call: on a CPU they lie where those of the next batch will.
        """
        a = x.to(self.layers[0].weight.dtype)
        for layer in self.layers:
            layer.inputs = a
            z = self._first(layer, a) if layer is self.layers[0] else self._product(layer, a)
            layer.hidden, layer.outputs = layer.activation.forward(z)
            a = layer.outputs
        return a

    def _first(self, layer: Layer, x: Tensor) -> Tensor:
        """One product for all members."""
        w = layer.weight.flatten(0, 1)[:, : x.shape[1]]
        z = torch.mm(x, w.T, out=layer.activation.room(len(x)))
        return z.view(len(x), self.members, -1).transpose(0, 1)

    def _product(self, layer: Layer, a: Tensor) -> Tensor:
        """W a, with whichever axis last is the fastest."""
        room = layer.activation.room(a.shape[1])
        if self._wide and layer is not self.layers[-1]:
            return torch.bmm(a, layer.weight.mT, out=room)
        return torch.bmm(layer.weight, a.mT, out=room).mT

    # Backward.

    def backward(self, slope: Tensor, after: Callable[[int, str], None] | None = None) -> None:
        """Slopes of the objective at every layer's pre-activations, from that at the logits (C, B, outputs).

        `after(l, place)` is called when the slope at the hidden layer l is known and what is below is still to come:
        at its outputs (`place` "after" the norm), then at its ReLU's ("before" it). What it does to the weights shows
        in the slopes below, and the slopes above are those of the old weights.
        """
        self._formed = False
        self.layers[-1].slope = self.layers[-1].activation.backward(slope)
        for i in range(len(self.layers) - 2, -1, -1):
            layer = self.layers[i]
            d = self._back(self.layers[i + 1], layer.activation.room_above)
            if after:
                after(i, "after")
                if self.norm_first:
                    after(i, "before")
            layer.slope = layer.activation.backward(d)
            if after and not self.norm_first:
                after(i, "before")

    def _back(self, above: Layer, room: Tensor | None) -> Tensor:
        if self._wide:
            return torch.bmm(above.slope, above.weight, out=room)
        return torch.bmm(above.weight.mT, above.slope.mT, out=room).mT

    # What follows from the slopes.

    def descend(self) -> None:
        """Add the slopes to the parameters: with slopes of -(step size) * loss, one step of plain SGD."""
        if self._formed:  # added, they round as their products do: for BLAS a batch is one block
            slopes = [self._gradients[name] for name in self.parameters]
            torch._foreach_add_(list(self.parameters.values()), slopes)  # type: ignore[attr-defined]
            return
        for layer in self.layers:
            self._add_products(layer, layer.weight, 1)
        torch._foreach_add_(self._small, self._small_slopes)  # type: ignore[attr-defined]  # one call: calls cost most

    def _add_products(self, layer: Layer, out: Tensor, beta: int) -> None:
        """out <- beta * out + slope^T inputs, over the pixels that the first layer was shown."""
        if layer is self.layers[0]:
            x = layer.inputs
            flat = layer.slope.transpose(0, 1).flatten(1).T if self._wide else layer.slope.mT.flatten(0, 1)
            out.flatten(0, 1)[:, : x.shape[1]].addmm_(flat, x, beta=beta)
        else:
            out.baddbmm_(layer.slope.mT, layer.inputs, beta=beta)

    def gradients(self) -> dict[str, Tensor]:
        """The slopes at the parameters, by name; valid until the next backward pass."""
        if not self._gradients:
            found = {f"{layer.name}.weight": torch.zeros_like(layer.weight) for layer in self.layers}
            for layer in self.layers:
                found |= zip(layer.own, layer.activation.slopes, strict=True)
            self._gradients = {name: found[name] for name in self.parameters}
        for layer in self.layers:
            w = self._gradients[f"{layer.name}.weight"]
            if layer is self.layers[0]:
                w[:, :, layer.inputs.shape[1] :] = 0  # of pixels that no image of the batch lights
            self._add_products(layer, w, 0)
        self._formed = True
        return self._gradients

    def activity(self, layer: int, places: Sequence[int]) -> Tensor:
        """Mean |h| of a hidden layer over the batch, (k, H), of some members: before the norm, or after it."""
        own = self.layers[layer]
        h = own.hidden if self.units_read == "before" else own.outputs
        if not kernels.fit(h):
            return h.index_select(0, torch.tensor(places, device=h.device)).abs().mean(1)
        out = h.new_empty(len(places), h.shape[2])
        kernels.mean_magnitude(h.numpy(), np.array(places), out.numpy())
        return out

    def gradient(self, name: str) -> Tensor:
        return self._gradients[name]

    def add_to_gradient(self, name: str, places: Sequence[int], penalty: Tensor) -> None:
        if self.scale is None:
            added(self._gradients[name], places, penalty)
        else:  # of plain SGD no gradient is stored: its step is made at once
            scale = self.scale[list(places)].to(penalty).view(-1, *[1] * (penalty.dim() - 1))
            added(self.parameters[name], places, scale * penalty)
