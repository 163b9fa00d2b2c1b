"""What `activation.py` does, on a CPU by the compiled loops of `loops`.

A layer keeps rooms for its batch, since making them takes as long as filling them, in the order in which its products
are fastest:

    (B, C, H)  the first layer, whose members are one product
    (C, B, H)  the others
    (C, H, B)  the others, and the first after its ReLU, where layers are narrow

Shapes: C members, B images, H units.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import loops
from .activation import EPS, Activation


class _Room:
    """Of one layer and size of batch: what is written to, and arrays of it, whose rows are units or, narrow, images.

    product: z. hidden, relu: after the ReLU, in the place of z but where the first layer is narrow. above, d: the slope
    at the outputs. slope, below: that at z, in its place but where images come first.
    """

    def __init__(self, owner: "Looped", images: int, first: bool, narrow: bool) -> None:
        self.images = images
        bias = owner.parameters[0]
        members, units = bias.shape
        self._first, self._narrow = first and not narrow, narrow
        self.above = bias.new_empty(members, *((units, images) if narrow else (images, units)))
        stored = bias.new_empty(images, members, units) if self._first else torch.empty_like(self.above)
        self.hidden, self.relu = self._seen(stored), _rows(stored)
        self.product = stored.flatten(1) if self._first else stored
        if first and narrow:
            self.product = bias.new_empty(images, members * units)
        below = torch.empty_like(stored) if self._first else self.above
        self.slope, self.below, self.d = self._seen(below), _rows(below), _rows(self.above)
        self.parameters, self.slopes = ([p.numpy() for p in each] for each in (owner.parameters, owner.slopes))

    def _seen(self, stored: Tensor) -> Tensor:
        """As (C, B, H)."""
        return stored.mT if self._narrow else stored.transpose(0, 1) if self._first else stored


def _rows(stored: Tensor) -> np.ndarray:
    return stored.flatten(0, 1).numpy()


class _NormRoom(_Room):
    """unit: normed inputs; inverse: of their standard deviations, of each row. outputs, out: of the norm."""

    def __init__(self, owner: "Looped", images: int, first: bool, narrow: bool) -> None:
        super().__init__(owner, images, first, narrow)
        self.unit, self.inverse = np.empty_like(self.relu), np.empty(len(self.relu), self.relu.dtype)
        self.outputs = torch.empty_like(self.hidden)
        self.out = _rows(self.outputs.transpose(0, 1) if self._first else self.outputs)


class Looped(Activation):
    """An activation with a room, which is made anew for a batch of another size.

    Args:
        bias, norm: as for `Activation`.
        first: is it of the first layer?
        narrow: do images come last?
    """

    def __init__(self, bias: Tensor, *norm: Tensor, first: bool = False, narrow: bool = False) -> None:
        super().__init__(bias, *norm)
        self._first, self._narrow = first, narrow
        self._own: Any = None  # its room

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_own": None}  # in a copy, arrays would no longer be the tensors'

    def room(self, images: int) -> Tensor:
        if self._own is None or self._own.images != images:
            kind = _NormRoom if len(self.parameters) > 1 else _Room
            self._own = kind(self, images, self._first, self._narrow)
        return self._own.product

    @property
    def room_above(self) -> Tensor:
        return self._own.above


class LoopedAffine(Looped):
    """z + bias: the logits, whose images come last."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__(bias, narrow=True)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        own = self._own
        loops.add_bias(own.relu, own.parameters[0].ravel())
        return own.hidden, own.hidden

    def backward(self, d: Tensor) -> Tensor:
        torch.sum(d, 1, out=self.slopes[0])
        return d


class LoopedReLU(Looped):
    """max(z + bias, 0)"""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        own = self._own
        bias = own.parameters[0]
        if not self._narrow:
            loops.relu_forward(own.relu, bias, self._first)
        elif self._first:
            loops.relu_turning(own.product.numpy(), bias.ravel(), own.relu)
        else:
            loops.relu_rows(own.relu, bias.ravel())
        return own.hidden, own.hidden

    def backward(self, d: Tensor) -> Tensor:
        own = self._own
        if self._narrow:
            loops.relu_rows_backward(own.d, own.relu, own.slopes[0].ravel())
        else:
            loops.relu_backward(own.d, own.relu, self._first, own.below, own.slopes[0])
        return own.slope


class LoopedNorm(Looped):
    """Layer norm after a ReLU, or before it."""

    def __init__(self, bias: Tensor, *norm: Tensor, relu_first: bool, first: bool = False) -> None:
        super().__init__(bias, *norm, first=first)
        self._relu_first = relu_first

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        own = self._own
        loops.norm_forward(
            own.relu, *own.parameters, EPS, self._first, self._relu_first, own.unit, own.inverse, own.out
        )
        return own.hidden if self._relu_first else own.outputs, own.outputs

    def backward(self, d: Tensor) -> Tensor:
        own = self._own
        relu = own.relu if self._relu_first else own.out
        loops.norm_backward(
            own.d, relu, own.unit, own.inverse, own.parameters[1], self._first, self._relu_first, own.below,
            *own.slopes,
        )  # fmt: skip
        return own.slope
