"""Steps of optimizers with memory: one pass over parameters, gradients and memory; each member has its own knobs.

Shapes: C members, n entries of one parameter.
"""

import numpy as np

from .jit import compiled

EPS = 1e-8


@compiled
def sgdw(w, g, buffer, keep, step_size, momentum):
    """One step of SGD with decoupled decay, in place; w, g, buffer: (C, n); the others (C).

    buffer <- momentum buffer + g,  w <- keep w - step_size buffer;  keep = 1 - decay
    """
    for c in range(w.shape[0]):
        own, grad, kept = w[c], g[c], buffer[c]
        k, a, m = keep[c], step_size[c], momentum[c]
        for i in range(len(own)):
            b = m * kept[i] + grad[i]
            kept[i] = b
            own[i] = k * own[i] - a * b


@compiled
def adamw(w, g, mean, square, keep, step_size, beta1, beta2, root):
    """One step of AdamW, in place; w, g, mean, square: (C, n); the others (C).

    mean <- mean + (1 - beta1) (g - mean),  square <- beta2 square + (1 - beta2) g^2
    w <- keep w - step_size mean / (sqrt(square) / root + 1e-8)
    keep = 1 - decay,  step_size = lr / (1 - beta1^t),  root = sqrt(1 - beta2^t)
    """
    one = w.dtype.type(1)
    for c in range(w.shape[0]):
        own, grad, first, second = w[c], g[c], mean[c], square[c]
        k, a, tiny = keep[c], step_size[c], w.dtype.type(EPS)
        b1, b2, inverse = one - beta1[c], beta2[c], one / root[c]
        for i in range(len(own)):
            x = grad[i]
            m = first[i] + b1 * (x - first[i])
            v = b2 * second[i] + (one - b2) * x * x
            first[i] = m
            second[i] = v
            own[i] = k * own[i] - a * m / (np.sqrt(v) * inverse + tiny)
