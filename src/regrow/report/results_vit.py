"""Folders of vision transformers, put together for one report.

A row does not say how large its network was, so folders of different sizes are never put together.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ..lab.runs.columns import EPOCHS
from ..lab.runs.tables import load
from ..lab.studies import VIT_SETTINGS, VIT_SYSTEMS, Member
from ..lab.studies.vit_values import OPTIMIZERS, chosen, scaled
from ..lab.vit.options import PAPERS_EPOCHS, PAPERS_IMAGES
from .notes import MATCHED, SHORT
from .results import Folder, brief, check_any, longest, same_images
from .runs import Run, Runs, Scope

TASKS = 20  # of the paper
ACCURACY = "best_test_accuracy"
STUDY = "vit-cifar"
_PAPERS = "the paper's size"
EPOCH_KEYS = ("setting", "system", "config_id", "seed", "task", "epoch")


@dataclass(frozen=True)
class Scale:
    """Size of the networks, length of a task, precision of the numbers; by default the paper's.

    clip_at: None, where no weight is clipped.
    """

    width: int = 384
    depth: int = 8
    epochs_per_task: int = PAPERS_EPOCHS
    images_per_class: int | None = None
    precision: str = "fp32"
    flush_below: float = 0.0
    clip_at: float | None = None
    matched: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Scale":
        """That of a manifest's config.

        Raises:
            ValueError: where it has what no run has.
        """
        known = {name: config[name] for name in cls.__dataclass_fields__ if name in config}
        if known.get("images_per_class") == PAPERS_IMAGES:
            known["images_per_class"] = None
        whole = [known.get(name, 1) for name in ("width", "depth", "epochs_per_task")]
        whole.append(known.get("images_per_class") or 1)
        if not all(isinstance(number, int) and number > 0 for number in whole):
            raise ValueError(f"width, depth, epochs and images must be whole numbers; got {whole}")
        return cls(**known)

    @property
    def ratio(self) -> float:
        """Updates a task divided by the paper's."""
        return self.epochs_per_task * (self.images_per_class or PAPERS_IMAGES) / (PAPERS_EPOCHS * PAPERS_IMAGES)

    @property
    def about_boundaries(self) -> str:
        """How boundaries of tasks differ from the paper's, in a sentence; empty where tasks are as long."""
        return (MATCHED if self.matched else SHORT) if self.ratio < 1 else ""

    @property
    def shrunk(self) -> tuple[str, ...]:
        """What is smaller or shorter than the paper's, in words."""
        sizes = {text: (getattr(self, name), getattr(Scale(), name)) for name, text in _NAMES.items()}
        return tuple(
            f"{text} {ours or PAPERS_IMAGES} (the paper's: {theirs or PAPERS_IMAGES})"
            for text, (ours, theirs) in sizes.items()
            if ours != theirs
        )

    @property
    def options(self) -> str:
        """The options of `regrow run` for it.

        Example:
            >>> Scale(width=96, epochs_per_task=5).options
            '--width 96 --epochs-per-task 5'
        """
        changed = {name: getattr(self, name) for name in self.__dataclass_fields__}
        changed = {name: value for name, value in changed.items() if value != getattr(Scale(), name)}
        words = {name: "" if value is True else f" {value}" for name, value in changed.items()}
        return " ".join(f"--{name.replace('_', '-')}{value}" for name, value in words.items())


_NAMES = {
    "width": "width",
    "depth": "blocks",
    "epochs_per_task": "epochs a task",
    "images_per_class": "training images a class",
}


@dataclass(frozen=True)
class ViTResults:
    """All that a report on CIFAR-100 covers.

    runs: of classes as they come, {optimizer: its runs}.
    tuning: of the base on all classes at once, {optimizer: its runs}.
    epochs: rows of the epochs' table of `runs`; empty where none are stored.
    """

    folders: tuple[Folder, ...]
    runs: Mapping[str, Runs]
    tuning: Mapping[str, Runs]
    scale: Scale
    data: str
    epochs: pl.DataFrame = field(repr=False, default_factory=pl.DataFrame)

    @property
    def optimizer(self) -> str:
        """That of the figures and claims: the authors', if there are runs with it."""
        have = [way for kind in (self.runs, self.tuning) for way in OPTIMIZERS if kind[way].settings]
        return have[0]

    @property
    def main(self) -> Runs:
        """The runs of the figures and claims."""
        return self.runs[self.optimizer]

    @property
    def tasks(self) -> int:
        """Of the longest run."""
        return max((run.tasks for runs in self.runs.values() for run in every(runs)), default=0)

    @property
    def shrunk(self) -> tuple[str, ...]:
        """What is smaller, shorter or fewer than the paper's, in words; empty at the paper's scale."""
        fewer = (f"tasks {self.tasks} (the paper's: {TASKS})",) if 0 < self.tasks < TASKS else ()
        return self.scale.shrunk + fewer

    @property
    def options(self) -> str:
        """The options of `regrow run` for more of the same."""
        way = f"--optimizer {self.optimizer}" if self.optimizer != OPTIMIZERS[0] else ""
        return " ".join(filter(None, (way, self.scale.options)))


def every(runs: Runs) -> list[Run]:
    """The runs of every system in every setting, at their chosen values."""
    return [run for s in runs.settings for system in runs.systems(s) for run in runs.main(s, system)]


def scope(optimizer: str = "authors", ratio: float = 1.0) -> Scope:
    """Class-incremental CIFAR-100.

    Args:
        optimizer: of `vit_values.OPTIMIZERS`.
        ratio: updates a task divided by the paper's: chosen values are scaled by it.
    """

    def chosen_id(setting: str, system: str) -> str:
        return Member(system, scaled(chosen(setting, system, optimizer), ratio), 0).config_id

    return Scope(tuple(VIT_SETTINGS), VIT_SYSTEMS, ACCURACY, chosen_id)


def is_vit(folder: Folder) -> bool:
    """Whether a folder is of this study."""
    return ACCURACY in folder.rows.columns


def combine(folders: Sequence[Folder]) -> ViTResults:
    """Put folders of this study together; where several hold a network, its longest series counts.

    Raises:
        ValueError: where they are of different images or sizes, or none has results that the report knows.
    """
    data = same_images(folders)
    scales = {_scale(folder): folder for folder in folders}
    if len(scales) > 1:
        listed = ", ".join(f"{folder.path} with {scale.options or _PAPERS}" for scale, folder in scales.items())
        raise ValueError(f"a report is of networks of one size; got {listed}: make one report for each")
    (scale,) = scales
    rows = longest(folders)
    tag = [_config(text) for text in rows["config"]] if "config" in rows.columns else [{}] * len(rows)
    way = pl.Series([str(config.get("optimizer", OPTIMIZERS[0])) for config in tag], dtype=pl.String)
    at_once = pl.Series(["classes_a_task" in config for config in tag], dtype=pl.Boolean)
    kinds = {each: scope(each, scale.ratio) for each in OPTIMIZERS}
    runs = {each: Runs(rows.filter((way == each) & ~at_once), kinds[each]) for each in OPTIMIZERS}
    tuning = {each: Runs(rows.filter((way == each) & at_once), kinds[each]) for each in OPTIMIZERS}
    check_any((*runs.values(), *tuning.values()), folders)
    return ViTResults(tuple(folders), runs, tuning, scale, data, _epochs([folder.path for folder in folders]))


def _scale(folder: Folder) -> Scale:
    try:
        return Scale.of(folder.config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder.path}/manifest.json is damaged ({error}): put it back") from error


def folder_options(folder: Folder) -> str:
    """The options of `regrow run` for networks of this size, with its optimizer."""
    return " ".join(filter(None, (f"--optimizer {folder.config.get('optimizer', '?')}", _scale(folder).options)))


def _config(text: str | None) -> Mapping[str, Any]:
    try:
        config = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return config if isinstance(config, dict) else {}


def _epochs(paths: Sequence[Path]) -> pl.DataFrame:
    """Rows of the epochs of all folders, each once; a folder may have none."""
    parts = []
    for path in paths:
        if any((path / "epochs").glob("*.parquet")):
            rows = load(path, "epochs")
            if all(name in rows.columns for name in (*EPOCH_KEYS, "weight_magnitude")):
                try:
                    parts.append(rows.select(pl.col(n).cast(kind) for n, kind in EPOCHS.items() if n in rows.columns))
                except pl.exceptions.PolarsError as error:
                    what = f"holds epochs that are not of a run ({brief(error)}): delete them"
                    raise ValueError(f"{path} {what}") from error
    if not parts:
        return pl.DataFrame()
    return pl.concat(parts, how="diagonal_relaxed").unique(EPOCH_KEYS, keep="first", maintain_order=True)
