"""Many MLPs of one shape, trained at once as stacked tensors.

Shapes: C members, B images a batch, P pixels, H units, O outputs of a layer, I its inputs; members lead.

All members of a stack see the same images, so their first layers are one product: (B, P) x (P, C * H). Plain SGD
needs no weight gradient: `backward` stops at the gradients of the pre-activations, and `descend` adds each product
of these with a layer's inputs straight to its weights.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..laws import Law
from . import loops
from .nets import MLP
from .norm import StackedNorm
from .renewal import HiddenUnits

_WIDE = 32  # units from which a matrix product is faster with the images' axis first


@dataclass
class Layer:
    """One layer of every member: its parameters, and what the last forward and backward pass left.

    weight (C, O, I), bias (C, O); `name`: of the module in the MLP. inputs (C, B, I), hidden (C, B, O) after the ReLU,
    outputs (C, B, O), slope: of the objective at the pre-activations, (C, B, O).
    """

    name: str
    weight: Tensor
    bias: Tensor
    norm: StackedNorm | None = None
    norm_name: str = ""
    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    hidden: Tensor = field(default_factory=lambda: torch.empty(0))
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    slope: Tensor = field(default_factory=lambda: torch.empty(0))


class StackedMLP:
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
        self.laws: dict[str, Law] = net.init_laws()
        self.normed = isinstance(net.norm1, torch.nn.LayerNorm)
        self.norm_first = self.normed and net.ln_position == "before"
        self._wide = self.normed or net.fc1.out_features >= _WIDE
        self.parameters = {
            name: torch.empty(members, *p.shape, device=device, dtype=dtype) for name, p in net.named_parameters()
        }
        self._gradients: dict[str, Tensor] = {}
        self.layers = [self._layer(name, f"norm{i}") for i, name in enumerate(("fc1", "fc2", "fc3"), 1)]
        self.layers.append(self._layer("out", ""))
        self.units = [self._units(layer, above) for layer, above in itertools.pairwise(self.layers)]
        for member in range(members):
            self.fill(member, net)

    def _layer(self, name: str, norm: str) -> Layer:
        p = self.parameters
        own = None
        if norm and self.normed:
            own = StackedNorm(p[f"{norm}.weight"], p[f"{norm}.bias"], relu_first=not self.norm_first)
        return Layer(name, p[f"{name}.weight"], p[f"{name}.bias"], own, norm)

    @property
    def hidden(self) -> list[Layer]:
        """The layers of hidden units, from the input on."""
        return self.layers[:-1]

    def _units(self, layer: Layer, above: Layer) -> HiddenUnits:
        names = (f"{part}.{kind}" for part in (layer.name, layer.norm_name) for kind in ("weight", "bias"))
        incoming = tuple(name for name in names if name in self.parameters)
        return HiddenUnits(layer.name, incoming, f"{above.name}.weight")

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
        """Logits (C, B, outputs) of the images (B, P), or (B, k) where all pixels from k on are 0."""
        x = x.to(self.layers[0].weight.dtype)
        a = x.expand(self.members, *x.shape)
        for layer in self.layers:
            layer.inputs = a
            z = self._first(layer, x) if layer is self.layers[0] else self._affine(layer, a)
            a = z if layer is self.layers[-1] else self._activate(layer, z)
        return a

    def _first(self, layer: Layer, x: Tensor) -> Tensor:
        """One product for all members."""
        w = layer.weight.flatten(0, 1)[:, : x.shape[1]]
        return torch.addmm(layer.bias.flatten(), x, w.T).view(len(x), self.members, -1).transpose(0, 1)

    def _affine(self, layer: Layer, a: Tensor) -> Tensor:
        """W a + b, with whichever axis last is the fastest."""
        if self._wide and layer is not self.layers[-1]:
            return torch.baddbmm(layer.bias.unsqueeze(1), a, layer.weight.mT)
        return torch.baddbmm(layer.bias.unsqueeze(2), layer.weight, a.mT).mT

    @staticmethod
    def _activate(layer: Layer, z: Tensor) -> Tensor:
        if layer.norm:
            layer.hidden, layer.outputs = layer.norm.forward(z)
        else:
            layer.hidden = layer.outputs = z.relu_()
        return layer.outputs

    # Backward.

    def backward(self, slope: Tensor, after: Callable[[int, str], None] | None = None) -> None:
        """Slopes of the objective at every layer's pre-activations, from that at the logits (C, B, outputs).

        `after(l, place)` is called when the slope at the hidden layer l is known and what is below is still to come:
        at its outputs (`place` "after" the norm), then at its ReLU's ("before" it). What it does to the weights shows
        in the slopes below, and the slopes above are those of the old weights.
        """
        self.layers[-1].slope = slope
        for i in range(len(self.layers) - 2, -1, -1):
            layer, above = self.layers[i], self.layers[i + 1]
            d = self._back(above)
            if after:
                after(i, "after")
                if self.norm_first:
                    after(i, "before")
            if layer.norm:
                layer.slope = layer.norm.backward(d)
            else:
                layer.slope = torch.ops.aten.threshold_backward(d, layer.hidden, 0)
            if after and not self.norm_first:
                after(i, "before")

    def _back(self, above: Layer) -> Tensor:
        if self._wide:
            return torch.bmm(above.slope, above.weight)
        return torch.bmm(above.weight.mT, above.slope.mT).mT

    # What follows from the slopes.

    def descend(self) -> None:
        """Add the slopes to the parameters: with slopes of -(step size) * loss, one step of plain SGD."""
        for layer in self.layers:
            self._add_products(layer, layer.weight, 1)
            layer.bias.add_(layer.slope.sum(1))
            if layer.norm:
                layer.norm.scale.add_(layer.norm.scale_slope)
                layer.norm.shift.add_(layer.norm.shift_slope)

    def _add_products(self, layer: Layer, out: Tensor, beta: int) -> None:
        """out <- beta * out + slope^T inputs, over the pixels that the first layer was shown."""
        if layer is self.layers[0]:
            x = layer.inputs[0]
            flat = layer.slope.mT.reshape(-1, len(x)) if not self._wide else layer.slope.transpose(0, 1).flatten(1).T
            out.flatten(0, 1)[:, : x.shape[1]].addmm_(flat, x, beta=beta)
        else:
            out.baddbmm_(layer.slope.mT, layer.inputs, beta=beta)

    def gradients(self) -> dict[str, Tensor]:
        """The slopes at the parameters, by name; valid until the next call."""
        if not self._gradients:
            self._gradients = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        for layer in self.layers:
            w = self._gradients[f"{layer.name}.weight"]
            if layer is self.layers[0]:
                w[:, :, layer.inputs.shape[2] :] = 0  # of pixels that no image of the batch lights
            self._add_products(layer, w, 0)
            torch.sum(layer.slope, 1, out=self._gradients[f"{layer.name}.bias"])
            if layer.norm:
                self._gradients[f"{layer.norm_name}.weight"].copy_(layer.norm.scale_slope)
                self._gradients[f"{layer.norm_name}.bias"].copy_(layer.norm.shift_slope)
        return self._gradients

    def activity(self, i: int, read: str, members: Tensor) -> Tensor:
        """Mean |h| of hidden layer i over the batch, (k, H), of some members: before the norm, or after it."""
        h = self.layers[i].hidden if read == "before" else self.layers[i].outputs
        if not loops.fit(h):
            return h.index_select(0, members).abs().mean(1)
        out = h.new_empty(len(members), h.shape[2])
        loops.mean_magnitude(h.numpy(), members.numpy(), out.numpy())
        return out


def slope_at_logits(logits: Tensor, targets: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (C, O, B) of logits (C, B, O), and a multiple of the slope of their mean cross-entropy.

    slope = scale * (softmax(logits) - targets) / B,  targets (O, B) one-hot, scale (C, 1, 1)
    """
    log_p = F.log_softmax(logits.mT, 1)  # along the axis that comes last it takes twice as long
    return log_p, log_p.exp().sub_(targets).mul_(scale / targets.shape[1]).mT
