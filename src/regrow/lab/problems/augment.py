"""Training images of CIFAR-100 as the paper varies them: normalised, flipped, cropped and rotated, a batch at once.

Shapes: * any leading axes, usually B images a batch.

The three moves only move pixels, so they are one gather: an output pixel is followed back through the rotation, the
crop of the padded image and the flip to the pixel that it shows. Only the rotation leaves some that show nothing.

The drawn angles are multiples of 15 * 2**-24 degrees. For none of them does a point that the rotation looks up come
nearer than 5e-11 pixels to the middle between two pixels, and float64 places it to 1e-14. So there is no tie to
break, and every device and compiler finds the same pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)  # of red, green and blue
SIDE, PADDING, DEGREES = 32, 4, 15.0
_OFFSETS = 2 * PADDING + 1


class Moves(NamedTuple):
    """What is done to each image, in tensors of shape (*).

    flip: bool, left and right are exchanged.
    top, left: int64 in [0, 8], where the crop begins in the image padded by 4 pixels; 4 and 4 leave it as it was.
    angle: float64, degrees counter-clockwise.
    """

    flip: Tensor
    top: Tensor
    left: Tensor
    angle: Tensor


def moves(words: Tensor) -> Moves:
    """The moves that random words stand for: a flip of half the images, any crop, an angle uniform in [0, 15) degrees.

    angle = 15 * 2**-24 * (bits 40 to 63),  flip = bit 39,  9 * top + left = floor(81 * 2**-32 * (bits 0 to 31))

    Args:
        words: int64 of shape (*), from `regrow.core.random.bits`, one for each image.

    Returns:
        `Moves` of shape (*).

    Example:
        >>> from regrow.core import random
        >>> moves(random.bits(0, torch.arange(2))).left
        tensor([2, 6])

    Reference:
        Hernandez-Garcia et al. 2025, section 5.
    """
    place = (words & 0xFFFFFFFF) * _OFFSETS**2 >> 32
    angle = (words >> 40 & 0xFFFFFF).double() * (DEGREES * 2.0**-24)
    return Moves((words >> 39 & 1).bool(), place // _OFFSETS, place % _OFFSETS, angle)


def normalise(pixels: Tensor) -> Tensor:
    """Images whose channels have mean 0 and variance 1 over the training set.

    x = (pixels / 255 - mean) / std

    Args:
        pixels: uint8 of shape (*, 3, 32, 32).

    Returns:
        float32 of the same shape.

    Example:
        >>> normalise(torch.full((3, 32, 32), 255, dtype=torch.uint8))[:, 0, 0]
        tensor([1.8440, 2.0027, 2.0243])
    """
    x = pixels.float().div_(255)
    for channel, mean, std in zip(x.unbind(-3), MEAN, STD, strict=True):
        channel.sub_(mean).div_(std)
    return x


def augment(images: Tensor, moves: Moves) -> Tensor:
    """Flip, then crop from the image padded by reflection, then rotate about the centre, to the nearest pixel.

    out(row, column) = image(mirror(y + top - 4), flip(mirror(x + left - 4))) where (y, x) = round(R(row, column)) is
    inside, else 0;  R turns by the angle;  mirror(p) = 31 - |31 - |p||;  flip(x) = 31 - x for the flipped

    Args:
        images: float of shape (*, 3, 32, 32), normalised, so that what the rotation uncovers is of mean colour.
        moves: of shape (*), on the device of the images.

    Returns:
        Images of the same shape and type.

    Example:
        >>> images, still = torch.rand(1, 3, 32, 32), torch.tensor([4])
        >>> flipped = augment(images, Moves(torch.tensor([True]), still, still, torch.zeros(1).double()))
        >>> torch.equal(flipped, images.flip(-1))
        True

    Reference:
        Hernandez-Garcia et al. 2025, section 5; torchvision's RandomHorizontalFlip, RandomCrop and RandomRotation.
    """
    y, x = _looked_up(moves.angle)
    outside = (y | x).bitwise_and_(-SIDE) != 0  # any bit but the lowest five, the sign's among them
    y, x = _mirror(y, moves.top), _mirror(x, moves.left)
    x.bitwise_xor_((moves.flip.int() * (SIDE - 1))[..., None, None])  # 31 - x inverts its five bits
    source = y.mul_(SIDE).add_(x).long().flatten(-2).unsqueeze(-2)
    sampled = images.flatten(-2).gather(-1, source.expand(*images.shape[:-2], -1)).view(images.shape)
    return sampled.masked_fill_(outside.unsqueeze(-3), 0)


def _looked_up(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column, int32 (*, 32, 32), where a rotation takes each pixel from; some are outside the image.

    row = round(cos * y + sin * x),  column = round(cos * x - sin * y),  x to the right and y down from the centre
    """
    turn = (angle * (math.pi / 180))[..., None]
    along = torch.arange(SIDE, device=angle.device).double() - (SIDE - 1) / 2
    cos, sin = turn.cos() * along + SIDE / 2, turn.sin() * along  # from the centre to the corner, and 1/2 to round
    return _rounded(cos[..., :, None] + sin[..., None, :]), _rounded(cos[..., None, :] - sin[..., :, None])


def _rounded(place: Tensor) -> Tensor:
    return place.floor_().int()


# In place: on a CPU, fresh memory costs more than the arithmetic.


def _mirror(at: Tensor, offset: Tensor) -> Tensor:
    """Where in the image is what the crop shows at this row (or column): the padding mirrors it about its edges."""
    at.add_((offset - PADDING).int()[..., None, None])
    return at.abs_().neg_().add_(SIDE - 1).abs_().neg_().add_(SIDE - 1)
