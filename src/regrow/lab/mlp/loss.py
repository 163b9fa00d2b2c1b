"""Cross-entropy of all members of a stack, and its slope.

Shapes: C members, B images, O classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import kernels


class CrossEntropy:
    """Mean cross-entropy of logits, and a multiple of its slope.

    slope = scale * (softmax(logits) - targets) / B

    Args:
        scale: (C).
    """

    def __init__(self, scale: Tensor) -> None:
        self.scale = scale
        self._room: _Room | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_room": None}  # in a copy, arrays would no longer be the tensors'

    def __call__(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What is told of a batch, (2, C): the loss, and how many labels argmax has right; and the slope (C, B, O).

        Args:
            logits: (C, B, O); on a CPU the slope may take their place.
            labels: (B), int64.

        Both are valid until the next call.
        """
        return self._by_loops(logits, labels) if kernels.fit(logits) else self._by_torch(logits, labels)

    def _by_torch(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        log_p = F.log_softmax(logits.mT, 1)  # along the axis that comes last it takes twice as long
        own = log_p.gather(1, labels.expand(len(log_p), 1, -1)).squeeze(1)
        own = own.to(torch.promote_types(own.dtype, torch.float32))  # in halves large counts are not whole
        right = (logits.mT.argmax(1) == labels).to(own.dtype).sum(1)
        targets = labels == torch.arange(log_p.shape[1], device=labels.device).unsqueeze(1)
        slope = log_p.exp().sub_(targets.to(log_p.dtype)).mul_(self.scale.view(-1, 1, 1) / len(labels))
        return torch.stack([-own.mean(1), right]), slope.mT

    def _by_loops(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self._room is None or self._room.logits is not logits:
            with torch.inference_mode(False):  # it is kept for later calls, which may be outside
                self._room = _Room.of(logits, self.scale)
        room, y = self._room, labels.numpy()
        if room.copied:
            room.slope.copy_(logits)
        kernels.shift_logits(room.e, y, room.own, room.right)
        np.exp(room.e, out=room.e)
        kernels.softmax_slope(room.e, room.own, y, room.scale, room.loss)
        return room.told, room.slope


@dataclass
class _Room:
    """Of logits that come again and again in one place, and arrays of it: asking for them takes as long as a loop."""

    logits: Tensor
    copied: bool
    told: Tensor
    slope: Tensor
    loss: np.ndarray
    right: np.ndarray
    e: np.ndarray
    own: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, logits: Tensor, scale: Tensor) -> "_Room":
        members, images, _ = logits.shape
        copied = not logits.mT.is_contiguous()
        z = torch.empty_like(logits.mT, memory_format=torch.contiguous_format) if copied else logits.mT
        told, own = logits.new_empty(2, members), logits.new_empty(members, images)
        loss, right = told.numpy()
        return cls(logits, copied, told, z.mT, loss, right, z.numpy(), own.numpy(), scale.numpy())
