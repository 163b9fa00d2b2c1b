"""What is measured of a vision transformer once a task.

Shapes: B images, T tokens, C width, H units of an MLP.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...diagnose.ranks import rank99, stable_rank
from ...nn import ReparamLayerNorm
from ..nets import ViT
from .forward import logits


@torch.no_grad()
def activations(net: ViT, images: Iterable[Tensor]) -> dict[str, Any]:
    """Dead units of all MLPs, and ranks of the head's input, on images without augmentation.

    dead_units: share of units whose output is 0 for all tokens of all images, as GELU does below -5.55; stable_rank,
    rank99: of the class token after the last norm, (B, C).

    Args:
        net: in any mode; dropout is off.
        images: batches (B, 3, 32, 32).
    """
    blocks: list[Any] = list(net.blocks)
    alive, read = [torch.zeros(net.mlp, dtype=torch.bool, device=net.position.device) for _ in blocks], []

    def see(i: int, h: Tensor) -> None:
        alive[i] |= (h != 0).flatten(0, 1).any(0)

    handles = [b.mlp.gelu.register_forward_hook(lambda m, x, h, i=i: see(i, h)) for i, b in enumerate(blocks)]
    handles.append(net.head.register_forward_pre_hook(lambda m, inputs: read.append(inputs[0].double())))
    try:
        for batch in images:
            logits(net, batch, whole=True)
    finally:
        for handle in handles:
            handle.remove()
    h = torch.cat(read)
    measured: dict[str, Any] = {"dead_units": 1 - torch.stack(alive).double().mean().item()}
    if not h.isfinite().all():
        return measured | {"stable_rank": None, "rank99": None}
    values = torch.linalg.svdvals(h)
    return measured | {"stable_rank": stable_rank(values).item(), "rank99": int(rank99(values))}


@torch.no_grad()
def weights(net: ViT) -> dict[str, float]:
    """Magnitudes of all parameters, the scales of the norms, the query, key and value matrices, and the MLP matrices.

    weight_magnitude: mean |w| of all entries. ln_scale: mean |scale|, 1 + weight where the norm is reparametrized.
    qkv_median_last, qk_median_last, mlp_median_last: median |w| in the last block, of the packed projections, their
    rows for queries and keys, and both layers of the MLP. qkv_mean, mlp_mean: mean |w| over all blocks.

    Example:
        >>> magnitudes = weights(ViT(width=16, depth=2, heads=2, mlp=32, norm="reparam"))
        >>> magnitudes["ln_scale"], round(magnitudes["qkv_mean"], 1)
        (1.0, 0.2)

    Reference:
        Hernandez-Garcia et al. 2025, figures 3a, 15b and 16.
    """
    blocks: list[Any] = list(net.blocks)
    qkv = [block.attention.qkv.weight for block in blocks]
    mlp = [torch.cat([block.mlp.fc1.weight.flatten(), block.mlp.fc2.weight.flatten()]) for block in blocks]
    norms = [m for m in net.modules() if isinstance(m, (nn.LayerNorm, ReparamLayerNorm))]
    scales = [m.weight + 1 if isinstance(m, ReparamLayerNorm) else m.weight for m in norms]
    return {
        "weight_magnitude": mean_magnitude(list(net.parameters())),
        "ln_scale": mean_magnitude(scales),
        "qkv_median_last": qkv[-1].abs().median().item(),
        "qkv_mean": mean_magnitude(qkv),
        "qk_median_last": qkv[-1][: 2 * net.width].abs().median().item(),
        "mlp_median_last": mlp[-1].abs().median().item(),
        "mlp_mean": mean_magnitude(mlp),
    }


def mean_magnitude(tensors: list[Tensor]) -> float:
    """Mean |w| over all entries of all tensors."""
    return magnitude(tensors).item() / sum(w.numel() for w in tensors)


def magnitude(tensors: list[Tensor]) -> Tensor:
    """Sum of |w| over all entries of all tensors, float64 of shape (), without waiting for the device."""
    sums: Any = torch._foreach_norm(tensors, 1)  # type: ignore[attr-defined]
    return torch.stack(list(sums)).double().sum()
