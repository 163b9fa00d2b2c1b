"""Layers of few units, on a CPU: products, bias, norm and ReLU by compiled loops.

Images come last, in rows that are padded to whole vectors, so that all loops are vectorized over them: (C, H, B').
Nothing reads the padding but loops whose results are padding again, or that multiply it by a gradient of 0.

Shapes: C members, B images, B' >= B a multiple of 16, H units, I inputs, P pixels.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from .activations import EPS, Activation

_VECTOR = 16  # numbers


class _Buffers:
    """Buffers of one layer and size of batch; arrays share the memory of tensors, whose views have the shape (C, B, H).

    x (B', P): images. z: before the norm, after a ReLU that comes first. out: the outputs, z where there is no norm.
    d: the gradient at the outputs, then at z. unit, inverse: of the norm.
    """

    def __init__(self, layer: "NarrowLayer", images: int) -> None:
        weight = layer.weight
        members, units, inputs = weight.shape
        self.images, padded = images, -(-images // _VECTOR) * _VECTOR

        def zeros(*shape: int) -> Tensor:
            return weight.new_zeros(shape)

        self.product = z = zeros(members, units, images if layer.last else padded)
        d = zeros(members, units, padded)
        if layer.below is None:
            self.x = zeros(padded, inputs)
        self.hidden = self.outputs = z[:, :, :images].mT
        self.grad = d[:, :, :images].mT
        self.z = self.out = z.numpy()
        self.rows, self.d = z.flatten(0, 1).numpy(), d.numpy()
        self.weight, self.bias = weight.numpy(), layer.parameters[0].numpy()
        self.parameters, self.grads = ([p.numpy() for p in each] for each in (layer.parameters, layer.grads))
        if len(layer.parameters) > 1:
            out = torch.zeros_like(z)
            self.out, self.outputs = out.numpy(), out[:, :, :images].mT
            self.unit, self.inverse = np.zeros_like(self.z), np.zeros((members, padded), self.z.dtype)
            if not layer.relu_first:
                self.hidden = self.outputs


class NarrowLayer(Activation):
    """An activation together with the product before it: `forward` takes the layer's inputs in place of z.

    Args:
        weight: (C, H, I).
        parameters: bias, or bias, scale and shift of a layer norm.
        below: the layer that it reads; None: the images.
        last: whether it makes logits, which have no ReLU.
        relu_first: whether the ReLU comes before the norm.
    """

    def __init__(
        self, weight: Tensor, *parameters: Tensor, below: Activation | None, last: bool, relu_first: bool = True
    ) -> None:
        super().__init__(*parameters)
        assert below is None or isinstance(below, NarrowLayer)
        self.weight, self.below = weight, below
        self.last, self.relu_first, self.normed = last, relu_first, len(parameters) > 1
        self._kept: _Buffers | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}  # in a copy, arrays would no longer share memory with tensors

    @property
    def buffers(self) -> _Buffers:
        """The buffers of the last batch."""
        assert self._kept is not None, "a forward pass comes first"
        return self._kept

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units after the ReLU, and outputs, (C, B, H) both; valid until the next call.

        Args:
            x: images (B, P), or (B, k) where all pixels from k on are 0; of other layers the outputs below.
        """
        images = x.shape[-2]
        if self._kept is None or self._kept.images != images:
            with torch.inference_mode(False):  # kept for later calls, which may be outside inference mode
                self._kept = _Buffers(self, images)
        b, relu = self._kept, self.relu_first and not self.last
        if self.below is None:
            k = x.shape[1]
            b.x[:images, :k] = x
            torch.mm(self.weight.flatten(0, 1)[:, :k], b.x[:, :k].T, out=b.product.flatten(0, 1))
            (kernels.relu_rows if relu else kernels.add_bias)(b.rows, b.bias.ravel())
        else:
            kernels.narrow_forward(b.weight.shape[2], relu)(b.weight, b.bias, self.below.buffers.out, b.z)
        if self.normed:
            _, scale, shift = b.parameters
            kernels.narrow_norm_forward(b.z, scale, shift, EPS, not self.relu_first, b.unit, b.inverse, b.out)
        return b.hidden, b.outputs

    def receive(self, above: Activation) -> Tensor:
        """The gradient at the outputs, (C, B, H), from that of the layer above; without a norm already that at z."""
        assert isinstance(above, NarrowLayer)
        b, a = self.buffers, above.buffers
        kernels.narrow_backward(a.weight.shape[1], not self.normed)(a.weight, a.d, b.out, b.d, b.grads[0])
        return b.grad

    def backward(self, d: Tensor) -> Tensor:
        """The gradient at z, (C, B, H), from that at the outputs, as `receive` left it; or from that at the logits."""
        b = self.buffers
        if self.last:
            torch.sum(b.grad.copy_(d), 1, out=self.grads[0])
        elif self.normed:
            lit = b.z if self.relu_first else b.out
            loop = kernels.narrow_norm_backward
            loop(b.d, lit, b.unit, b.inverse, b.parameters[1], not self.relu_first, *b.grads)
        return b.grad

    def add_products(self, out: Tensor, x: Tensor, add: bool) -> None:
        """out (C, H, I) <- gradient of the weights, or += with `add`; in the first layer only at the pixels of x."""
        b = self.buffers
        if self.below is None:
            rows = out.flatten(0, 1)[:, : x.shape[1]]
            rows.addmm_(b.grad.mT.flatten(0, 1), x, beta=int(add))
        else:
            kernels.narrow_outer(out.numpy(), b.d, self.below.buffers.out, add)
