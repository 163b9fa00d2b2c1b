"""What `layers.py` does, for layers of few units, where images come last; their products too.

A product of ten by ten and thirty is too small for BLAS. Loops that know the number of inputs are unrolled over it, and
vectorized over images: an outer loop makes one for each number.

Shapes: C members, B images, H units, I inputs; N = C x H units of all members, whose rows are the batch.
"""

import functools
from collections.abc import Callable

import numpy as np

from .jit import compiled

Loop = Callable[..., None]


@compiled
def add_bias(z, bias):
    """z (N, B) <- z + bias (N)."""
    for n in range(z.shape[0]):
        row, shift = z[n], bias[n]
        for b in range(z.shape[1]):
            row[b] += shift


@compiled
def relu_rows(z, bias):
    """z (N, B) <- max(z + bias, 0), bias (N)."""
    zero = z.dtype.type(0)
    for n in range(z.shape[0]):
        row, shift = z[n], bias[n]
        for b in range(z.shape[1]):
            y = row[b] + shift
            row[b] = zero if y <= zero else y


@functools.cache
def narrow_forward(inputs: int, relu: bool) -> Loop:
    """z (C, H, B) <- w a + bias of w (C, H, inputs), a (C, inputs, B or more), bias (C, H); its ReLU where `relu`."""

    @compiled
    def loop(w, bias, a, z):
        zero = z.dtype.type(0)
        for c in range(w.shape[0]):
            own = a[c]
            for h in range(w.shape[1]):
                row, weights, shift = z[c, h], w[c, h], bias[c, h]
                for b in range(z.shape[2]):
                    y = shift
                    for i in range(inputs):
                        y += weights[i] * own[i, b]
                    row[b] = zero if relu and y <= zero else y

    return loop


@functools.cache
def narrow_backward(outputs: int, relu: bool) -> Loop:
    """d (C, I, B) <- w^T g of w (C, outputs, I), g (C, outputs, B).

    Where `relu`, d becomes 0 where the layer's outputs lit (C, I, B) are, and bias_grad (C, I) its sum over images.
    """

    @compiled
    def loop(w, g, lit, d, bias_grad):
        zero = d.dtype.type(0)
        for c in range(w.shape[0]):
            own, weights = g[c], w[c]
            for i in range(w.shape[2]):
                row, active, total = d[c, i], lit[c, i], zero
                for b in range(d.shape[2]):
                    y = zero
                    for o in range(outputs):
                        y += weights[o, i] * own[o, b]
                    y = zero if relu and active[b] <= zero else y
                    row[b] = y
                    total += y
                if relu:
                    bias_grad[c, i] = total

    return loop


@compiled
def narrow_outer(out, g, a, add):
    """out (C, H, I) <- g a^T, added where `add`; g (C, H, B), a (C, I, B). Five inputs share the row of g."""
    inputs = out.shape[2]
    zero = out.dtype.type(0)
    for c in range(out.shape[0]):
        for h in range(out.shape[1]):
            row, to = g[c, h], out[c, h]
            for i in range(0, inputs - 4, 5):
                a0, a1, a2, a3, a4 = a[c, i], a[c, i + 1], a[c, i + 2], a[c, i + 3], a[c, i + 4]
                s0, s1, s2, s3, s4 = zero, zero, zero, zero, zero
                for b in range(len(row)):
                    x = row[b]
                    s0 += x * a0[b]
                    s1 += x * a1[b]
                    s2 += x * a2[b]
                    s3 += x * a3[b]
                    s4 += x * a4[b]
                to[i] = to[i] + s0 if add else s0
                to[i + 1] = to[i + 1] + s1 if add else s1
                to[i + 2] = to[i + 2] + s2 if add else s2
                to[i + 3] = to[i + 3] + s3 if add else s3
                to[i + 4] = to[i + 4] + s4 if add else s4
            for i in range(inputs // 5 * 5, inputs):
                a0, s0 = a[c, i], zero
                for b in range(len(row)):
                    s0 += row[b] * a0[b]
                to[i] = to[i] + s0 if add else s0


@compiled
def narrow_norm_forward(x, scale, shift, eps, relu_last, unit, inverse, out):
    """Layer norm over the units of x (C, H, B): out <- scale unit + shift, or its ReLU where `relu_last`.

    unit = (x - mean) inverse,  inverse = 1 / sqrt(variance + eps)
    """
    members, units, images = x.shape
    zero, one, n = x.dtype.type(0), x.dtype.type(1), x.dtype.type(units)
    mean = np.empty(images, x.dtype)
    for c in range(members):
        mean[:] = zero
        scales = inverse[c]
        scales[:] = zero
        for h in range(units):
            row = x[c, h]
            for b in range(images):
                mean[b] += row[b]
        for b in range(images):
            mean[b] /= n
        for h in range(units):
            row, own = x[c, h], unit[c, h]
            for b in range(images):
                u = row[b] - mean[b]
                own[b] = u
                scales[b] += u * u
        for b in range(images):
            scales[b] = one / np.sqrt(scales[b] / n + x.dtype.type(eps))
        for h in range(units):
            own, to, s, t = unit[c, h], out[c, h], scale[c, h], shift[c, h]
            for b in range(images):
                u = own[b] * scales[b]
                own[b] = u
                y = u * s + t
                to[b] = zero if relu_last and y <= zero else y


@compiled
def narrow_norm_backward(d, lit, unit, inverse, scale, relu_last, bias_grad, scale_grad, shift_grad):
    """d (C, H, B), the gradient at the outputs, becomes that at z; the others, (C, H), those of the parameters.

    As `norm_backward`: d becomes 0 where the ReLU's outputs, lit, are, before the norm's part where `relu_last`.
    """
    members, units, images = d.shape
    zero, n = d.dtype.type(0), d.dtype.type(units)
    first, second = np.empty(images, d.dtype), np.empty(images, d.dtype)
    for c in range(members):
        first[:] = zero
        second[:] = zero
        scales = inverse[c]
        for h in range(units):
            row, own, active, s = d[c, h], unit[c, h], lit[c, h], scale[c, h]
            for_scale, for_shift = zero, zero
            for b in range(images):
                x = zero if relu_last and active[b] <= zero else row[b]
                for_scale += x * own[b]
                for_shift += x
                x *= s
                row[b] = x
                first[b] += x
                second[b] += x * own[b]
            scale_grad[c, h] = for_scale
            shift_grad[c, h] = for_shift
        for b in range(images):
            first[b] /= n
            second[b] /= n
        for h in range(units):
            row, own, active, total = d[c, h], unit[c, h], lit[c, h], zero
            for b in range(images):
                x = (row[b] - first[b] - own[b] * second[b]) * scales[b]
                x = zero if not relu_last and active[b] <= zero else x
                row[b] = x
                total += x
            bias_grad[c, h] = total
