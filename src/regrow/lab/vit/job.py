"""What a run needs to train vision transformers in other processes, and to refuse what cannot be run before it does."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ... import check
from ..data.cifar import load_cifar100
from ..data.errors import verify
from ..problems.incremental import BATCH, CLASSES, ClassIncremental
from ..studies import StackPlan
from .options import PAPERS_IMAGES, Options
from .trainer import ViTTrainer

CLASSES_A_TASK = 5
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's mallopt


@dataclass(frozen=True)
class ViTMaker:
    """Makes the trainers of a run, in any process. Each loads the images once.

    data: the folder that holds CIFAR-100. options: size, length, precision. device: "cpu" or "cuda". checksums: of the
    images, verified where they are read.
    """

    data: Path
    options: Options = Options()
    device: str = "cpu"
    measure_every: int = 20
    checksums: tuple[tuple[str, str], ...] = ()

    def __call__(self, plan: StackPlan, progress: Callable[[int], None] | None = None) -> ViTTrainer:
        if self.device == "cpu":
            keep_memory()
        problem = _problem(self.data, classes_a_task(plan), self.options.images_per_class, self.device, self.checksums)
        return ViTTrainer(
            plan, problem, options=self.options, measure_every=self.measure_every, progress=progress
        )  # fmt: skip


@functools.cache
def _problem(
    data: Path, classes: int, images: int | None, device: str, expected: tuple[tuple[str, str], ...]
) -> ClassIncremental:
    train, test = load_cifar100(data)
    verify(dict(expected), *train, data)
    verify(dict(expected), *test, data, "test_")
    return ClassIncremental(train, test, seed=0, classes_a_task=classes, images_per_class=images, device=device)


def classes_a_task(plan: StackPlan) -> int:
    """New classes in each task of a plan: 5, or all 100 where the base is tuned."""
    return int(plan.members[0].config.get("classes_a_task", CLASSES_A_TASK))


def check_run(plans: Sequence[StackPlan], tasks: int, options: Options, device: str) -> None:
    """Refuse what cannot be trained.

    Raises:
        TypeError, ValueError: for more tasks than there are classes for, and what the device or the images cannot do.
    """
    most = min(CLASSES // classes_a_task(plan) for plan in plans)
    if check.whole("tasks", tasks, 1, "of each network") > most:
        new = CLASSES // most
        raise ValueError(f"`tasks` must be at most {most}, for each brings {new} of {CLASSES} classes; got {tasks}")
    options.check_device(torch.device(device))


def updates(plan: StackPlan, options: Options, task: int) -> int:
    """Number of updates of a task, counted from 0: it grows with the number of classes."""
    images = options.images_per_class or PAPERS_IMAGES
    return options.epochs_per_task * ((task + 1) * classes_a_task(plan) * images // BATCH)


def keep_memory() -> None:
    """Have this process keep the memory that it has freed, where its C library is glibc.

    Activations of 30 MB are made and freed hundreds of times an update. By default each is asked from the system anew,
    which then clears it: a fifth of the time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 1 << 28)):
        mallopt(option, value)
