"""What is measured at every update of a task, of every member of a stack.

Shapes: C members, U updates a task.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.eager import looking_is_free


class Online:
    """Accuracy and loss on each batch before its update, gradient magnitude, and the effect of renewals on the loss.

    Args:
        members: C.
        updates: U, of a task.
        batch: images of each.
        device: of the stack.

    Reference:
        Hernandez-Garcia et al. 2025, section 3, "online accuracy".
    """

    def __init__(self, members: int, updates: int, batch: int, device: torch.device | str) -> None:
        self._batch = batch
        self._metrics = torch.zeros(updates, 2, members, dtype=torch.float32, device=device)
        self._fired = torch.zeros(updates, members, dtype=torch.bool, device=device)
        self._gradient = torch.zeros(members, dtype=torch.float64, device=device)
        self._measured = self._shown = 0

    def begin(self) -> None:
        """Begin a new task."""
        for total in (self._metrics, self._fired, self._gradient):
            total.zero_()
        self._measured = self._shown = 0

    def add(self, u: int, metrics: Tensor) -> None:
        """Add the metrics of update u: mean loss, and number of correctly classified images, (2, C)."""
        self._metrics[u] = metrics
        self._shown += 1

    def add_gradient(self, magnitude: Tensor) -> None:
        """Mean |gradient| of the scaled loss at this update, (C)."""
        self._gradient += magnitude
        self._measured += 1

    def fire(self, u: int, members: Sequence[int], fired: Tensor) -> None:
        """Whether each of these members renewed something at update u."""
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
            unit: 1 / scale of each member's loss, (C).
        """
        loss, right = self._metrics.double().unbind(1)
        jump, fired = (self._metrics[1:, 0] - self._metrics[:-1, 0]).double(), self._fired[:-1]
        return {
            "online_accuracy": right.sum(0) / (self._shown * self._batch),
            "loss": loss.mean(0),
            "gradient_magnitude": self._gradient * unit.abs() / self._measured,
            "renewals": self._fired.sum(0),
            "loss_jump": jump.where(fired, 0.0).sum(0) / fired.sum(0),
        }
