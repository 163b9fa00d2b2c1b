"""How fast are CIFAR-100's training batches made? Whole batches in tensor operations against image after image.

    python benchmarks/augment.py [--pairs 31] [--json FILE]

Both sides start from the uint8 images in memory and end with a batch of 90, normalised, flipped, cropped and rotated,
in float32; both draw their random numbers. The loop does to each image what torchvision's operations on tensors do,
without their checks, and is spared a data loader's worker processes. The two alternate in one process with one
thread; medians, since machines drift.
"""

import argparse
import math
from pathlib import Path

import torch
from timing import Rows, compare, tell
from torch import Tensor
from torch.nn import functional as F

from regrow.core import random
from regrow.lab.problems.augment import MEAN, STD, augment, moves, normalise

BATCH, IMAGES = 90, 5000
MEAN_OF, STD_OF = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)


def one_image(pixels: Tensor, flip: Tensor, top: Tensor, left: Tensor, angle: Tensor) -> Tensor:
    """The pixels (3, 32, 32) of one image, normalised and moved, one operation after the other."""
    image = pixels.float().div_(255).sub_(MEAN_OF).div_(STD_OF)
    if flip:
        image = image.flip(-1)
    row, column = int(top), int(left)
    image = F.pad(image[None], (4, 4, 4, 4), mode="reflect")[..., row : row + 32, column : column + 32]
    turn = math.radians(float(angle))
    inverse = [[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]]
    grid = F.affine_grid(torch.tensor([inverse]), [1, 3, 32, 32], align_corners=False)
    return F.grid_sample(image, grid, mode="nearest", padding_mode="zeros", align_corners=False)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    order = torch.randperm(IMAGES, generator=generator)[:BATCH]
    key = random.key(0, "augment")

    def batched() -> Tensor:
        words = random.bits(key, torch.arange(BATCH))
        return augment(normalise(images.index_select(0, order)), moves(words))

    def looped() -> Tensor:
        made = []
        for index in order:
            flip, top, left = torch.rand(()) < 0.5, torch.randint(9, ()), torch.randint(9, ())
            made.append(one_image(images[index], flip, top, left, 15 * torch.rand(())))
        return torch.stack(made)

    row = compare(batched, looped, arguments.pairs)
    row |= {"images_a_second": 1e3 * BATCH / row["ours_ms"], "theirs_a_second": 1e3 * BATCH / row["theirs_ms"]}
    rows: Rows = {f"a batch of {BATCH}, at once / image after image": row}
    tell(rows, "python benchmarks/augment.py", arguments.json)


if __name__ == "__main__":
    main()
