"""The inner loops of a stack on a CPU, compiled by Numba.

Between the matrix products of an update lie some sixty small operations. Each costs a call, and each reads its operands
anew, through caches that the weights have just filled. A loop does several of them in one pass. On other devices
torch's operations do the same; tests compare the two.

A loop handles members one by one, so that a member's results do not depend on the others.

Shapes: C members, B images, P pixels, H units, O outputs.
"""

from .cross_entropy import shift_logits, softmax_grad
from .images import take_images
from .jit import compiling, supports
from .layers import norm_backward, norm_forward, relu_backward, relu_forward
from .layers_narrow import (
    add_bias,
    narrow_backward,
    narrow_forward,
    narrow_norm_backward,
    narrow_norm_forward,
    narrow_outer,
    relu_rows,
)
from .magnitudes import add_magnitudes, mean_magnitude
from .noise import fill_normals
from .optimizers import adamw, sgdw
from .units import draw_rows, lowest_contributions

__all__ = [
    "adamw",
    "add_bias",
    "add_magnitudes",
    "compiling",
    "draw_rows",
    "fill_normals",
    "supports",
    "lowest_contributions",
    "mean_magnitude",
    "narrow_backward",
    "narrow_forward",
    "narrow_norm_backward",
    "narrow_norm_forward",
    "narrow_outer",
    "norm_backward",
    "norm_forward",
    "relu_backward",
    "relu_forward",
    "relu_rows",
    "sgdw",
    "shift_logits",
    "softmax_grad",
    "take_images",
]
