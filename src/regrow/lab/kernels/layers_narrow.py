"""What `layers.py` does, for narrow layers, where images come last; without a norm.

Shapes: C members, B images, H units; N = C x H units of all members, whose rows are the batch.
"""

from .jit import compiled


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


@compiled
def relu_first_narrow(z, bias, out):
    """out (N, B) <- max(z + bias, 0) of z (B, N), where the first layer leaves it."""
    zero = z.dtype.type(0)
    for n in range(z.shape[1]):
        row, shift = out[n], bias[n]
        for b in range(z.shape[0]):
            y = z[b, n] + shift
            row[b] = zero if y <= zero else y


@compiled
def relu_rows_backward(d, relu, bias_grad):
    """d (N, B), the gradient at the ReLU's outputs, becomes that at z; bias_grad (N) that of the bias."""
    zero = d.dtype.type(0)
    for n in range(d.shape[0]):
        row, lit, total = d[n], relu[n], zero
        for b in range(d.shape[1]):
            x = zero if lit[b] <= zero else row[b]
            row[b] = x
            total += x
        bias_grad[n] = total
