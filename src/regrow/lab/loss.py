"""Cross-entropy of all members of a stack, and its slope.

Shapes: C members, B images, O classes.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import loops


def cross_entropy(logits: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross-entropy of logits (C, B, O), how many labels argmax has right, and a multiple of the loss's slope.

    slope = scale * (softmax(logits) - targets) / B

    Args:
        logits: (C, B, O); on a CPU the slope may take their place.
        labels: (B), int64.
        scale: (C).

    Returns:
        Loss (C), right (C), slope (C, B, O).
    """
    if loops.fit(logits):
        return _by_loops(logits, labels, scale)
    log_p = F.log_softmax(logits.mT, 1)  # along the axis that comes last it takes twice as long
    own = log_p.gather(1, labels.expand(len(log_p), 1, -1)).squeeze(1)
    targets = labels == torch.arange(log_p.shape[1], device=labels.device).unsqueeze(1)
    slope = log_p.exp().sub_(targets.to(log_p.dtype)).mul_(scale.view(-1, 1, 1) / len(labels))
    return -own.mean(1), (logits.mT.argmax(1) == labels).sum(1), slope.mT


def _by_loops(logits: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z, y = logits.mT.contiguous(), labels.numpy()
    loss, right = torch.empty_like(scale), torch.empty(len(scale), dtype=torch.int64)
    e = z.numpy()
    own = np.empty((len(e), len(y)), e.dtype)
    loops.shift_logits(e, y, own, right.numpy())
    np.exp(e, out=e)
    loops.softmax_slope(e, own, y, scale.numpy(), loss.numpy())
    return loss, right, z.mT
