"""How many updates have there been, and is one due?"""

import torch
from torch import Tensor


class StepCounter:
    """Counts optimizer steps, less those that a gradient scaler skipped inside a fused optimizer.

    Such an optimizer runs its hooks even on a skipped step and carries `found_inf`, a tensor on the device. Reading
    it would make the host wait at every step. So skips are summed on the device, and since a skip can only delay
    what is due, the sum is read only when something would be due if no more had been skipped.
    """

    def __init__(self) -> None:
        self.attempts = 0  # skipped steps included
        self._skipped = 0  # as last read
        self._unread: Tensor | None = None  # skips since then, on the device
        self._last = 0  # step of the last `due`

    def tick(self, found_inf: Tensor | None = None) -> None:
        """One more optimizer step; `found_inf` is nonzero where it was skipped."""
        self.attempts += 1
        if found_inf is not None:
            skip = (found_inf.detach().reshape(()) != 0).to(torch.int64)
            self._unread = skip if self._unread is None else self._unread + skip

    @property
    def steps(self) -> int:
        """Updates that took place."""
        if self._unread is not None:
            self._skipped += int(self._unread)
            self._unread = None
        return self.attempts - self._skipped

    @property
    def at_most(self) -> int:
        """Updates that took place if no more were skipped than is known."""
        return self.attempts - self._skipped

    def reached(self, step: int) -> bool:
        """Has this update taken place? Reads the device only if it may have."""
        return self.at_most >= step and self.steps >= step

    def due(self, every: int) -> bool:
        """True once for each multiple of `every`, at the update that reaches it."""
        if not self.reached(self.next_due(every)):
            return False
        self._last = self.steps
        return self._last % every == 0

    def next_due(self, every: int) -> int:
        """The first multiple of `every` after the last one that was due."""
        return (self._last // every + 1) * every

    def reset(self, steps: int, attempts: int) -> None:
        """Continue from stored numbers of updates and of attempts at one."""
        self.attempts, self._last = attempts, steps
        self._skipped, self._unread = attempts - steps, None
