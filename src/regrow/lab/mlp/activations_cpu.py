"""What `activations.py` does, on a CPU by the compiled loops of `kernels`.

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

from .. import kernels
from .activations import EPS, Activation


class _Room:
    """Of one layer and size of batch: what is written to, and arrays of it, whose rows are units or, narrow, images.

    product: z. hidden, relu: after the ReLU, in the place of z but where the first layer is narrow. above, d: the slope
    at the outputs. slope, below: that at z, in its place but where images come first. unit, inverse, outputs, out: of
    a norm.
    """

    def __init__(self, layer: "Looped", images: int) -> None:
        self.images, self.narrow, self.by_image = images, layer.narrow, layer.first and not layer.narrow
        bias = layer.parameters[0]
        members, units = bias.shape
        self.above = bias.new_empty(members, *((units, images) if layer.narrow else (images, units)))
        stored = bias.new_empty(images, members, units) if self.by_image else torch.empty_like(self.above)
        self.hidden, self.relu = self._seen(stored), _rows(stored)
        self.product = stored.flatten(1) if self.by_image else stored
        if layer.first and layer.narrow:
            self.product = bias.new_empty(images, members * units)
        below = torch.empty_like(stored) if self.by_image else self.above
        self.slope, self.below, self.d = self._seen(below), _rows(below), _rows(self.above)
        self.parameters, self.slopes = ([p.numpy() for p in each] for each in (layer.parameters, layer.slopes))
        if len(self.parameters) > 1:
            self.unit, self.inverse = np.empty_like(self.relu), np.empty(len(self.relu), self.relu.dtype)
            out = torch.empty_like(stored)
            self.outputs, self.out = self._seen(out), _rows(out)

    def _seen(self, stored: Tensor) -> Tensor:
        """As (C, B, H)."""
        return stored.mT if self.narrow else stored.transpose(0, 1) if self.by_image else stored


def _rows(stored: Tensor) -> np.ndarray:
    return stored.flatten(0, 1).numpy()


class Looped(Activation):
    """An activation with a room, which is made anew for a batch of another size.

    Args:
        bias, norm: as for `Activation`.
        first: is it of the first layer?
        narrow: do images come last?
    """

    def __init__(self, bias: Tensor, *norm: Tensor, first: bool = False, narrow: bool = False) -> None:
        super().__init__(bias, *norm)
        self.first, self.narrow = first, narrow
        self._kept: _Room | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}  # in a copy, arrays would no longer be the tensors'

    def room(self, images: int) -> Tensor:
        if self._kept is None or self._kept.images != images:
            with torch.inference_mode(False):  # it is kept for later calls, which may be outside
                self._kept = _Room(self, images)
        return self._kept.product

    @property
    def room_above(self) -> Tensor:
        return self._room.above

    @property
    def _room(self) -> _Room:
        assert self._kept is not None, "no batch was shown yet"
        return self._kept


class LoopedAffine(Looped):
    """z + bias: the logits, whose images come last."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__(bias, narrow=True)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        room = self._room
        kernels.add_bias(room.relu, room.parameters[0].ravel())
        return room.hidden, room.hidden

    def backward(self, d: Tensor) -> Tensor:
        torch.sum(d, 1, out=self.slopes[0])
        return d


class LoopedReLU(Looped):
    """max(z + bias, 0)"""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        room = self._room
        bias = room.parameters[0]
        if not self.narrow:
            kernels.relu_forward(room.relu, bias, self.first)
        elif self.first:
            kernels.relu_turning(room.product.numpy(), bias.ravel(), room.relu)
        else:
            kernels.relu_rows(room.relu, bias.ravel())
        return room.hidden, room.hidden

    def backward(self, d: Tensor) -> Tensor:
        room = self._room
        if self.narrow:
            kernels.relu_rows_backward(room.d, room.relu, room.slopes[0].ravel())
        else:
            kernels.relu_backward(room.d, room.relu, self.first, room.below, room.slopes[0])
        return room.slope


class LoopedNorm(Looped):
    """Layer norm after a ReLU, or before it."""

    def __init__(self, bias: Tensor, *norm: Tensor, relu_first: bool, first: bool = False) -> None:
        super().__init__(bias, *norm, first=first)
        self._relu_first = relu_first

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        room = self._room
        kernels.norm_forward(
            room.relu, *room.parameters, EPS, self.first, self._relu_first, room.unit, room.inverse, room.out
        )
        return room.hidden if self._relu_first else room.outputs, room.outputs

    def backward(self, d: Tensor) -> Tensor:
        room = self._room
        relu = room.relu if self._relu_first else room.out
        kernels.norm_backward(
            room.d, relu, room.unit, room.inverse, room.parameters[1], self.first, self._relu_first, room.below,
            *room.slopes,
        )  # fmt: skip
        return room.slope
