"""Was there anything to learn in an update? A step without learning rate and gradient is none at all."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..shards import is_sharded, local
from . import distributed


def no_update(optimizer: Optimizer | None) -> bool | Tensor:
    """Is a step of this optimizer no update: lr 0 in every group, and every gradient zero or None?

    `torch.distributed.checkpoint` makes such steps to give an optimizer its state. Gradients are looked at only where
    every lr is 0. A warm-up step of lr 0 with gradients is an update.

    Returns:
        True or False; where an lr lies on an accelerator, a bool tensor there, since reading it would wait.
    """
    groups = [] if optimizer is None else optimizer.param_groups
    if any(isinstance(lr := group.get("lr"), float) and lr != 0 for group in groups):  # the usual case, at once
        return False
    there = [lr for group in groups if _is_elsewhere(lr := group.get("lr"))]
    if not groups or any(is_live(group) for group in groups if not _is_elsewhere(group.get("lr"))):
        return False
    gradients = [g for group in groups for p in group["params"] if (g := p.grad) is not None]
    seen = _anywhere(nonzero(gradients)) if any(map(is_sharded, gradients)) else nonzero(gradients)
    if not there:
        return seen is None or not bool(seen)
    none = torch.stack([(lr == 0).reshape(()) for lr in there]).all()
    return none if seen is None else none & ~seen.to(none.device)


def is_live(group: dict[str, Any], wait: bool = False) -> bool:
    """Does a parameter group learn: is its lr anything but 0? Groups without lr learn.

    Args:
        group: of an optimizer.
        wait: read an lr that lies on an accelerator; else such a group counts as learning.
    """
    lr = group.get("lr")
    return lr is None or (_is_elsewhere(lr) and not wait) or bool(lr != 0)


def frozen(optimizer: Optimizer | None, wait: bool = False) -> set[int]:
    """Identities of the parameters in groups whose lr is 0."""
    groups = [] if optimizer is None else [g for g in optimizer.param_groups if not is_live(g, wait)]
    return {id(p) for group in groups for p in group["params"]}


def has_signal(parameters: Sequence[nn.Parameter]) -> bool:
    """Is any gradient of these parameters anything but 0, on any rank? Waits for the device."""
    device = parameters[0].device if parameters else torch.device("cpu")
    seen = _anywhere(nonzero(p.grad for p in parameters if p.grad is not None), device)
    return seen is not None and bool(seen)


def _anywhere(seen: Tensor | None, device: torch.device | None = None) -> Tensor | None:
    """Whether a rank has seen anything, on all of them."""
    if not distributed.many():
        return seen
    device = device or (torch.device("cpu") if seen is None else seen.device)
    flag = torch.zeros((), device=device) if seen is None else seen.to(device, torch.float32)
    return distributed.sum_over_ranks([(flag, torch.zeros_like(flag))])[0][0] > 0


def nonzero(gradients: Iterable[Tensor]) -> Tensor | None:
    """Whether any entry is not 0, a bool tensor where the gradients are; None where there are none.

    On a CPU the first gradient that has such an entry ends the search.
    """
    seen: Tensor | None = None
    for g in gradients:
        values = g.coalesce().values() if g.is_sparse else local(g)
        if values.numel():
            here = values.any()
            if not values.is_cuda and values.device.type == "cpu" and bool(here):
                return here
            seen = here if seen is None else seen | here.to(seen.device)
    return seen


def _is_elsewhere(lr: object) -> bool:
    return isinstance(lr, Tensor) and lr.device.type != "cpu"
