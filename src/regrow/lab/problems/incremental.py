"""Class-incremental CIFAR-100: a task adds classes, in an order of the seed, to those that are shown already.

Shapes: N images, C classes seen, U updates an epoch, B images a batch, * any axes.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ... import check
from ...core import random
from ..data.cifar import LabelledImages
from .augment import SIDE, augment, moves, normalise

CLASSES, BATCH, VALIDATION = 100, 90, 50
_SHAPE = (3, SIDE, SIDE)


@dataclass(frozen=True)
class Task:
    """What a task shows: classes (C), int64, in the order they came; seen (100), bool, the same as a mask; train,
    validation, test (N), int64, which images they are: one class after the other, each in file order."""

    classes: Tensor
    seen: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor


class ClassIncremental:
    """A stream of tasks, each showing the classes of the last and `classes_a_task` new ones.

    Of the training images of each class, the first 50 are for validation. The order of the classes and of the images,
    and how these are varied, are functions of seed, task and epoch alone. Images are numbered through: the training
    set's in file order, then the test set's. Labels are the data set's own.

    Args:
        train, test: the two sets, from `load_cifar100`; each must hold equally many images of each of 100 classes.
        seed: of the stream, at least 0.
        classes_a_task: divides 100.
        images_per_class: training images of each class, the first after those for validation; None: all. Validation
            and test stay whole.
        device: where the images lie and batches are made; there they take 184 MB.

    Raises:
        TypeError, ValueError: for other values, or where the first task's images fill no batch of 90.

    Example:
        >>> labels = torch.arange(100).repeat_interleave(70)
        >>> images = LabelledImages(torch.zeros(7000, 3, 32, 32, dtype=torch.uint8), labels)
        >>> problem = ClassIncremental(images, images, seed=0, classes_a_task=10)
        >>> order, words = problem.epoch(1, 0), problem.words(1, 0)
        >>> x, y = problem.batch(order[0], words[0])
        >>> order.shape, x.shape, y.shape
        (torch.Size([4, 90]), torch.Size([90, 3, 32, 32]), torch.Size([90]))

    Reference:
        Hernandez-Garcia et al. 2025, section 5.
    """

    def __init__(
        self,
        train: LabelledImages,
        test: LabelledImages,
        *,
        seed: int,
        classes_a_task: int = 5,
        images_per_class: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.classes_a_task = check.whole("classes_a_task", classes_a_task, 1, "new classes in each task")
        if CLASSES % self.classes_a_task:
            divisors = ", ".join(str(n) for n in range(1, CLASSES + 1) if CLASSES % n == 0)
            raise ValueError(f"`classes_a_task` must divide {CLASSES}; got {classes_a_task}: give one of {divisors}")
        rows, tests = _by_class("train", train, VALIDATION + 1), _by_class("test", test, 1)
        self.images_per_class = _shown(images_per_class, rows.shape[1] - VALIDATION, self.classes_a_task)
        kept = rows[:, VALIDATION : VALIDATION + self.images_per_class]
        splits = (kept, rows[:, :VALIDATION], tests + len(train.labels))
        self._splits = tuple(split.to(device) for split in splits)  # each (100, N)
        self._pixels = torch.cat([train.pixels, test.pixels]).to(device)
        self._labels = torch.cat([train.labels, test.labels]).long().to(device)
        self.device = self._pixels.device
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        self.seed = check.whole("seed", seed, 0, "it decides the order of classes and images")
        self.class_order = self._shuffled(CLASSES, "classes")

    def with_seed(self, seed: int) -> "ClassIncremental":
        """The stream of another seed, which shares the images."""
        other = copy.copy(self)
        other._begin(seed)
        return other

    @property
    def tasks(self) -> int:
        return CLASSES // self.classes_a_task

    def updates(self, k: int) -> int:
        """Batches of an epoch of task k, from 0: 25 (k + 1) in the paper."""
        return self._count(k) * self.images_per_class // BATCH

    def task(self, k: int) -> Task:
        """Task k, from 0."""
        classes = self.class_order[: self._count(k)]
        seen = torch.zeros(CLASSES, dtype=torch.bool, device=self.device)
        seen[classes] = True
        return Task(classes, seen, *(split[classes].flatten() for split in self._splits))

    def epoch(self, k: int, epoch: int) -> Tensor:
        """Which images an epoch of task k shows, int64 (U, 90), in a random order.

        What does not fill a batch is left out: other images in every epoch, and none in the paper's course.
        """
        train = self.task(k).train
        order = train[self._shuffled(len(train), "images", k, epoch)]
        return order[: self.updates(k) * BATCH].view(-1, BATCH)

    def words(self, k: int, epoch: int) -> Tensor:
        """The random words that vary the images of `epoch`, int64 (U, 90)."""
        return self._words(self.updates(k) * BATCH, "augment", k, epoch).view(-1, BATCH)

    def batch(self, indices: Tensor, words: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images, normalised, and their labels.

        Tensor operations alone: it may be compiled, or captured as a CUDA graph.

        Args:
            indices: int64 of shape (*): rows of `epoch`, or parts of a task's train, validation or test.
            words: int64 of shape (*), the same rows of `words`; None: the images as they are, to evaluate on.

        Returns:
            float32 of shape (*, 3, 32, 32), and int64 of shape (*), in [0, 100).
        """
        flat = indices.flatten()
        x = normalise(self._pixels.index_select(0, flat).view(*indices.shape, *_SHAPE))
        y = self._labels.index_select(0, flat).view(indices.shape)
        return (x if words is None else augment(x, moves(words))), y

    def evaluation(self, indices: Tensor, size: int = 250) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of these images without augmentation, in order; 250 divides the paper's counts."""
        return (self.batch(part) for part in indices.split(size))

    def _count(self, k: int) -> int:
        """Classes that task k shows."""
        if check.whole("k", k, 0, "a task's number") >= self.tasks:
            raise ValueError(f"`k` must be below {self.tasks}, the number of tasks; got {k}: count from 0")
        return (k + 1) * self.classes_a_task

    def _shuffled(self, count: int, *what: int | str) -> Tensor:
        """A permutation: the ranks of random words, all different for one key."""
        return self._words(count, *what).argsort()

    def _words(self, count: int, *what: int | str) -> Tensor:
        return random.bits(random.key(self.seed, "incremental", *what), torch.arange(count, device=self.device))


def seen_logits(logits: Tensor, seen: Tensor) -> Tensor:
    """Logits of which only those of the classes seen so far count: neither loss, arg max nor gradient sees the rest.

    out = logits where seen, else -inf

    Args:
        logits: of shape (*, 100).
        seen: bool of shape (100).

    Returns:
        A tensor of the same shape. The gradient of the unseen is exactly 0. For `cross_entropy` with class numbers:
        with probabilities, or smoothed labels, 0 * inf would be NaN.

    Example:
        >>> seen_logits(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, True, False])).argmax()
        tensor(1)
    """
    return logits.masked_fill(~seen, -math.inf)


def _by_class(name: str, images: LabelledImages, least: int) -> Tensor:
    """Row numbers of each class's images in file order, int64 (100, N)."""
    pixels, labels = images
    if pixels.dtype != torch.uint8 or tuple(pixels.shape) != (len(labels), *_SHAPE):
        got = f"{pixels.dtype} of {tuple(pixels.shape)} for {len(labels)} labels"
        raise ValueError(f"`{name}` must hold uint8 pixels (N, 3, 32, 32) and N labels; got {got}: see load_cifar100")
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high >= CLASSES:
        raise ValueError(f"`{name}` must have labels 0 to {CLASSES - 1}; got {low} to {high}: give the fine labels")
    counts = labels.bincount(minlength=CLASSES)
    fewest, most = int(counts.min()), int(counts.max())
    if not least <= fewest == most:
        got = f"from {fewest} (class {int(counts.argmin())}) to {most} (class {int(counts.argmax())})"
        rule = f"must hold equally many images of each of {CLASSES} classes, at least {least}"
        raise ValueError(f"`{name}` {rule}; got {got}: see load_cifar100")
    return labels.argsort(stable=True).view(CLASSES, -1).cpu()


def _shown(images_per_class: int | None, most: int, classes_a_task: int) -> int:
    """How many training images of each class are shown, checked."""
    least = -(-BATCH // classes_a_task)
    shown = most if images_per_class is None else images_per_class
    why = f"the first {classes_a_task} classes must fill a batch of {BATCH}"
    if check.whole("images_per_class", shown, least, why) > most:
        raise ValueError(
            f"`images_per_class` must be at most {most} (what {VALIDATION} for validation leave of each class); "
            f"got {shown}: give fewer, or None for all"
        )
    return int(shown)
