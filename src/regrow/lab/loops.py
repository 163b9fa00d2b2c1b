"""The inner loops of a stack on a CPU, compiled by Numba.

Between the matrix products of an update lie some sixty small operations. Each is a call, and a trip of what it works
on through the caches that all weights have just been through; one loop that makes several of them at once is one.
Elsewhere torch's operations do the same; tests hold the two against each other.

A loop goes through members and rows one by one, so that what it makes of a member does not depend on the others.

Shapes: C members, B images, P pixels, H units, O outputs. A tensor of C x B rows has them member by member, or, where
`images_first`, image by image.
"""

import os
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from ..core import draw, random
from ..core._eager import looking_is_free

# Sums may be reordered, so as to be made in vectors. What is NaN or infinite stays so.
_REORDERED = {"reassoc", "contract", "nsz"}


def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    try:
        made = numba.njit(cache=True, error_model="numpy", fastmath=_REORDERED)(loop)
    except RuntimeError:  # no folder to keep it in may be written to
        return numba.njit(error_model="numpy", fastmath=_REORDERED)(loop)
    # Numba numbers the files it keeps without a lock. Where two processes compile a loop for different types at once,
    # one's file must not be taken for the other's.
    kept: Any = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_data_name_pattern"):
        kept._data_name_pattern = kept._data_name_pattern.replace("{number", f"{os.getpid()}-{{number")
    return made


def fit(x: Tensor) -> bool:
    """May the loops work on this tensor?"""
    return looking_is_free(x) and x.dtype in (torch.float32, torch.float64)


@_compiled
def take_images(pixels, order, white, out):
    """out (B, P) <- pixels[order] / white, of the first P of all pixels (N, all)."""
    for b in range(out.shape[0]):
        image = pixels[order[b]]
        for p in range(out.shape[1]):
            out[b, p] = np.float32(image[p]) / white


@_compiled
def norm_forward(z, scale, shift, eps, images_first, relu_first, relu, unit, inverse, out):
    """Layer norm after a ReLU, or before it; rows of H units.

    unit = (x - mean) / sqrt(variance + eps),  y = scale unit + shift

    After it: x = relu = max(z, 0), out = y. Before it: x = z, out = relu = max(y, 0).
    """
    members, units = scale.shape
    zero, one, n = z.dtype.type(0), z.dtype.type(1), z.dtype.type(units)
    images = z.shape[0] // members
    for r in range(z.shape[0]):
        c = r % members if images_first else r // images
        x, own, s, t = z[r], unit[r], scale[c], shift[c]
        if relu_first:
            x = relu[r]
            for h in range(units):
                x[h] = zero if z[r, h] <= zero else z[r, h]
        mean, squares = x.sum() / n, zero
        for h in range(units):
            own[h] = x[h] - mean
            squares += own[h] * own[h]
        inverse[r] = one / np.sqrt(squares / n + z.dtype.type(eps))
        for h in range(units):
            own[h] *= inverse[r]
            y = own[h] * s[h] + t[h]
            out[r, h] = zero if not relu_first and y <= zero else y


@_compiled
def norm_backward(d, relu, unit, inverse, scale, images_first, relu_first, out, scale_slope, shift_slope):
    """Slopes at z from those at the outputs, d, whose rows lie member by member; and those of scale and shift, (C, H).

    y = scale d,  x = (y - mean(y) - unit mean(y unit)) inverse

    Where the ReLU is 0, x (norm after it) or d (before it) becomes 0.
    """
    members, units = scale.shape
    zero, n = d.dtype.type(0), d.dtype.type(units)
    images = d.shape[0] // members
    scale_slope[:] = zero
    shift_slope[:] = zero
    for q in range(d.shape[0]):
        c, b = q // images, q % images
        r = b * members + c if images_first else q
        above, own, lit, y, s = d[q], unit[r], relu[r], out[r], scale[c]
        for_scale, for_shift = scale_slope[c], shift_slope[c]
        first, second = zero, zero
        for h in range(units):
            x = zero if not relu_first and lit[h] <= zero else above[h]
            for_scale[h] += x * own[h]
            for_shift[h] += x
            x *= s[h]
            first += x
            second += x * own[h]
            y[h] = x
        first, second = first / n, second / n
        for h in range(units):
            x = (y[h] - first - own[h] * second) * inverse[r]
            y[h] = zero if relu_first and lit[h] <= zero else x


@_compiled
def mean_magnitude(h, members, out):
    """out (k, H) <- mean of |h| over the images, of some members of h (C, B, H)."""
    for k in range(len(members)):
        total = out[k]
        total[:] = 0
        for b in range(h.shape[1]):
            for j in range(h.shape[2]):
                total[j] += abs(h[members[k], b, j])
        for j in range(h.shape[2]):
            total[j] /= h.shape[1]


@_compiled
def lowest_contributions(active, outgoing, born, before, utility, chosen):
    """Numbers of the units (H) born before an update that contribute least, to fill chosen (k).

    utility <- active (H) times the mean of a unit's |outgoing|, (O, H * positions)

    Returns how many; -1 where they tie with others; none, where the utility of such a unit is NaN.
    """
    columns = np.zeros(outgoing.shape[1], outgoing.dtype)
    for o in range(outgoing.shape[0]):
        for i in range(len(columns)):
            columns[i] += abs(outgoing[o, i])
    positions = len(columns) // len(utility)
    eligible, lost = 0, False
    for h in range(len(utility)):
        own = columns[h * positions : (h + 1) * positions].sum()
        utility[h] = active[h] * own / (positions * outgoing.shape[0])
        if born[h] < before:
            eligible += 1
            lost = lost or np.isnan(utility[h])
    taken = np.zeros(len(utility), np.bool_)
    count = 0 if lost else min(eligible, len(chosen))
    for k in range(count):
        best = -1
        for h in range(len(utility)):
            if born[h] < before and not taken[h] and (best < 0 or utility[h] < utility[best]):
                best = h
        chosen[k] = best
        taken[best] = True
    for h in range(len(utility)):
        if count and born[h] < before and not taken[h] and utility[h] <= utility[chosen[count - 1]]:
            return -1
    return count


# Constants are compiled into what is kept on disk, and Numba looks at the date of this file alone: after a change of
# those in `core`, save it anew.
_GAMMA, _MUL1, _MUL2 = np.uint64(random.GAMMA), np.uint64(random.MUL1), np.uint64(random.MUL2)
_LOW = np.uint64(0xFFFFFFFF)


@_compiled
def draw_rows(values, units, key, std, starts, rises):
    """values[units] (H, n) <- std z,  z as `core.draw.from_table` of `core.random.bits(key, entry)` has it."""
    n = values.shape[1]
    for unit in units:
        row = values[unit]
        for e in range(n):
            z = key + np.uint64(unit * n + e + 1) * _GAMMA
            z = (z ^ (z >> np.uint64(30))) * _MUL1
            z = (z ^ (z >> np.uint64(27))) * _MUL2
            z = (z ^ (z >> np.uint64(31))) & _LOW
            x = np.int32(np.uint32(z))
            place = np.float32(abs(np.float32(x))).view(np.int32)
            cell = (place >> draw.FRACTION_BITS) & (draw.CELLS - 1)
            if x < 0:
                cell |= draw.CELLS
            fraction = np.float32(place & ((1 << draw.FRACTION_BITS) - 1))
            row[e] = (starts[cell] + rises[cell] * fraction) * std


@_compiled
def fill_normals(state, values, out):
    """out <- the next numbers of `core.noise.Normals`, from the state of its SFC64, four words, which moves on."""
    a, b, c, count = state[0], state[1], state[2], state[3]
    mask = np.uint64(0xFFFF)
    whole = len(out) // 4 * 4
    for i in range(0, len(out), 4):
        word = a + b + count
        count += np.uint64(1)
        a = b ^ (b >> np.uint64(11))
        b = c + (c << np.uint64(3))
        c = ((c << np.uint64(24)) | (c >> np.uint64(40))) + word
        if i < whole:
            out[i] = values[np.int64(word & mask)]
            out[i + 1] = values[np.int64((word >> np.uint64(16)) & mask)]
            out[i + 2] = values[np.int64((word >> np.uint64(32)) & mask)]
            out[i + 3] = values[np.int64(word >> np.uint64(48))]
        else:
            for k in range(whole, len(out)):
                out[k] = values[np.int64(word & mask)]
                word >>= np.uint64(16)
    state[0], state[1], state[2], state[3] = a, b, c, count
