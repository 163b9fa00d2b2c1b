"""Normals for shrink and perturb."""

import numpy as np

from .jit import compiled


@compiled
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
