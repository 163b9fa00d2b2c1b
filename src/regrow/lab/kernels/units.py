"""Choosing hidden units, and drawing their weights.

Shapes: H units, O outputs.
"""

import numpy as np

from ...core import draw, random
from .jit import compiled


@compiled
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


_GAMMA, _MUL1, _MUL2 = np.uint64(random.GAMMA), np.uint64(random.MUL1), np.uint64(random.MUL2)
_LOW = np.uint64(0xFFFFFFFF)


@compiled
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
