"""Softmax and cross-entropy, before and after the exponential, which NumPy vectorizes.

Shapes: C members, O classes, B images.
"""

import numpy as np

from .jit import compiled


@compiled
def shift_logits(z, labels, own, right):
    """z (C, O, B) <- z - max over classes; own (C, B) <- that of the label; right (C) <- images that argmax has right.

    As torch's argmax, the first largest counts, and NaN as larger than all.
    """
    classes, images = z.shape[1:]
    best, place = np.empty(images, z.dtype), np.empty(images, np.int64)
    for c in range(z.shape[0]):
        best[:] = z[c, 0]
        place[:] = 0
        for o in range(1, classes):
            row = z[c, o]
            for b in range(images):
                larger = row[b] > best[b] or (np.isnan(row[b]) and not np.isnan(best[b]))
                best[b] = row[b] if larger else best[b]
                place[b] = o if larger else place[b]
        for o in range(classes):
            row = z[c, o]
            for b in range(images):
                row[b] -= best[b]
        right[c] = 0
        for b in range(images):
            own[c, b] = z[c, labels[b], b]
            right[c] += place[b] == labels[b]


@compiled
def softmax_grad(e, own, labels, scale, loss):
    """e (C, O, B), exp of shifted logits, becomes scale * (softmax - targets) / B; loss (C) of shifted labels own."""
    classes, images = e.shape[1:]
    zero, one, n = e.dtype.type(0), e.dtype.type(1), e.dtype.type(images)
    sums = np.empty(images, e.dtype)
    for c in range(e.shape[0]):
        sums[:] = zero
        for o in range(classes):
            for b in range(images):
                sums[b] += e[c, o, b]
        total = zero
        for b in range(images):
            total += np.log(sums[b]) - own[c, b]
        loss[c] = total / n
        for o in range(classes):
            for b in range(images):
                y = e[c, o, b] / sums[b] - (one if labels[b] == o else zero)
                e[c, o, b] = scale[c] / n * y
