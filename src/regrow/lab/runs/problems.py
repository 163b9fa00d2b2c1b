"""The problems of the studies, permuted images and classes of CIFAR-100: everything the commands need of either."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from ... import check
from ..data.cifar import load_cifar100
from ..data.errors import checksums, verify
from ..data.mnist import Images, data_folder, default_folder, load_digits_images, load_mnist, mnist_folder
from ..mlp.trainer import Course, Trainer, course_for
from ..problems.incremental import BATCH, CLASSES
from ..problems.permuted import PermutedImages
from ..studies import VIT_SETTINGS, StackPlan, ViTSetting, packing, vit_values
from ..vit.job import CLASSES_A_TASK, ViTMaker, check_run, classes_a_task, updates
from ..vit.matching import matched
from ..vit.options import PAPERS_IMAGES, Options
from .columns import RESULTS, VIT_SCHEMAS, Schema

OWN = {
    "permuted": ("ln_position", "units_read", "equal_share", "pixels"),
    "vit": ("optimizer", *(field.name for field in dataclasses.fields(Options))),
}
"""Options of a run that only one kind of study has."""


def is_vit(settings: Sequence[str]) -> bool:
    """Whether the settings, all of one study, are vision transformers."""
    return settings[0] in VIT_SETTINGS


def device(option: str) -> str:
    """The device that `--device` "auto", "cpu" or "cuda" stands for.

    Raises:
        ValueError: for "cuda" where there is none.
    """
    available = torch.cuda.is_available()
    if option == "cuda" and not available:
        raise ValueError("`--device cuda` needs a CUDA device and a CUDA build of torch; got neither: use --device cpu")
    return "cuda" if available and option != "cpu" else "cpu"


class Problem(Protocol):
    """What the networks of a run learn."""

    schemas: ClassVar[Mapping[str, Schema]]
    """Of the stored tables."""

    @property
    def device(self) -> str:
        """ "cpu" or "cuda"."""
        ...

    @property
    def make(self) -> "PermutedMaker | ViTMaker":
        """Makes the trainers."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The options of this kind of study that decide the results, as JSON."""
        ...

    def pack(self, *run: Any, **more: Any) -> list[StackPlan]:
        """The stacks of a study, settings, systems and seeds, see `regrow.lab.studies.packing.pack`."""
        ...

    def tasks(self, plans: Sequence[StackPlan], wanted: int) -> int:
        """The number of tasks to run: as many as wanted, or as many as there are."""
        ...

    def check(self, plans: Sequence[StackPlan], tasks: int) -> None:
        """Refuse what cannot be trained, before images are read."""
        ...

    def updates(self, plans: Sequence[StackPlan], tasks: int) -> int:
        """Of each network in all tasks."""
        ...

    def data(self) -> dict[str, str]:
        """Read the images; returns their name and checksum."""
        ...


# Permuted images.


@dataclass(frozen=True)
class PermutedMaker:
    """Makes the trainers of a run on permuted images, in any process and on any machine.

    folder: absolute, holds MNIST; None: the embedded digits. checksums: of the images, verified where they are read.
    """

    folder: Path | None
    device: str = "cpu"
    measure_every: int = 20
    checksums: tuple[tuple[str, str], ...] = ()

    def __call__(self, plan: StackPlan, progress: Callable[[int], None] | None = None) -> Trainer:
        problem = _problem(self.folder, self.device, self.checksums, plan.standardized)
        return Trainer(plan, problem, measure_every=self.measure_every, progress=progress)


@functools.cache
def _problem(
    folder: Path | None, device: str, expected: tuple[tuple[str, str], ...], standardized: bool
) -> PermutedImages:
    images = _images(folder)
    verify(dict(expected), images.pixels, images.labels, folder or "scikit-learn")
    return PermutedImages(images, course_for(images), device, standardized)


@functools.cache
def _images(folder: Path | None) -> Images:
    return load_digits_images() if folder is None else load_mnist(folder)[0]


@dataclass(frozen=True)
class PermutedJob:
    """Studies on permuted images: MNIST if present, else the embedded digits.

    folder: the value of `--data`. The others are options of `regrow run`.
    """

    folder: Path | None = None
    device: str = "cpu"
    measure_every: int = 20
    ln_position: str = "after"
    units_read: str = "before"
    equal_share: bool = False
    pixels: str = "raw"
    schemas: ClassVar[Mapping[str, Schema]] = {"results": RESULTS}

    @property
    def make(self) -> PermutedMaker:
        checksums = tuple(self.checksums.items())
        return PermutedMaker(self.source, self.device, self.measure_every, checksums)

    @property
    def config(self) -> dict[str, Any]:
        usual = {"equal_share": False, "pixels": "raw"}  # left out, as in folders from before there was a choice
        unusual = {name: value for name, plain in usual.items() if (value := getattr(self, name)) != plain}
        return {"ln_position": self.ln_position, "units_read": self.units_read} | unusual

    @property
    def course(self) -> Course:
        return course_for(_images(self.source))

    @functools.cached_property
    def source(self) -> Path | None:
        """Where MNIST is; None: the embedded digits."""
        return mnist_folder(self.folder)

    @property
    def checksums(self) -> dict[str, str]:
        images = _images(self.source)
        return checksums(images.pixels, images.labels)

    def pack(self, *run: Any, **more: Any) -> list[StackPlan]:
        return packing.pack(*run, **more, ratio=self.course.ratio, **self.config)

    def tasks(self, plans: Sequence[StackPlan], wanted: int) -> int:
        del plans
        return wanted

    def check(self, plans: Sequence[StackPlan], tasks: int) -> None:
        del plans
        check.whole("tasks", tasks, 1, "of each network")

    def updates(self, plans: Sequence[StackPlan], tasks: int) -> int:
        del plans
        return tasks * self.course.updates_a_task

    def data(self) -> dict[str, str]:
        return {"data": "mnist" if self.source else "digits"} | self.checksums


# Classes of CIFAR-100.


@dataclass(frozen=True)
class ViTJob:
    """The study of vision transformers on CIFAR-100.

    folder: the value of `--data`. optimizer: of `vit_values.OPTIMIZERS`. options: size, length, precision. wanted:
    tasks, None for all.

    Raises:
        TypeError, ValueError: for options that the device does not support or the images do not suffice for.
    """

    folder: Path | None = None
    device: str = "cpu"
    measure_every: int = 20
    optimizer: str = "authors"
    options: Options = Options()
    wanted: int | None = None
    schemas: ClassVar[Mapping[str, Schema]] = VIT_SCHEMAS

    def __post_init__(self) -> None:
        self.options.check_device(torch.device(self.device))
        images, least = self.options.images_per_class, -(-BATCH // CLASSES_A_TASK)
        why = f"the first {CLASSES_A_TASK} classes must fill a batch of {BATCH}"
        if images is not None and check.whole("images_per_class", images, least, why) > PAPERS_IMAGES:
            raise ValueError(f"`images_per_class` must be at most {PAPERS_IMAGES}; got {images}: leave it out for all")

    @property
    def make(self) -> ViTMaker:
        return ViTMaker(
            self._folder(), self.options, self.device, self.measure_every, tuple(_cifar(self._folder()).items())
        )

    @property
    def config(self) -> dict[str, Any]:
        clip_at = self.options.clip_at
        finite = {"clip_at": clip_at if math.isfinite(clip_at) else None}  # JSON knows no infinity
        config = {"optimizer": self.optimizer} | dataclasses.asdict(self.options) | finite
        return config if self.options.matched else {k: v for k, v in config.items() if k != "matched"}

    def pack(self, *run: Any, **more: Any) -> list[StackPlan]:
        if self.options.matched and (more.get("sweep") or more.get("best")):
            raise ValueError("`matched` changes the paper's chosen values; got it with other values: leave one out")
        plans = packing.pack(*run, **more, ratio=self.options.ratio(), optimizer=self.optimizer)
        if not self.options.matched:
            return plans
        tasks = self.tasks(plans, CLASSES if self.wanted is None else self.wanted)
        return [self._matched(plan, tasks) for plan in plans]

    def _matched(self, plan: StackPlan, tasks: int) -> StackPlan:
        assert isinstance(plan.setting, ViTSetting)
        (member,) = plan.members
        paper = vit_values.chosen(plan.setting.name, member.system, self.optimizer)
        config = matched(member.config, paper, plan.setting.scaled, self.options, tasks)
        return dataclasses.replace(plan, members=(dataclasses.replace(member, config=config),))

    def tasks(self, plans: Sequence[StackPlan], wanted: int) -> int:
        return min(wanted, *(CLASSES // classes_a_task(plan) for plan in plans))

    def check(self, plans: Sequence[StackPlan], tasks: int) -> None:
        check_run(plans, tasks, self.options, self.device)

    def updates(self, plans: Sequence[StackPlan], tasks: int) -> int:
        return sum(updates(plans[0], self.options, k) for k in range(tasks))  # equal for all stacks

    def data(self) -> dict[str, str]:
        return {"data": "cifar100"} | _cifar(self._folder())

    def _folder(self) -> Path:
        folder = data_folder(self.folder) or default_folder()
        if folder is None:
            raise FileNotFoundError(
                "CIFAR-100 is missing, and there is no home folder to search: name a folder with --data"
            )
        return folder.absolute()


@functools.cache
def _cifar(folder: Path) -> dict[str, str]:
    train, test = load_cifar100(folder)
    return checksums(*train) | checksums(*test, "test_")
