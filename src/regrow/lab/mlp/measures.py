"""What is measured once a task, of every member of a stack.

Shapes: C members, B images, H units.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ...diagnose.ranks import rank99, stable_rank
from .. import kernels
from .network import StackedMLP


def activations(net: StackedMLP, x: Tensor) -> dict[str, Tensor]:
    """Dead units and ranks on images (B, P), before the norm: of hidden layers, and of the last hidden layer.

    dead_units: share of all hidden units that are 0 for all images. The singular values come from h^T h in float64:
    exact to 1e-8 of the largest, far below what changes either rank.

    Returns:
        `dead_units`, `stable_rank` and `rank99`, each (C).

    Reference:
        Hernandez-Garcia et al. 2025, appendix C.
    """
    net.forward(x)
    alive = torch.cat([layer.hidden.amax(1) != 0 for layer in net.hidden], 1)
    h = net.hidden[-1].hidden.double()
    gram = torch.bmm(h.mT, h)
    finite = gram.isfinite().flatten(1).all(1)  # a diverged member has no ranks
    values = torch.linalg.eigvalsh(gram.where(finite.view(-1, 1, 1), 0.0)).clamp(min=0).sqrt().flip(1)
    return {
        "dead_units": 1 - alive.double().mean(1),
        "stable_rank": stable_rank(values).where(finite, torch.nan),
        "rank99": rank99(values),
    }


def mean_magnitude(tensors: Mapping[str, Tensor]) -> Tensor:
    """Mean |w| over all entries of each member, (C), in float64."""
    flat = [w.flatten(1) for w in tensors.values()]
    entries = sum(w.shape[1] for w in flat)
    if not all(kernels.supports(w) for w in flat):
        return torch.stack([w.abs().sum(1) for w in flat]).double().sum(0) / entries
    total = torch.zeros(len(flat[0]), dtype=torch.float64)
    for w in flat:
        kernels.add_magnitudes(w.numpy(), total.numpy())
    return total / entries
