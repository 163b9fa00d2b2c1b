"""Mean magnitudes, of activations and of whole tensors.

Shapes: C members, B images, H units.
"""

from .jit import compiled

_STRETCH = 1024  # entries summed in their own precision: in float32 rounding is some 1e-6 of the sum


@compiled
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


@compiled
def add_magnitudes(w, totals):
    """totals (C) <- totals + sum of |w| over all entries of a member, (C, n); totals in float64."""
    for c in range(w.shape[0]):
        for start in range(0, w.shape[1], _STRETCH):
            stretch, total = w[c, start : start + _STRETCH], w.dtype.type(0)
            for e in range(len(stretch)):
                total += abs(stretch[e])
            totals[c] += total
