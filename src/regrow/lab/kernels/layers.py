"""What follows a layer's matrix product: bias, layer norm, ReLU; forward and backward.

Shapes: C members, B images, H units. C x B rows of units lie member by member or, where `images_first`, image by image,
as those of the first layer do.
"""

import numpy as np

from .jit import compiled


@compiled
def relu_forward(z, bias, images_first):
    """z <- max(z + bias, 0); rows of H units, bias (C, H)."""
    members, units = bias.shape
    zero, images = z.dtype.type(0), z.shape[0] // members
    for r in range(z.shape[0]):
        x, shift = z[r], bias[r % members if images_first else r // images]
        for h in range(units):
            y = x[h] + shift[h]
            x[h] = zero if y <= zero else y


@compiled
def relu_backward(d, relu, images_first, by_image, bias_grad):
    """d, the gradient at the ReLU's outputs, member by member, becomes that at z; bias_grad (C, H) that of the bias.

    Where `images_first`, by_image <- d, image by image.
    """
    members, units = bias_grad.shape
    zero, images = d.dtype.type(0), d.shape[0] // members
    bias_grad[:] = zero
    for q in range(d.shape[0]):
        c, b = q // images, q % images
        r = b * members + c if images_first else q
        y, lit, total = d[q], relu[r], bias_grad[c]
        for h in range(units):
            x = zero if lit[h] <= zero else y[h]
            y[h] = x
            total[h] += x
        if images_first:
            by_image[r] = y


@compiled
def norm_forward(z, bias, scale, shift, eps, images_first, relu_first, unit, inverse, out):
    """Layer norm after a ReLU, or before it; rows of H units.

    unit = (x - mean) / sqrt(variance + eps),  y = scale unit + shift

    After it: x = max(z + bias, 0), out = y. Before it: x = z + bias, out = max(y, 0). z becomes x.
    """
    members, units = scale.shape
    zero, one, n = z.dtype.type(0), z.dtype.type(1), z.dtype.type(units)
    images = z.shape[0] // members
    for r in range(z.shape[0]):
        c = r % members if images_first else r // images
        x, own, s, t, added = z[r], unit[r], scale[c], shift[c], bias[c]
        for h in range(units):
            y = x[h] + added[h]
            x[h] = zero if relu_first and y <= zero else y
        mean, squares = x.sum() / n, zero
        for h in range(units):
            own[h] = x[h] - mean
            squares += own[h] * own[h]
        inverse[r] = one / np.sqrt(squares / n + z.dtype.type(eps))
        for h in range(units):
            own[h] *= inverse[r]
            y = own[h] * s[h] + t[h]
            out[r, h] = zero if not relu_first and y <= zero else y


@compiled
def norm_backward(d, relu, unit, inverse, scale, images_first, relu_first, by_image, bias_grad, scale_grad, shift_grad):
    """d, the gradient at the outputs, member by member, becomes that at z; the others, (C, H), those of the parameters.

    y = scale d,  x = (y - mean(y) - unit mean(y unit)) inverse

    Where the ReLU is 0, x (norm after it) or d (before it) becomes 0. Where `images_first`, by_image <- x, by image.
    """
    members, units = scale.shape
    zero, n = d.dtype.type(0), d.dtype.type(units)
    images = d.shape[0] // members
    bias_grad[:] = zero
    scale_grad[:] = zero
    shift_grad[:] = zero
    for q in range(d.shape[0]):
        c, b = q // images, q % images
        r = b * members + c if images_first else q
        y, own, lit, s = d[q], unit[r], relu[r], scale[c]
        for_bias, for_scale, for_shift = bias_grad[c], scale_grad[c], shift_grad[c]
        first, second = zero, zero
        for h in range(units):
            x = zero if not relu_first and lit[h] <= zero else y[h]
            for_scale[h] += x * own[h]
            for_shift[h] += x
            x *= s[h]
            first += x
            second += x * own[h]
            y[h] = x
        first, second = first / n, second / n
        for h in range(units):
            x = (y[h] - first - own[h] * second) * inverse[r]
            x = zero if relu_first and lit[h] <= zero else x
            y[h] = x
            for_bias[h] += x
        if images_first:
            by_image[r] = y
