"""Optimizers side by side: the same parameters, the same gradients, the same bits."""

import torch
from torch import nn

SHAPES = ((3, 4), (5,), (), (0, 2), (2, 3, 2))
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def parameters(dtype=torch.float32, shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def give_gradients(*lists, seed=0):
    """The same random gradients to each list of parameters."""
    generator = torch.Generator().manual_seed(seed)
    for twins in zip(*lists, strict=True):
        gradient = torch.randn(twins[0].shape, generator=generator)
        for p in twins:
            p.grad = gradient.to(p.dtype, copy=True)


def same_bits(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def run_pair(ours, theirs, p, q, steps=12):
    """True if two optimizers give the same bits at every step of the same gradients."""
    for step in range(steps):
        give_gradients(p, q, seed=step)
        ours.step()
        theirs.step()
        if not same_bits(p, q):
            return False
    return True
