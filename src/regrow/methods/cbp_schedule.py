"""When does continual backpropagation replace units, and how many?"""

from collections import deque

import torch
from torch import Tensor


class Schedule:
    """The replacements of one layer, computed ahead of the data.

    When units are replaced, and how many, depends on counts alone: those replaced come from the mature ones, so that
    the number of mature units never depends on which. So the host knows the next replacement without asking the
    device, and activations are watched for that update only.

    At each update:  mature = units with age > maturity;  owed += rate * mature;  replace floor(owed);  owed -= that

    Args:
        n: units of the layer, all of age 0.
        rate: replacement rate, in [0, 1].
        maturity: updates that a unit is left alone, >= 0.
    """

    HORIZON = 10_000  # updates worked out at once

    def __init__(self, n: int, rate: float, maturity: int) -> None:
        self._rate, self._maturity = rate, maturity
        self.step = 0  # the update that the rest refers to
        self.count = 0  # units to replace at it
        self._owed = 0.0
        self._mature = 0
        self._n = n
        self._young = deque([(0, n)])  # (update of birth, how many)

    def begin(self, step: int) -> None:
        """Start at a later update, where the units are of age 0."""
        self.step, self._young = step, deque([(step, self._young[0][1])])

    def run_ahead(self) -> None:
        """Advance to the next update that replaces units, or to the horizon, where `count` is 0."""
        for _ in range(self.HORIZON):
            self._next()
            if self.count:
                return

    def _next(self) -> None:
        self.step += 1
        while self._young and self.step - self._young[0][0] > self._maturity:
            self._mature += self._young.popleft()[1]
        self._owed += self._rate * self._mature
        self.count = int(self._owed)
        if self.count:
            self._owed -= self.count
            self._mature -= self.count
            self._young.append((self.step, self.count))

    def state_dict(self) -> dict[str, int | float | Tensor]:
        young = torch.zeros(self._n, 2, dtype=torch.int64)  # of a fixed shape: at most one row a unit, the rest 0
        young[: len(self._young)] = torch.tensor(list(self._young), dtype=torch.int64).view(-1, 2)
        return {"step": self.step, "count": self.count, "owed": self._owed, "mature": self._mature, "young": young}

    def load_state_dict(self, state: dict) -> None:
        self.step, self.count = state["step"], state["count"]
        self._owed, self._mature = state["owed"], state["mature"]
        self._young = deque((born, count) for born, count in state["young"].tolist() if count)
