"""What keys the random numbers of a maintainer that was given no seed.

Torch's initial seed alone would give twin networks (two critics) the same numbers; so it is mixed with a fingerprint of
the initial parameters, which differ. Seeded code that is run again finds both as they were.
"""

import hashlib

import torch
from torch import Tensor

from ..core import random
from ..names import Entry
from ..shards import entries_at, is_sharded
from . import distributed

SAMPLED = 4096  # entries of a tensor


def default_seed(entries: list[Entry]) -> int:
    """A seed from `torch.initial_seed()` and the values of parameters, those of rank 0 on all ranks.

    Args:
        entries: all parameters of the model.

    Returns:
        An integer in [0, 2**63).
    """
    mixed = random.key(torch.initial_seed(), fingerprint(entries))
    assert isinstance(mixed, int)
    return distributed.agreed_seed(mixed & (2**63 - 1))


def fingerprint(entries: list[Entry]) -> int:
    """A number that differs wherever names, shapes or values do, almost surely: 8 bytes of a BLAKE2b digest."""
    digest = hashlib.blake2b(digest_size=8)
    for entry in entries:
        w = entry.parameter
        digest.update(f"{entry.name} {tuple(w.shape)}".encode())
        if not w.is_meta:
            digest.update(_sample(w).numpy().tobytes())
    return int.from_bytes(digest.digest(), "little")


def _sample(w: Tensor) -> Tensor:
    """Entries at even distances, exactly as they are, on the CPU."""
    step = max(1, w.numel() // SAMPLED)
    if is_sharded(w):
        return entries_at(w, torch.arange(0, w.numel(), step))
    w = w.detach()
    if w.is_quantized:
        w = w.int_repr()
    values = w.reshape(-1)[::step]
    return torch.view_as_real(values).cpu().double() if w.is_complex() else values.cpu().double()
