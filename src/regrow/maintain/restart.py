"""Renewed entries whose steps are those of a new Adam: moments 0, and bias corrections of their own step counts.

Adam has one step count t for a tensor. With moments set to 0 an entry's own are those of a new optimizer k steps later;
only the corrections 1 - beta ** t are not. So after each step the difference between both is added:

    w <- w - lr * (m / c1(k) / (sqrt(v / c2(k)) + eps)  -  m / c1(t) / (sqrt(v / c2(t)) + eps)),   c(k) = 1 - beta ** k
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..core.precision import wide_type
from ..names import Entry
from ..shards import local

CLOSE = 1e-3  # corrections this near to 1 are left as they are


class Restarts:
    """At which step count of its optimizer each entry was renewed."""

    def __init__(self) -> None:
        self.born: dict[str, Tensor] = {}  # name -> int32 of the parameter's shape, 0 where never
        self._idle: dict[str, int] = {}  # name -> steps since anything of it was renewed

    def renew(self, entry: Entry, mask: Tensor, state: Mapping[str, Any]) -> None:
        """Entries are new, and their moments 0."""
        if "exp_avg" in state and "exp_avg_sq" in state and "step" in state:
            born = self.born.get(entry.name)
            if born is None or born.shape != mask.shape:
                born = torch.zeros(mask.shape, dtype=torch.int32, device=mask.device)
            step = torch.as_tensor(state["step"]).to(mask.device, torch.int32)
            self.born[entry.name] = torch.where(mask, step, born.to(mask.device))
            self._idle[entry.name] = 0

    def correct(self, entries: Iterable[Entry], memory: list[Optimizer], skipped: Tensor | None) -> None:
        """After a step: add the difference to a new optimizer's step.

        Args:
            entries: parameters that the step has changed.
            memory: the optimizers that may have made it.
            skipped: nonzero where a gradient scaler left the step out.
        """
        for entry in entries if self.born else ():
            born = self.born.get(entry.name)
            for optimizer in memory if born is not None else ():
                state = getattr(optimizer, "state", {}).get(entry.parameter)
                if state and isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
                    group = next(g for g in optimizer.param_groups if any(p is entry.parameter for p in g["params"]))
                    assert born is not None
                    _correct(local(entry.parameter), born.to(entry.parameter.device), state, group, skipped)
                    self._idle[entry.name] = self._idle.get(entry.name, 0) + 1
                    if self._idle[entry.name] > math.log(CLOSE) / math.log(max(group["betas"])):
                        del self.born[entry.name]
                    break


def refuse(optimizer: Optimizer) -> None:
    """Refuse an optimizer whose steps depend on a count in another way than Adam's.

    Raises:
        ValueError: for one of these.
    """
    counts = (torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax, torch.optim.ASGD, torch.optim.SparseAdam)
    if isinstance(optimizer, counts):
        raise ValueError(
            f"`clear_moments='restart'` serves Adam, AdamW and what corrects no bias; {type(optimizer).__name__} does: "
            "use True or 'zero'"
        )


@torch.no_grad()
def _correct(
    w: Tensor, born: Tensor, state: Mapping[str, Any], group: Mapping[str, Any], skipped: Tensor | None
) -> None:
    wide = wide_type(w)
    t = torch.as_tensor(state["step"]).to(w.device, wide)
    own = torch.where(born > 0, t - born, t).clamp(min=1)
    second = "max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"
    m, v = local(state["exp_avg"]).to(wide), local(state[second]).to(wide)

    def step(count: Tensor) -> Tensor:
        c1, c2 = (1 - torch.pow(torch.as_tensor(beta, dtype=wide, device=w.device), count) for beta in group["betas"])
        return m / c1 / ((v / c2).sqrt() + group["eps"])

    difference = (step(own) - step(t)) * group["lr"]
    if skipped is not None:
        difference = difference * (skipped.detach().reshape(()).to(w.device) == 0)
    w.sub_(torch.where(born > 0, difference, 0).to(w.dtype))
