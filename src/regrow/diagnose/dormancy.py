"""Shares of units at which little gradient arrives: now, or in the memory of the optimizer."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..wiring import Units, locate


def shares(key: str, sums: Mapping[str, Tensor], threshold: float) -> dict[str, float]:
    """Share of units with sum_i <= threshold * mean_j sum_j, j over the layer; of all units, then by layer.

    Args:
        key: name of the measure.
        sums: {layer: (n,)}, >= 0.
        threshold: in [0, 1].

    Returns:
        {key: share, key/layer: share}; nan where a sum is not finite, or there is no layer.
    """
    counts = {
        name: (total <= threshold * total.mean()).sum().item() if total.isfinite().all() else math.nan
        for name, total in sums.items()
    }
    units = sum(total.numel() for total in sums.values())
    whole = sum(counts.values()) / units if units else math.nan
    return {key: whole} | {f"{key}/{name}": count / sums[name].numel() for name, count in counts.items()}


def moment_sums(model: nn.Module, layers: Sequence[Units], optimizer: Optimizer) -> dict[str, Tensor]:
    """Sum of sqrt(v) over the incoming weights of each unit, v their second moment in the optimizer.

    Args:
        model: the model.
        layers: its units.
        optimizer: holds the incoming weights of some layer at least, unless all are frozen.

    Returns:
        {layer: float64 of shape (n,)}; without layers that are frozen, or that the optimizer does not hold or
        has not stepped yet.

    Raises:
        ValueError: where it holds none, or keeps no second moments of them.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    sums: dict[str, Tensor] = {}
    mine = trainable = lacking = False
    for units in layers:
        incoming = [getattr(*locate(model, place.name)) for place in units.weight_in]
        if not all(w.requires_grad for w in incoming):
            continue
        trainable = True
        if not all(id(w) in held for w in incoming):
            continue
        mine = True
        roots = [_root(optimizer.state.get(w, {}), w) for w in incoming]
        if any(root is None for root in roots):
            lacking = lacking or any(optimizer.state.get(w) for w in incoming)
            continue
        n = units.count(model)
        parts = [p.per_unit(r, n).double().sum(1).cpu() for p, r in zip(units.weight_in, roots, strict=True)]  # type: ignore[arg-type]
        sums[units.layer] = torch.stack(parts).sum(0)
    kind = type(optimizer).__name__
    if trainable and not mine:
        raise ValueError(f"the {kind} holds the incoming weights of no hidden layer: is it this model's?")
    if lacking and not sums:
        raise ValueError(f"`optimizer` must keep second moments, as Adam does; {kind} has none that are known here")
    return sums


def _root(state: Mapping[str, Tensor], w: Tensor) -> Tensor | None:
    """The size of the gradients of each entry of w, from the optimizer's memory; None where it keeps none."""
    for name in ("exp_avg_sq", "square_avg", "sum", "variance"):
        if isinstance(v := state.get(name), Tensor) and v.shape == w.shape:
            return v.sqrt()
    if isinstance(v := state.get("exp_inf"), Tensor) and v.shape == w.shape:
        return v
    rows, columns = state.get("row_var"), state.get("col_var")
    if isinstance(rows, Tensor) and isinstance(columns, Tensor):  # Adafactor's v is their product
        return (rows / rows.mean(dim=-2, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny) * columns).sqrt()
    return None
