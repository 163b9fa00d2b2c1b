"""Slow twins of the core: plain Python, one entry at a time, straight from the published algorithms and the paper.

They share no code with `regrow`, hold no tensor and use integers of any size, so agreement means something.
"""

import hashlib
import math
from collections.abc import Sequence

WORD = 1 << 64


def splitmix64(state: int, n: int) -> list[int]:
    """The first n outputs of SplitMix64 in the form of its authors: a state that is advanced and then mixed."""
    out = []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) % WORD
        out.append(_finalise(state))
    return out


def _finalise(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def key(*parts: int | str) -> int:
    """Each part is one step of SplitMix64 from the key so far, crossed with the part; unsigned."""
    state = 0
    for part in parts:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.blake2b(part.encode("utf-8"), digest_size=8).digest(), "little")
        [state] = splitmix64(state ^ part % WORD, 1)
    return state


def threshold(utility: Sequence[float], factor: float) -> list[bool]:
    """Prune every entry with U <= factor * mean(U); a NaN anywhere makes the mean NaN and prunes nothing."""
    limit = factor * (math.fsum(utility) / len(utility))
    return [u <= limit for u in utility]


def proportional(
    utility: Sequence[float], factor: float, uniform: float | None = None, order: Sequence[float] | None = None
) -> list[bool]:
    """Prune the k entries of lowest utility, k = floor(factor n) + Bernoulli(the rest); ties by `order`."""
    n = len(utility)
    if any(math.isnan(u) for u in utility):
        return [False] * n
    exact = factor * n
    # A product like 0.29 * 100 = 28.999999999999996 stands for the whole number beside it.
    whole = round(exact) if abs(exact - round(exact)) < 1e-6 else math.floor(exact)
    k = whole + (uniform is not None and uniform < exact - whole)
    ties = order if order is not None else range(n)
    lowest = sorted(range(n), key=lambda i: (utility[i], ties[i], i))[:k]
    return [i in lowest for i in range(n)]


def eligible_lowest(
    utility: Sequence[float], eligible: Sequence[bool], count: int, order: Sequence[float]
) -> list[bool]:
    """Replace the `count` eligible units of lowest utility, or all of them where there are fewer; ties by `order`."""
    candidates = [i for i in range(len(utility)) if eligible[i]]
    if any(math.isnan(utility[i]) for i in candidates):
        return [False] * len(utility)
    lowest = sorted(candidates, key=lambda i: (utility[i], order[i], i))[:count]
    return [i in lowest for i in range(len(utility))]
