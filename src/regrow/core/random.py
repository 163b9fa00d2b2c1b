"""Counter-based random numbers: every draw is a function of its purpose, not of the draws before it.

    bits(key, i) = mix(key + (i + 1) * GAMMA)   mod 2**64

`mix` is the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), so `bits(key, i)` is the i-th output of
SplitMix64 seeded with `key`. The key is folded from (seed, method, member, step, tensor name, purpose). There is no
generator state, and integer arithmetic gives the same bits on every device, in every stack, under every compiler.

int64 tensors hold the 64-bit words: torch has no arithmetic on uint64, and two's complement wraps alike.
"""

import functools
import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .eager import CHUNK, looking_is_free

_MASK = (1 << 64) - 1
GAMMA, MUL1, MUL2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(x: int) -> int:
    """The int64 with the same 64 bits."""
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def _mix_int(z: int) -> int:
    z &= _MASK
    z = ((z ^ (z >> 30)) * MUL1) & _MASK
    z = ((z ^ (z >> 27)) * MUL2) & _MASK
    return z ^ (z >> 31)


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical right shift: torch's is arithmetic, so the copies of the sign bit are masked away."""
    return (z >> by).bitwise_and_((1 << (64 - by)) - 1)


def mix(z: Tensor) -> Tensor:
    """Finaliser of SplitMix64, a bijection on 64-bit words.

    z ^= z >> 30;  z *= 0xBF58476D1CE4E5B9;  z ^= z >> 27;  z *= 0x94D049BB133111EB;  z ^= z >> 31

    Args:
        z: int64, any shape.

    Returns:
        int64 of the same shape.

    Example:
        >>> import torch
        >>> int(mix(torch.tensor([0]))[0])
        0

    Reference:
        Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    if looking_is_free(z):
        return torch.from_numpy(_mix_here(z.numpy().view(np.uint64)).view(np.int64))
    z = (z ^ _shift(z, 30)).mul_(_signed(MUL1))
    z = z.bitwise_xor_(_shift(z, 27)).mul_(_signed(MUL2))
    return z.bitwise_xor_(_shift(z, 31))


def _mix_here(z: np.ndarray) -> np.ndarray:
    """`mix` of uint64 by NumPy, whose shift needs no mask: on a CPU a third of the time of torch."""
    with np.errstate(over="ignore"):  # an array that holds one number becomes a scalar, which would warn
        z = z ^ (z >> 30)
        z *= np.uint64(MUL1)
        z ^= z >> 27
        z *= np.uint64(MUL2)
        z ^= z >> 31
    return np.asarray(z)


@functools.cache
def _number_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def key(*parts: int | str | Tensor, start: int | Tensor = 0) -> int | Tensor:
    """Fold the parts that name a draw's purpose into one 64-bit key, in order.

    k <- start; k <- mix((k ^ part) + GAMMA) for each part.

    Text enters as its 8-byte BLAKE2b digest (`digest_size=8`, which is not the beginning of a longer digest), read as a
    little-endian integer.

    Args:
        parts: integers (taken mod 2**64), text, or int64 tensors (one key per element, e.g. per member).
        start: the key of the parts before these, to share a common beginning among several keys.

    Returns:
        An int in [-2**63, 2**63), or an int64 tensor if any part is a tensor.

    Raises:
        TypeError: for a part of any other type.

    Text cannot be hashed in compiled code: compute keys from text outside, and pass them in.

    Example:
        >>> key(0, "swr", 0, 2048, "fc.weight") == key(0, "swr", 0, 2048, "fc.bias")
        False
        >>> key(0, "swr", 0, 2048) == key(0, 2048, start=key(0, "swr"))
        True
    """
    k = start
    for part in parts:
        if isinstance(part, str):
            part = _number_of(part)
        elif not isinstance(part, int) and (not isinstance(part, Tensor) or part.dtype != torch.int64):
            kind = part.dtype if isinstance(part, Tensor) else type(part).__name__
            raise TypeError(f"a key is folded from int, str or int64 tensors; got {kind}")
        if isinstance(k, int) and isinstance(part, int):
            k = _signed(_mix_int((k ^ part & _MASK) + GAMMA))
        else:
            part = part if isinstance(part, Tensor) else _signed(part)
            k = mix((part ^ k) + _signed(GAMMA))  # type: ignore[arg-type]
    return k


def bits(key: int | Tensor, index: Tensor) -> Tensor:
    """64 random bits for each entry index.

    bits(key, i) = mix(key + (i + 1) * GAMMA)

    Args:
        key: from `key`; an int, or an int64 tensor that broadcasts against `index`.
        index: int64 entry indices, counted in row-major order over one member's whole tensor.

    Returns:
        int64 of the broadcast shape.

    Example:
        >>> import torch
        >>> bits(1234567, torch.arange(2)).tolist()
        [6457827717110365317, 3203168211198807973]

    Reference:
        The values above are the published test vector of SplitMix64 with seed 1234567.
    """
    if looking_is_free(index) and (not isinstance(key, Tensor) or looking_is_free(key)):
        return torch.from_numpy(_bits_here(key, index.numpy().view(np.uint64)).view(np.int64))
    start = key + _signed(GAMMA) if isinstance(key, Tensor) else _signed(key + GAMMA)
    return mix(index * _signed(GAMMA) + start)


def _bits_here(key: int | Tensor, index: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        own = key.numpy().view(np.uint64) if isinstance(key, Tensor) else np.uint64(key & _MASK)
        return _mix_here(index * np.uint64(GAMMA) + (own + np.uint64(GAMMA)))


def uniform(words: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) from the top 24 of 64 bits, exact in float32.

    u = (words >> 40) * 2**-24

    Args:
        words: int64, from `bits`.

    Returns:
        float32 of the same shape, multiples of 2**-24.

    Example:
        >>> import torch
        >>> uniform(bits(1234567, torch.arange(2)))
        tensor([0.3501, 0.1736])
    """
    return ((words >> 40) & 0xFFFFFF).float() * 2.0**-24


def order(words: Tensor) -> Tensor:
    """Random ranks for breaking ties: the top 31 of 64 bits, as int32 in [0, 2**31).

    Args:
        words: int64, from `bits`.

    Returns:
        int32 of the same shape.

    Example:
        >>> import torch
        >>> order(bits(1234567, torch.arange(2)))
        tensor([751790091, 372897858], dtype=torch.int32)
    """
    return _shift(words, 33).int()


def field(
    key: int | Tensor, shape: torch.Size, number: Callable[[Tensor], Tensor], device: torch.device,
    index: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """A random number for every entry of a tensor, made in chunks so that no 64-bit copy of it ever exists.

    field_i = number(bits(key, i)), i the row-major entry index

    Args:
        key: from `key`.
        shape: of the tensor.
        number: maps words to numbers, e.g. `uniform`.
        device: where to make them.
        index: where the tensor is a part of a larger one: maps its entry indices to those there.

    Returns:
        A tensor of that shape, of the type that `number` gives.

    Example:
        >>> import torch
        >>> field(1234567, torch.Size([2]), uniform, torch.device("cpu"))
        tensor([0.3501, 0.1736])
    """
    count = shape.numel()
    size = CHUNK if device.type == "cpu" else 16 * CHUNK
    out: Tensor | None = None
    for start in range(0, max(count, 1), size):
        here = torch.arange(start, min(start + size, count), device=device)
        chunk = number(bits(key, here if index is None else index(here)))
        if out is None:
            out = chunk if count <= size else chunk.new_empty(count)
        if out is not chunk:
            out[start : start + size] = chunk
    assert out is not None
    return out.view(shape)
