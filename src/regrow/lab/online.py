"""What is measured at every update of a task, of every member of a stack.

Shapes: C members, U updates a task, B images a batch, O classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..core._eager import compare, count, looking_is_free

_CHUNK = 50  # updates whose predictions are judged together


class Online:
    """Accuracy and loss on each batch before its update, the gradient's magnitude, and what renewals did to the loss.

    Args:
        members: C.
        updates: U, of a task.
        device: of the stack.

    Reference:
        Hernandez-Garcia et al. 2025, section 3, "online accuracy".
    """

    def __init__(self, members: int, updates: int, device: torch.device | str) -> None:
        self._loss = torch.zeros(updates, members, dtype=torch.float32, device=device)
        self._right = torch.zeros(members, dtype=torch.int64, device=device)
        self._fired = torch.zeros(updates, members, dtype=torch.bool, device=device)
        self._gradient = torch.zeros(members, dtype=torch.float64, device=device)
        self._measured = self._shown = self._images = 0
        self._kept: list[tuple[Tensor, Tensor]] = []

    def begin(self) -> None:
        """A new task."""
        for total in (self._right, self._fired, self._gradient):
            total.zero_()
        self._measured = self._shown = self._images = 0
        self._kept = []

    def add(self, u: int, log_p: Tensor, labels: Tensor) -> None:
        """Log-probabilities (C, O, B) of update u, and labels (B)."""
        self._kept.append((log_p, labels))
        if len(self._kept) == _CHUNK or u + 1 == len(self._loss):
            self._judge(u + 1)

    def _judge(self, end: int) -> None:
        log_p = torch.stack([kept for kept, _ in self._kept])  # (u, C, O, B)
        labels = torch.stack([labels for _, labels in self._kept])[:, None, None]  # (u, 1, 1, B)
        own = log_p.gather(2, labels.expand(*log_p.shape[:2], 1, log_p.shape[3])).squeeze(2)
        self._loss[end - len(self._kept) : end] = -own.mean(2)
        self._right += _is_first_largest(log_p, own, labels).sum((0, 2))
        self._shown, self._images = self._shown + len(self._kept), log_p.shape[3]
        self._kept = []

    def add_gradient(self, magnitude: Tensor) -> None:
        """Mean |slope| of this update, (C)."""
        self._gradient += magnitude
        self._measured += 1

    def fire(self, u: int, members: Sequence[int], fired: Tensor) -> None:
        """These members renewed something at update u, or not."""
        if looking_is_free(fired):
            here = self._fired.numpy()[u]
            for member, new in zip(members, fired.tolist(), strict=True):
                here[member] |= new
        else:
            places = torch.tensor(members, device=fired.device)
            self._fired[u].index_copy_(0, places, self._fired[u].index_select(0, places) | fired)

    def results(self, unit: Tensor) -> dict[str, Tensor]:
        """`online_accuracy`, `loss`, `gradient_magnitude`, `renewals`, `loss_jump`, each (C).

        Args:
            unit: gradient / slope of each member, (C).
        """
        jump, fired = (self._loss[1:] - self._loss[:-1]).double(), self._fired[:-1]
        return {
            "online_accuracy": self._right.double() / (self._shown * self._images),
            "loss": self._loss.double().mean(0),
            "gradient_magnitude": self._gradient * unit.abs() / self._measured,
            "renewals": self._fired.sum(0),
            "loss_jump": jump.where(fired, 0.0).sum(0) / fired.sum(0),
        }


def _is_first_largest(log_p: Tensor, own: Tensor, labels: Tensor) -> Tensor:
    """Is the label what argmax would answer? bool (u, C, B).

    argmax over ten numbers costs several times as much as their maximum, and answers differently only in a tie.
    """
    if looking_is_free(log_p):
        best = log_p.amax(2)
        if int(count(compare(np.equal, log_p, best.unsqueeze(2)))) == best.numel():
            return own == best
    return log_p.argmax(2) == labels.squeeze(2)
