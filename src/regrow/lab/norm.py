"""Layer norm beside the ReLU of a hidden layer, of all members of a stack: forward and backward.

Shapes: C members, B images, H units. On a CPU the loops of `loops.py`, elsewhere torch's operations.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import loops

_EPS = 1e-5


@dataclass
class StackedNorm:
    """Layer norm after a ReLU, or before it.

    out = scale (x - mean) / sqrt(variance + 1e-5) + shift,  x = max(z, 0);  or x = z, and max(out, 0)

    scale and shift (C, H). The last backward pass left the slopes of the objective at them.
    """

    scale: Tensor
    shift: Tensor
    relu_first: bool
    _kept: tuple[Tensor, ...] = ()  # what torch's forward pass leaves for the backward pass
    _room: "_Room | None" = None  # where the loops' does

    def __post_init__(self) -> None:
        self.scale_slope, self.shift_slope = torch.zeros_like(self.scale), torch.zeros_like(self.shift)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_room": None}  # in a copy, arrays would no longer be the tensors'

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units (C, B, H) after the ReLU, and outputs, of pre-activations, which may be changed.

        Both are valid until the next call.
        """
        return self._forward_here(z) if loops.fit(z) else self._forward(z)

    def backward(self, d: Tensor) -> Tensor:
        """Slopes at the pre-activations from those at the outputs, (C, B, H)."""
        return self._backward_here(d) if loops.fit(d) else self._backward(d)

    # By torch.

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        x = z.relu_() if self.relu_first else z
        unit, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], None, None, _EPS)
        out = torch.addcmul(self.shift.unsqueeze(1), unit, self.scale.unsqueeze(1))
        hidden = x if self.relu_first else out.relu_()
        self._kept = x, hidden, unit, mean, inverse
        return hidden, out

    def _backward(self, d: Tensor) -> Tensor:
        x, hidden, unit, mean, inverse = self._kept
        if not self.relu_first:
            d = torch.ops.aten.threshold_backward(d, hidden, 0)
        torch.sum(d * unit, 1, out=self.scale_slope)
        torch.sum(d, 1, out=self.shift_slope)
        inner, wanted = d * self.scale.unsqueeze(1), [True, False, False]
        d = torch.ops.aten.native_layer_norm_backward(inner, x, x.shape[-1:], mean, inverse, None, None, wanted)[0]
        return torch.ops.aten.threshold_backward(d, hidden, 0) if self.relu_first else d

    # By loops, in rows as they lie: those of the first layer image by image.

    def _forward_here(self, z: Tensor) -> tuple[Tensor, Tensor]:
        images_first = not z.is_contiguous()
        if self._room is None or (z.shape, images_first) != (self._room.hidden.shape, self._room.images_first):
            self._room = _Room(z, images_first, self)
        room = self._room
        rows = (z.numpy().swapaxes(0, 1) if images_first else z.numpy()).reshape(room.unit.shape)
        loops.norm_forward(
            rows, *room.parameters, _EPS, images_first, self.relu_first, room.relu, room.unit, room.inverse, room.out
        )
        return room.hidden, room.outputs

    def _backward_here(self, d: Tensor) -> Tensor:
        room = self._room
        assert room is not None
        above = d.contiguous().numpy().reshape(room.unit.shape)
        loops.norm_backward(
            above, room.relu, room.unit, room.inverse, room.parameters[0], room.images_first, self.relu_first,
            room.below, *room.slopes,
        )  # fmt: skip
        return room.slope


class _Room:
    """What the loops write to for batches of one shape: kept, since making it takes as long as filling it.

    That of the probe, fifty times as large, gives way to that of the next batch.
    """

    def __init__(self, z: Tensor, images_first: bool, norm: StackedNorm) -> None:
        members, images, units = z.shape
        self.images_first = images_first

        def tensor() -> Tensor:
            if images_first:
                return z.new_empty(images, members, units).transpose(0, 1)
            return z.new_empty(members, images, units)

        def rows(x: Tensor) -> np.ndarray:
            return (x.transpose(0, 1) if images_first else x).flatten(0, 1).numpy()

        self.outputs, self.slope = tensor(), tensor()
        self.hidden = tensor() if norm.relu_first else self.outputs
        self.relu, self.out, self.below = rows(self.hidden), rows(self.outputs), rows(self.slope)
        self.unit, self.inverse = np.empty_like(self.out), np.empty(len(self.out), self.out.dtype)
        self.parameters = norm.scale.numpy(), norm.shift.numpy()
        self.slopes = norm.scale_slope.numpy(), norm.shift_slope.numpy()
