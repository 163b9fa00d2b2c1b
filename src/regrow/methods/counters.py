"""How much was renewed: counted for each member, on the device, and read only on request.

Shapes: K members of a method, k of them that act.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.eager import looking_is_free

RENEWED, LOOKED, ZERO, AGAIN, NAN, ENTRIES = range(6)
"""Chosen entries or units; those looked at; of utility 0; chosen last time too; tensors with NaN; changed entries."""
FIELDS = 6
_BITS = tuple(1 << i for i in range(8))


class Counters:
    """Counts of the renewals of one method.

    Args:
        members: K.
        track_overlap: keep a bit per weight of the last renewal, to measure how much of it the next one renews again.
    """

    def __init__(self, members: int, track_overlap: bool = False) -> None:
        self.members, self.track_overlap = members, track_overlap
        self.renewals = self.skipped_no_grad = self.skipped_no_signal = 0
        self._bits: dict[str, Tensor] = {}  # name -> (K, bytes)
        self._past = torch.zeros(members, FIELDS, dtype=torch.int64)  # before the last renewal
        self._here = np.zeros((members, FIELDS), np.int64)  # of the last renewal, counted on the host
        self._there: list[tuple[Sequence[int], Tensor]] = []  # and on a device

    def begin(self) -> None:
        """A renewal starts."""
        if self._there:
            self._past = self._past + self._last()
        elif self._here.any():
            self._past = self._past + torch.from_numpy(self._here).to(self._past.device)
        self._here[:] = 0
        self._there = []
        self.renewals += 1

    def reset(self) -> None:
        """Set the counts of every member to 0; `renewals` and the entries renewed last are kept."""
        self._past.zero_()
        self._here[:] = 0
        self._there = []

    def add(
        self, which: Sequence[int], name: str, mask: Tensor, zero: Tensor | None, nan: Tensor | None, size: int = 1
    ) -> None:
        """Count one tensor, or layer of units, of the renewal.

        Args:
            which: numbers of the k members.
            name: of the parameter or layer.
            mask: bool (k, ...), what is renewed.
            zero: bool (k, ...), what of it had utility 0.
            nan: bool (k), where the utility held a NaN, so that nothing is renewed.
            size: entries that belong to what is chosen.
        """
        if looking_is_free(mask):
            again = self._compare(which, name, mask) if self.track_overlap else None
            rows = np.zeros((len(which), FIELDS), np.int64)
            rows[:, RENEWED] = [np.count_nonzero(own) for own in mask.numpy()]  # with `axis` it would be a slow sum
            rows[:, LOOKED] = mask[0].numel()
            rows[:, ENTRIES] = rows[:, RENEWED] * size
            if zero is not None:
                rows[:, ZERO] = [np.count_nonzero(own) for own in zero.numpy()]
            if again is not None:
                rows[:, AGAIN] = again.numpy()
            if nan is not None:
                rows[:, NAN] = nan.numpy()
            self._here[list(which)] += rows
            return
        self.add_row(which, self.row(which, name, mask, zero, nan, size))

    def row(
        self, which: Sequence[int], name: str, mask: Tensor, zero: Tensor | None, nan: Tensor | None, size: int = 1
    ) -> Tensor:
        """What `add` adds for each member, (k, fields), where the mask is."""
        again = self._compare(which, name, mask) if self.track_overlap else None
        none = torch.zeros(len(which), dtype=torch.int64, device=mask.device)
        renewed = mask.reshape(len(mask), -1).sum(1)
        zeros = none if zero is None else zero.reshape(len(zero), -1).sum(1)
        spoilt = none if nan is None else nan.to(torch.int64)
        looked = torch.full_like(none, mask[0].numel())
        return torch.stack([renewed, looked, zeros, none if again is None else again, spoilt, renewed * size], 1)

    def add_row(self, which: Sequence[int], row: Tensor) -> None:
        """Add what `row` returned, or its sum over ranks, all of which found the same NaN."""
        row[:, NAN].clamp_(max=1)
        self._there.append((list(which), row))

    def add_here(
        self, i: int, renewed: int, looked: int, zero: int, size: int = 1, again: int = 0, nan: bool = False
    ) -> None:
        """Add the counts of one member, made by the caller."""
        self._here[i] += (renewed, looked, zero, again, nan, renewed * size)

    def fired(self, which: Sequence[int]) -> Tensor:
        """Which of these members had anything renewed by the last renewal, bool (len(which))."""
        if not self._there:
            return torch.from_numpy(self._here[list(which), RENEWED] > 0)
        last = self._last()
        return last[:, RENEWED].index_select(0, torch.tensor(which, device=last.device)) > 0

    def _compare(self, which: Sequence[int], name: str, mask: Tensor) -> Tensor:
        """How many entries are renewed both now and last time, (k); remembers the mask, eight entries per byte."""
        flat = mask.reshape(len(mask), -1)
        packed = pack(flat)
        before = self._bits.get(name)
        if before is None or before.shape[1] != packed.shape[1]:
            before = packed.new_zeros(self.members, packed.shape[1])
        index = torch.tensor(which, device=mask.device)
        self._bits[name] = before.to(mask.device).index_copy(0, index, packed)
        return (unpack(before.to(mask.device).index_select(0, index), flat.shape[1]) & flat).sum(1)

    def permute(self, name: str, shuffle: Tensor) -> None:
        """The columns of a parameter (K, rows, columns) were shuffled: follow them."""
        if (bits := self._bits.get(name)) is None:
            return
        flat = unpack(bits, 8 * bits.shape[1])
        entries = flat.shape[1] - flat.shape[1] % len(shuffle)
        shuffle = shuffle.to(bits.device)  # stored bits are on the CPU until the next renewal
        rows = flat[:, :entries].view(self.members, -1, len(shuffle)).index_select(2, shuffle).flatten(1)
        self._bits[name] = pack(rows)

    def _last(self) -> Tensor:
        """The counts of the last renewal, (K, fields), on the device that has them."""
        total = torch.from_numpy(self._here.copy())
        if self._there and not self._here.any():
            total = torch.zeros_like(total, device=self._there[0][1].device)
        for which, row in self._there:
            if len(which) == self.members:
                total = total.to(row.device) + row
            else:
                total = total.to(row.device).index_add(0, torch.tensor(which, device=row.device), row)
        if self._past.device != total.device:
            self._past = self._past.to(total.device)
        return total

    def totals(self) -> Tensor:
        """All counts, (K, fields), on the CPU (waits for the device)."""
        last = self._last()
        return (self._past + last).cpu()

    def report(self) -> dict[str, float]:
        """The counts of the first member as numbers (waits for the device)."""
        last = self._last()
        past = self._past[0].tolist()
        renewed, looked, zero, again, nan, _ = last[0].tolist()
        counts = {
            "renewals": self.renewals,
            "renewed_total": past[RENEWED] + renewed,
            "renewed_last": renewed,
            "share_last": renewed / max(looked, 1),
            "zero_share_last": zero / max(renewed, 1),
            "skipped_no_grad": self.skipped_no_grad,
            "skipped_no_signal": self.skipped_no_signal,
            "skipped_nan": past[NAN] + nan,
        }
        return counts | ({"overlap_last": again / max(renewed, 1)} if self.track_overlap else {})

    def state(self, i: int) -> dict[str, Any]:
        """The counts of one member, and what its last renewal renewed, on the CPU."""
        last = self._last()[i].cpu()  # the entries that belong to units follow from the rest
        return {
            "renewals": self.renewals,
            "skipped_no_grad": self.skipped_no_grad,
            "skipped_no_signal": self.skipped_no_signal,
            "past": self._past[i, :ENTRIES].cpu().clone(),
            "last": last[:ENTRIES].clone(),
            "bits": {name: bits[i].cpu().clone() for name, bits in self._bits.items()},
        }

    def load(self, i: int, state: Mapping[str, Any]) -> None:
        """Continue from stored counts of one member."""
        self.renewals, self.skipped_no_grad = state["renewals"], state["skipped_no_grad"]
        self.skipped_no_signal = state.get("skipped_no_signal", 0)  # states of regrow 0.1 have none
        self._past = self._past.cpu()
        self._past[i, :ENTRIES] = state["past"]
        self._here[i, :ENTRIES] = state["last"].numpy()
        self._there = []
        self.load_bits(i, state["bits"])

    def all_of(self, i: int) -> dict[str, Any]:
        """Everything of one member, as the laboratory stores it."""
        return {"total": self.totals()[i].clone(), "bits": {name: b[i].cpu().clone() for name, b in self._bits.items()}}

    def load_all_of(self, i: int, state: Mapping[str, Any]) -> None:
        """Continue from what `all_of` returned."""
        self._past = self._past.cpu()
        self._past[i], self._here[i], self._there = state["total"], 0, []
        self.load_bits(i, state["bits"])

    def load_bits(self, i: int, stored: Mapping[str, Tensor]) -> None:
        """Continue from what a member's last renewal renewed."""
        for name, bits in stored.items() if self.track_overlap else ():
            kept = self._bits.get(name)
            if kept is None or kept.shape[1:] != bits.shape:
                kept = self._bits[name] = bits.new_zeros(self.members, *bits.shape)
            kept[i] = bits


def pack(flags: Tensor) -> Tensor:
    """Eight flags in a byte: bool (k, n) -> uint8 (k, ceil(n / 8))."""
    padded = torch.nn.functional.pad(flags, (0, -flags.shape[1] % 8)).view(len(flags), -1, 8)
    return (padded * torch.tensor(_BITS, dtype=torch.uint8, device=flags.device)).sum(-1, dtype=torch.uint8)


def unpack(bits: Tensor, n: int) -> Tensor:
    """The n flags that `pack` was given."""
    weights = torch.tensor(_BITS, dtype=torch.uint8, device=bits.device)
    return (bits.unsqueeze(-1) & weights).bool().flatten(1)[:, :n]
