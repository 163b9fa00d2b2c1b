"""What `activations.py` does, by the compiled loops of `kernels`.

A layer preallocates buffers for its batch, since allocating them takes as long as filling them, in the memory order in
which its products are fastest:

    (B, C, H)  the first layer, whose members are one product
    (C, B, H)  the others
    (C, H, B)  the logits

Layers of few units are `narrow.NarrowLayer`s.

Shapes: C members, B images, H units.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from .activations import EPS, Activation


class _Buffers:
    """Buffers of one layer for one size of batch, and arrays that share their memory, whose rows are units or, of the
    logits, images.

    product: z. hidden, relu: after the ReLU, in place of z. above, d: the gradient at the outputs. grad, below: that at
    z, in place of d unless images come first. unit, inverse, outputs, out: of a norm.
    """

    def __init__(self, layer: "CompiledActivation", images: int) -> None:
        self.images, self.narrow, self.by_image = images, layer.narrow, layer.first and not layer.narrow
        bias = layer.parameters[0]
        members, units = bias.shape
        self.above = bias.new_empty(members, *((units, images) if layer.narrow else (images, units)))
        stored = bias.new_empty(images, members, units) if self.by_image else torch.empty_like(self.above)
        self.hidden, self.relu = self._seen(stored), _rows(stored)
        self.product = stored.flatten(1) if self.by_image else stored
        below = torch.empty_like(stored) if self.by_image else self.above
        self.grad, self.below, self.d = self._seen(below), _rows(below), _rows(self.above)
        self.parameters, self.grads = ([p.numpy() for p in each] for each in (layer.parameters, layer.grads))
        if len(self.parameters) > 1:
            self.unit, self.inverse = np.empty_like(self.relu), np.empty(len(self.relu), self.relu.dtype)
            out = torch.empty_like(stored)
            self.outputs, self.out = self._seen(out), _rows(out)

    def _seen(self, stored: Tensor) -> Tensor:
        """As (C, B, H)."""
        return stored.mT if self.narrow else stored.transpose(0, 1) if self.by_image else stored


def _rows(stored: Tensor) -> np.ndarray:
    return stored.flatten(0, 1).numpy()


class CompiledActivation(Activation):
    """An activation with buffers, reallocated for a batch of another size.

    Args:
        bias, norm: as for `Activation`.
        first: whether it is of the first layer.
        narrow: whether images come last.
    """

    def __init__(self, bias: Tensor, *norm: Tensor, first: bool = False, narrow: bool = False) -> None:
        super().__init__(bias, *norm)
        self.first, self.narrow = first, narrow
        self._kept: _Buffers | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}  # in a copy, arrays would no longer share memory with tensors

    def buffer(self, images: int) -> Tensor:
        if self._kept is None or self._kept.images != images:
            with torch.inference_mode(False):  # kept for later calls, which may be outside inference mode
                self._kept = _Buffers(self, images)
        return self._kept.product

    @property
    def grad_buffer(self) -> Tensor:
        return self._buffers.above

    @property
    def _buffers(self) -> _Buffers:
        assert self._kept is not None, "a forward pass comes first"
        return self._kept


class CompiledAffine(CompiledActivation):
    """z + bias: the logits, whose images come last."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__(bias, narrow=True)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        b = self._buffers
        kernels.add_bias(b.relu, b.parameters[0].ravel())
        return b.hidden, b.hidden

    def backward(self, d: Tensor) -> Tensor:
        torch.sum(d, 1, out=self.grads[0])
        return d


class CompiledReLU(CompiledActivation):
    """max(z + bias, 0)"""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        b = self._buffers
        kernels.relu_forward(b.relu, b.parameters[0], self.first)
        return b.hidden, b.hidden

    def backward(self, d: Tensor) -> Tensor:
        b = self._buffers
        kernels.relu_backward(b.d, b.relu, self.first, b.below, b.grads[0])
        return b.grad


class CompiledNorm(CompiledActivation):
    """Layer norm after a ReLU, or before it."""

    def __init__(self, bias: Tensor, *norm: Tensor, relu_first: bool, first: bool = False) -> None:
        super().__init__(bias, *norm, first=first)
        self._relu_first = relu_first

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        b = self._buffers
        kernels.norm_forward(b.relu, *b.parameters, EPS, self.first, self._relu_first, b.unit, b.inverse, b.out)
        return b.hidden if self._relu_first else b.outputs, b.outputs

    def backward(self, d: Tensor) -> Tensor:
        b = self._buffers
        relu = b.relu if self._relu_first else b.out
        kernels.norm_backward(
            b.d, relu, b.unit, b.inverse, b.parameters[1], self.first, self._relu_first, b.below,
            *b.grads,
        )  # fmt: skip
        return b.grad
