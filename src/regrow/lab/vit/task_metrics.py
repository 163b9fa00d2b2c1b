"""The results of a task of a vision transformer, summed up epoch by epoch.

Shapes: U updates of an epoch.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..problems.incremental import BATCH
from ..studies import System


@dataclass
class Sums:
    """Sums over one task so far, on the host: a state can be stored after any epoch.

    counts: of the method, at the beginning. before: measured before the first update. rows: of the epochs' table.
    """

    counts: dict[str, int] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    best_validation: float = -1.0
    best_epoch: int = -1
    updates: int = 0
    loss: float = 0.0
    right: int = 0
    gradient: float = 0.0
    measured: int = 0
    jump: float = 0.0
    jumps: int = 0

    def add(self, losses: Tensor, right: Tensor, gradients: list[Tensor], fired: list[int]) -> None:
        """Add an epoch.

        Args:
            losses: of its batches, each before its update, (U).
            right: answers that were right, of all batches together, ().
            gradients: mean magnitudes of those measured.
            fired: updates at which something was renewed.
        """
        self.updates += len(losses)
        self.loss += losses.sum().item()
        self.right += int(right)
        self.gradient += sum(gradient.item() for gradient in gradients)
        self.measured += len(gradients)
        jumps = [(losses[u + 1] - losses[u]).item() for u in fired if u + 1 < len(losses)]
        self.jump += sum(jumps)
        self.jumps += len(jumps)

    def results(self) -> dict[str, Any]:
        """Columns of the task's row; null where nothing was measured, or is no number."""
        tests = [row["test_accuracy"] for row in self.rows if row.get("test_accuracy") is not None]
        return {
            "online_accuracy": self.right / (self.updates * BATCH),
            "loss": finite(self.loss / self.updates),
            "gradient_magnitude": finite(self.gradient / self.measured),
            "loss_jump": finite(self.jump / self.jumps) if self.jumps else None,
            "best_test_accuracy": max(tests, default=None),
            "best_validation_accuracy": self.best_validation if self.best_epoch >= 0 else None,
            "best_epoch": self.best_epoch if self.best_epoch >= 0 else None,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to restore it."""
        return dataclasses.asdict(self)


def renewed(before: dict[str, int], now: dict[str, int], system: str) -> dict[str, Any]:
    """Columns of what was renewed between two counts."""
    columns: dict[str, Any] = {name: now[name] - before[name] for name in before if name not in ("overlap", "mature")}
    again, method = now["overlap"] - before["overlap"], System.of(system).method
    columns["overlap"] = again / columns["renewed"] if method == "swr" and columns["renewed"] else None
    columns["mature"] = now["mature"] if method == "cbp" else None
    return columns


def finite(value: float) -> float | None:
    """A number, or null."""
    return value if math.isfinite(value) else None
