"""The inner loops of a stack on a CPU, compiled by Numba.

Between the matrix products of an update lie some sixty small operations. Each is a call, and a trip of what it works
on through the caches that all weights have just been through; one loop that makes several of them at once is one.
Elsewhere torch's operations do the same; tests hold the two against each other.

A loop goes through members one by one, so that what it makes of a member does not depend on the others.

Shapes: C members, B images, P pixels, H units, O outputs.
"""

from .cross_entropy import shift_logits, softmax_slope
from .images import take_images
from .jit import compiling, fit
from .layers import norm_backward, norm_forward, relu_backward, relu_forward
from .layers_narrow import add_bias, relu_rows, relu_rows_backward, relu_turning
from .magnitudes import add_magnitudes, mean_magnitude
from .noise import fill_normals
from .units import draw_rows, lowest_contributions

__all__ = [
    "add_bias",
    "add_magnitudes",
    "compiling",
    "draw_rows",
    "fill_normals",
    "fit",
    "lowest_contributions",
    "mean_magnitude",
    "norm_backward",
    "norm_forward",
    "relu_backward",
    "relu_forward",
    "relu_rows",
    "relu_rows_backward",
    "relu_turning",
    "shift_logits",
    "softmax_slope",
    "take_images",
]
