"""Did it fire? Counts for `report()`, kept on the device and read only when asked for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.eager import count, looking_is_free

_BIT = tuple(1 << i for i in range(8))


class Tally:
    """What the renewals of one maintainer amounted to.

    Args:
        track_overlap: keep a bit per weight of the last renewal, to tell how much of it the next one renews again.
    """

    def __init__(self, track_overlap: bool = False) -> None:
        self.renewals = 0
        self.skipped_no_grad = 0
        self.track_overlap = track_overlap
        self._bits: dict[str, Tensor] = {}
        # Counts (renewed, entries, zero, overlap, nan): their sum before the last renewal, a row a tensor for that.
        self._past = torch.zeros(5, dtype=torch.int64)
        self._last: list[Tensor] = []

    def begin(self) -> None:
        """A renewal starts."""
        if self._last:
            self._past = self._past.to(self._last[0].device) + self._sum_of_last()
        self._last = []
        self.renewals += 1

    def add(self, name: str, mask: Tensor, zero: Tensor, nan: Tensor) -> None:
        """One tensor of the renewal.

        Args:
            name: canonical name of the parameter.
            mask: what is renewed.
            zero: number of renewed entries whose utility was exactly 0.
            nan: true if the utility held a NaN, so that nothing is renewed.
        """
        overlap = self._compare(name, mask) if self.track_overlap else torch.zeros_like(zero)
        if looking_is_free(mask):
            counts = [count(mask).item(), mask.numel(), zero.item(), overlap.item(), nan.item()]
            row = torch.tensor(counts, dtype=torch.int64)
        else:
            entries = torch.full_like(zero, mask.numel())
            row = torch.stack([count(mask), entries, zero, overlap, nan.to(zero.dtype)])
        self._last.append(row)

    def _compare(self, name: str, mask: Tensor) -> Tensor:
        """Number of entries renewed both now and last time; remembers the mask, eight entries a byte."""
        weights = torch.tensor(_BIT, dtype=torch.uint8, device=mask.device)
        padded = torch.nn.functional.pad(mask.reshape(-1), (0, -mask.numel() % 8)).view(-1, 8)
        before = self._bits.get(name)
        self._bits[name] = (padded * weights).sum(-1, dtype=torch.uint8)
        if before is None:
            return torch.zeros((), dtype=torch.int64, device=mask.device)
        return torch.count_nonzero((before.to(mask.device).unsqueeze(-1) & weights).bool() & padded)

    def _sum_of_last(self) -> Tensor:
        device = self._last[0].device
        return torch.stack([row.to(device) for row in self._last]).sum(0)

    def report(self) -> dict[str, float]:
        """The counts as numbers (waits for the device)."""
        last = self._sum_of_last().tolist() if self._last else [0] * 5
        past = self._past.tolist()
        renewed, entries, zero, overlap, _ = last
        counts = {
            "renewals": self.renewals,
            "renewed_total": past[0] + renewed,
            "renewed_last": renewed,
            "share_last": renewed / max(entries, 1),
            "zero_share_last": zero / max(renewed, 1),
            "skipped_no_grad": self.skipped_no_grad,
            "skipped_nan": past[4] + last[4],
        }
        return counts | ({"overlap_last": overlap / max(renewed, 1)} if self.track_overlap else {})

    def state_dict(self) -> dict[str, Any]:
        """All of it, on the CPU."""
        last = self._sum_of_last().cpu() if self._last else torch.zeros(5, dtype=torch.int64)
        return {
            "renewals": self.renewals,
            "skipped_no_grad": self.skipped_no_grad,
            "past": self._past.cpu().clone(),
            "last": last,
            "bits": {name: bits.cpu().clone() for name, bits in self._bits.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from stored counts."""
        self.renewals, self.skipped_no_grad = state["renewals"], state["skipped_no_grad"]
        self._past, self._last = state["past"].clone(), [state["last"].clone()]
        self._bits = {name: bits.clone() for name, bits in state["bits"].items()} if self.track_overlap else {}
