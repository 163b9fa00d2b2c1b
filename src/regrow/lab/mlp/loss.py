"""Cross-entropy of all members of a stack, and its gradient.

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
    """Mean cross-entropy of logits, and the gradient of a multiple of it.

    grad = scale * (softmax(logits) - targets) / B

    Args:
        scale: (C).
    """

    def __init__(self, scale: Tensor) -> None:
        self.scale = scale
        self._buffers: _Buffers | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_buffers": None}  # in a copy, arrays would no longer share memory with tensors

    def __call__(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Metrics of a batch, (2, C): the loss, and how many labels argmax has right; and the gradient (C, B, O).

        Args:
            logits: (C, B, O); on a CPU the gradient may overwrite them.
            labels: (B), int64.

        Both are valid until the next call.
        """
        return self._compiled(logits, labels) if kernels.supports(logits) else self._by_torch(logits, labels)

    def _by_torch(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        log_p = F.log_softmax(logits.mT, 1)  # along the axis that comes last it takes twice as long
        own = log_p.gather(1, labels.expand(len(log_p), 1, -1)).squeeze(1)
        own = own.to(torch.promote_types(own.dtype, torch.float32))  # in halves large counts are not whole
        right = (logits.mT.argmax(1) == labels).to(own.dtype).sum(1)
        targets = labels == torch.arange(log_p.shape[1], device=labels.device).unsqueeze(1)
        grad = log_p.exp().sub_(targets.to(log_p.dtype)).mul_(self.scale.view(-1, 1, 1) / len(labels))
        return torch.stack([-own.mean(1), right]), grad.mT

    def _compiled(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self._buffers is None or self._buffers.logits is not logits:
            with torch.inference_mode(False):  # kept for later calls, which may be outside inference mode
                self._buffers = _Buffers.of(logits, self.scale)
        b, y = self._buffers, labels.numpy()
        if b.copied:
            b.grad.copy_(logits)
        kernels.shift_logits(b.e, y, b.own, b.right)
        np.exp(b.e, out=b.e)
        kernels.softmax_grad(b.e, b.own, y, b.scale, b.loss)
        return b.metrics, b.grad


@dataclass
class _Buffers:
    """Buffers for logits that come in the same memory each time, and arrays of them, as costly to make as to fill."""

    logits: Tensor
    copied: bool
    metrics: Tensor
    grad: Tensor
    loss: np.ndarray
    right: np.ndarray
    e: np.ndarray
    own: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, logits: Tensor, scale: Tensor) -> "_Buffers":
        members, images, _ = logits.shape
        copied = not logits.mT.is_contiguous()
        z = torch.empty_like(logits.mT, memory_format=torch.contiguous_format) if copied else logits.mT
        metrics, own = logits.new_empty(2, members), logits.new_empty(members, images)
        loss, right = metrics.numpy()
        return cls(logits, copied, metrics, z.mT, loss, right, z.numpy(), own.numpy(), scale.numpy())
