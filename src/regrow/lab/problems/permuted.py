"""Permuted images: a task is a fresh random permutation of the pixels, the labels stay.

Shapes: N images, P pixels, U updates a task, B images a batch.

Permuting the pixels of every image is the same as permuting the columns of the first layer's weights, of which there
are fewer. So the images stay as they are, and a task says how to shuffle the columns.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core import random
from ...core.eager import looking_is_free
from .. import kernels
from ..data.mnist import Images

MEAN, DEVIATION = 0.1307, 0.3081
"""Of all pixels of MNIST's training images: the usual standardisation, after which no input is 0."""
_GRAIN = 16  # active pixels are rounded up to a multiple of it: matrix products are faster with whole vectors


@dataclass(frozen=True)
class Course:
    """How a task shows the images: `passes` over so many of them, each in a new random order, in batches."""

    images: int
    batch: int
    passes: int = 1

    @property
    def updates_a_task(self) -> int:
        return self.passes * (self.images // self.batch)

    @property
    def ratio(self) -> float:
        """Updates per task, divided by those of MNIST, which the paper's hyper-parameters are for."""
        return self.updates_a_task / MNIST.updates_a_task


MNIST, DIGITS = Course(images=60_000, batch=30), Course(images=1_792, batch=16, passes=2)
"""The paper's course, and the same scaled to scikit-learn's digits."""


@dataclass(frozen=True)
class Task:
    """shuffle (P): the weights' column i becomes what column shuffle[i] was; order (U, B): the images of each batch,
    labels (U, B): theirs; active_pixels (U): pixels from active_pixels[u] on are 0 in the whole batch u."""

    shuffle: Tensor
    order: Tensor
    labels: Tensor
    active_pixels: list[int]


class PermutedImages:
    """A stream of tasks for each seed; a task is a function of seed and number alone.

    Pixels are sorted, those that are active in most images first, so that pixels inactive in a whole batch are mostly
    at the end and can be left out of the product: a quarter of all on MNIST.

    Args:
        images: the images, the same for all streams.
        course: how they are shown.
        device: where they lie; there a batch is gathered.
        standardized: whether inputs are (x - 0.1307) / 0.3081, or x in [0, 1] as in the paper.

    Raises:
        ValueError: where a pass needs more images than there are.

    Example:
        >>> from regrow.lab.data.mnist import load_digits_images
        >>> problem = PermutedImages(load_digits_images(), DIGITS)
        >>> task = problem.task(seed=0, number=0)
        >>> problem.inputs(task.order[0], task.active_pixels[0]).shape[0], task.labels.shape
        (16, torch.Size([224, 16]))

    Reference:
        Goodfellow et al. 2014; Hernandez-Garcia et al. 2025, section 3.
    """

    def __init__(
        self, images: Images, course: Course, device: torch.device | str = "cpu", standardized: bool = False
    ) -> None:
        if course.images > len(images.labels):
            raise ValueError(f"a pass shows {course.images:,} images; there are only {len(images.labels):,}")
        self.course, self.standardized = course, standardized
        self._white = images.white
        # NumPy counts, takes and searches bytes several times as fast as torch.
        sort = np.argsort(-np.count_nonzero(images.pixels.numpy(), axis=0), kind="stable")
        pixels = np.take(images.pixels.numpy(), sort, axis=1)
        backwards = (pixels > 0)[:, ::-1]
        last = torch.from_numpy(np.where(backwards.any(1), pixels.shape[1] - backwards.argmax(1), 0))
        self._active_pixels = (last + _GRAIN - 1) // _GRAIN * _GRAIN  # of each image: up to its last that is not 0
        if standardized:
            self._active_pixels.fill_(pixels.shape[1])
        self._pixels, self._labels = torch.from_numpy(pixels).to(device), images.labels.to(device)
        self.classes = int(images.labels.max()) + 1
        self.device = self._pixels.device
        self._compiled = looking_is_free(self._pixels)

    @property
    def pixels(self) -> int:
        return self._pixels.shape[1]

    def task(self, seed: int, number: int) -> Task:
        """The task of a stream with this number, from 0."""
        generator = self._generator(seed, "task", number)
        shuffle = torch.randperm(self.pixels, generator=generator)
        count, shown = len(self._labels), self.course.images // self.course.batch * self.course.batch
        passes = [torch.randperm(count, generator=generator)[:shown] for _ in range(self.course.passes)]
        order = torch.cat(passes).view(-1, self.course.batch)
        active_pixels = self._active_pixels[order].amax(1).clamp(max=self.pixels).tolist()
        order = order.to(self.device)
        return Task(shuffle.to(self.device), order, self._labels[order], active_pixels)

    def inputs(self, order: Tensor, active_pixels: int) -> Tensor:
        """These images, (B, active_pixels), in [0, 1], or standardized."""
        active_pixels = min(active_pixels, self.pixels)
        if self._compiled:
            out = np.empty((len(order), active_pixels), np.float32)
            kernels.take_images(self._pixels.numpy(), order.numpy(), np.float32(self._white), out)
            return self._standard(torch.from_numpy(out))
        shown = self._pixels.index_select(0, order)[:, :active_pixels].contiguous()  # bytes still: little to copy
        return self._standard(shown.float().div_(self._white))

    def _standard(self, x: Tensor) -> Tensor:
        return x.sub_(MEAN).div_(DEVIATION) if self.standardized else x

    def probe(self, seed: int, number: int, count: int = 1500) -> Tensor:
        """Inputs (count, P) of random images, to measure on; drawn independently of the stream."""
        order = torch.randperm(len(self._labels), generator=self._generator(seed, "probe", number))[:count]
        return self.inputs(order.to(self.device), self.pixels)

    @staticmethod
    def _generator(seed: int, purpose: str, number: int) -> torch.Generator:
        key = random.key(seed, "permuted", purpose, number)
        assert isinstance(key, int)
        return torch.Generator().manual_seed(key)
