"""What the ranks of a distributed run must agree on."""

import torch
from torch import Tensor, distributed


def many() -> bool:
    """True in a run of several processes."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def agreed_seed(seed: int) -> int:
    """The seed of rank 0."""
    chosen = [seed]
    if many():
        distributed.broadcast_object_list(chosen, src=0)
    return chosen[0]


def sum_over_ranks(parts: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Sums and counts added up over all ranks, in one message."""
    if not many():
        return parts
    flat = torch.cat([t.reshape(-1).double() for part in parts for t in part])
    distributed.all_reduce(flat)
    sizes = [t.numel() for part in parts for t in part]
    split = [
        piece.view(t.shape).to(t.dtype)
        for piece, t in zip(flat.split(sizes), (t for part in parts for t in part), strict=True)
    ]
    return list(zip(split[::2], split[1::2], strict=True))
