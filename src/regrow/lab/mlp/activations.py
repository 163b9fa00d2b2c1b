"""From a layer's matrix product to its outputs, for all members of a stack: bias, layer norm, ReLU.

Here by torch's operations; `activations_cpu.py` has the same as compiled loops.

Shapes: C members, B images, H units.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

EPS = 1e-5


class Activation(ABC):
    """From z, the product of a layer's inputs and weights, to its outputs; and back, from gradient to gradient.

    `parameters` are its own, (C, H) each; after a backward pass `grads` holds their gradients.

    Args:
        bias: (C, H).
        norm: scale and shift of a layer norm, (C, H) each, if there is one.
    """

    def __init__(self, bias: Tensor, *norm: Tensor) -> None:
        self.parameters = [bias, *norm]
        self.grads = [torch.zeros_like(p) for p in self.parameters]

    def buffer(self, images: int) -> Tensor | None:
        """Where to write z of so many images, in the shape of the product; None: anywhere."""
        del images
        return None

    @property
    def grad_buffer(self) -> Tensor | None:
        """Where to write the gradient at the outputs; None: anywhere."""
        return None

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units after the ReLU, and outputs, (C, B, H) both; valid until the next call. Overwrites z.

        Where there is a buffer, z must lie in it.
        """

    @abstractmethod
    def backward(self, d: Tensor) -> Tensor:
        """The gradient at z from d, that at the outputs, (C, B, H); valid until the next call. Overwrites d.

        Where there is a buffer, d must lie in it, unless it is the gradient at the logits, which belongs to the loss.
        """


class Affine(Activation):
    """z + bias: the logits."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z.add_(self.parameters[0].unsqueeze(1))
        return z, z

    def backward(self, d: Tensor) -> Tensor:
        torch.sum(d, 1, out=self.grads[0])
        return d


class ReLU(Activation):
    """max(z + bias, 0)"""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        self._hidden = z.add_(self.parameters[0].unsqueeze(1)).relu_()
        return self._hidden, self._hidden

    def backward(self, d: Tensor) -> Tensor:
        d = torch.ops.aten.threshold_backward(d, self._hidden, 0)
        torch.sum(d, 1, out=self.grads[0])
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
        torch.sum(d * unit, 1, out=self.grads[1])
        torch.sum(d, 1, out=self.grads[2])
        inner, wanted = d * self.parameters[1].unsqueeze(1), [True, False, False]
        d = torch.ops.aten.native_layer_norm_backward(inner, x, x.shape[-1:], mean, inverse, None, None, wanted)[0]
        if self._relu_first:
            d = torch.ops.aten.threshold_backward(d, hidden, 0)
        torch.sum(d, 1, out=self.grads[0])
        return d
