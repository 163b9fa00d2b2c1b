"""What makes outputs of a layer's matrix product, of all members of a stack: bias, layer norm, ReLU.

Here by torch's operations; `activations_cpu.py` has the same for a CPU.

Shapes: C members, B images, H units.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

EPS = 1e-5


class Activation(ABC):
    """From z, the product of a layer's inputs and weights, to its outputs; and back, from slopes to slopes.

    `parameters` are its own, (C, H) each; after a backward pass `slopes` holds the slopes of the objective at them.

    Args:
        bias: (C, H).
        norm: scale and shift of a layer norm, (C, H) each, if there is one.
    """

    def __init__(self, bias: Tensor, *norm: Tensor) -> None:
        self.parameters = [bias, *norm]
        self.slopes = [torch.zeros_like(p) for p in self.parameters]

    def room(self, images: int) -> Tensor | None:
        """Where z of so many images is to be written, in the shape in which the product comes; None: anywhere."""
        del images
        return None

    @property
    def room_above(self) -> Tensor | None:
        """Where the slope at the outputs is to be written; None: anywhere."""
        return None

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units after the ReLU, and outputs, (C, B, H) both, of z, which changes; valid until the next call.

        Where there is a room, z must lie in it.
        """

    @abstractmethod
    def backward(self, d: Tensor) -> Tensor:
        """The slope at z from that at the outputs, which changes, (C, B, H); valid until the next call.

        Where there is a room, d must lie in it; but for that at the logits, which is the loss's.
        """


class Affine(Activation):
    """z + bias: the logits."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z.add_(self.parameters[0].unsqueeze(1))
        return z, z

    def backward(self, d: Tensor) -> Tensor:
        torch.sum(d, 1, out=self.slopes[0])
        return d


class ReLU(Activation):
    """max(z + bias, 0)"""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        self._hidden = z.add_(self.parameters[0].unsqueeze(1)).relu_()
        return self._hidden, self._hidden

    def backward(self, d: Tensor) -> Tensor:
        d = torch.ops.aten.threshold_backward(d, self._hidden, 0)
        torch.sum(d, 1, out=self.slopes[0])
        return d


class Norm(Activation):
    """Layer norm after a ReLU, or before it.

    out = scale (x - mean) / sqrt(variance + 1e-5) + shift,  x = max(z + bias, 0);  or x = z + bias, and max(out, 0)
    """

    def __init__(self, bias: Tensor, *norm: Tensor, relu_first: bool) -> None:
        super().__init__(bias, *norm)
        self._relu_first = relu_first

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        bias, scale, shift = (p.unsqueeze(1) for p in self.parameters)
        x = z.add_(bias)
        if self._relu_first:
            x.relu_()
        unit, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], None, None, EPS)
        out = torch.addcmul(shift, unit, scale)
        hidden = x if self._relu_first else out.relu_()
        self._kept = x, hidden, unit, mean, inverse
        return hidden, out

    def backward(self, d: Tensor) -> Tensor:
        x, hidden, unit, mean, inverse = self._kept
        if not self._relu_first:
            d = torch.ops.aten.threshold_backward(d, hidden, 0)
        torch.sum(d * unit, 1, out=self.slopes[1])
        torch.sum(d, 1, out=self.slopes[2])
        inner, wanted = d * self.parameters[1].unsqueeze(1), [True, False, False]
        d = torch.ops.aten.native_layer_norm_backward(inner, x, x.shape[-1:], mean, inverse, None, None, wanted)[0]
        if self._relu_first:
            d = torch.ops.aten.threshold_backward(d, hidden, 0)
        torch.sum(d, 1, out=self.slopes[0])
        return d
