"""Taking the images of a batch."""

import numpy as np

from .jit import compiled


@compiled
def take_images(pixels, order, white, out):
    """out (B, P) <- pixels[order] / white, of the first P of all pixels (N, all)."""
    for b in range(out.shape[0]):
        image = pixels[order[b]]
        for p in range(out.shape[1]):
            out[b, p] = np.float32(image[p]) / white
