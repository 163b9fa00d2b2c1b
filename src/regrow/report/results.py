"""Folders of results, read and put together for one report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ..lab.runs import manifest
from ..lab.runs.columns import RESULTS, VIT_RESULTS
from ..lab.runs.tables import load
from ..lab.studies import SETTINGS, SYSTEMS
from .runs import KEYS, NEEDED, STANDARDIZED, Runs

BENCH = "bench.json"
OPTIONS = {
    ("units_read", "after"): "units read after the norm",
    ("ln_position", "before"): "norm before the activation",
    ("pixels", "standardized"): STANDARDIZED,
}
"""{(key, value) of a manifest's config that is not the usual one: in words}"""
PIXELS = {"digits": 64}
_REMEDY = "give folders that `regrow run` wrote (its --out)"


@dataclass(frozen=True)
class Folder:
    """What one run has stored.

    cost: {(setting, system): milliseconds for one update of one network}, from `bench.json` if there is one.
    """

    path: Path
    manifest: Mapping[str, Any]
    rows: pl.DataFrame
    cost: Mapping[tuple[str, str], float]

    @property
    def config(self) -> Mapping[str, Any]:
        """The options of the run; empty where the manifest does not say."""
        config = self.manifest.get("config")
        return config if isinstance(config, Mapping) else {}

    @property
    def option(self) -> str:
        """How it differs from a usual run, in words; empty where it does not."""
        return ", ".join(text for (key, value), text in OPTIONS.items() if self.config.get(key) == value)

    @property
    def complete(self) -> bool:
        """Whether every network that the manifest plans has all its tasks."""
        stacks = self.manifest.get("packing", {}).get("stacks", ())
        wanted = {(s["setting"], member, s["seed"]) for s in stacks for member in s["members"]}
        last = self.config.get("tasks", 0) - 1
        done = self.rows.filter(pl.col("task") == last).select("setting", "config_id", "seed").unique()
        return bool(wanted) and wanted <= set(done.rows())


@dataclass(frozen=True)
class Results:
    """All that a report on permuted images covers.

    runs: with the usual options.
    others: {how they differ: runs}
    data: the images, by name.
    """

    folders: tuple[Folder, ...]
    runs: Runs
    others: Mapping[str, Runs]
    cost: Mapping[tuple[str, str], float]
    data: str

    @property
    def pixels(self) -> int:
        """Of an image."""
        return PIXELS.get(self.data, 784)


def read(path: Path) -> Folder:
    """What a run has stored so far.

    Raises:
        OSError: where there is no such folder, or it does not hold a run.
        ValueError: where it holds no rows yet, or files that are damaged or not of a run; one line.
    """
    content, rows = manifest.read(path), _load(path)
    missing = [name for name in NEEDED if name not in rows.columns]
    if missing:
        raise ValueError(f"{path} holds rows without {', '.join(missing)}, so not of a run: {_REMEDY}")
    try:
        schema = VIT_RESULTS if "best_test_accuracy" in rows.columns else RESULTS
        rows = rows.select(pl.col(name).cast(kind) for name, kind in schema.items() if name in rows.columns)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} holds rows that are not of a run ({brief(error)}): {_REMEDY}") from error
    return Folder(path, content, rows, _cost(path / BENCH))


def _load(path: Path) -> pl.DataFrame:
    try:
        return load(path)
    except (pl.exceptions.PolarsError, json.JSONDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds rows that are not of a run ({brief(error)}): {_REMEDY}") from error


def brief(error: Exception) -> str:
    """The beginning of an error's message, on one line."""
    return " ".join(str(error).split())[:80]


def _cost(path: Path) -> dict[tuple[str, str], float]:
    """The time of an update of each system, from the figures that `regrow bench --json` wrote."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        rows = {key: float(row["ms_per_network_update"]) for key, row in content.items() if key in _keys()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"[:80]
        raise ValueError(f"{path} is damaged ({what}): write it again with regrow bench --json {path}") from error
    return {_keys()[key]: ms for key, ms in rows.items()}


def _keys() -> dict[str, tuple[str, str]]:
    """{key of the figures: (setting, system)}"""
    plain = {setting: (setting, "base") for setting in SETTINGS}
    return {f"{setting}-{system}": (setting, system) for setting in SETTINGS for system in SYSTEMS} | plain


def combine(folders: Sequence[Folder]) -> Results:
    """Put folders together; where several hold a network, its longest series counts.

    Raises:
        ValueError: where they are of different images, or none has results that the report knows.
    """
    data = same_images(folders)
    parts: dict[str, list[Folder]] = {"": []}
    for folder in folders:
        parts.setdefault(folder.option, []).append(folder)
    runs = {option: Runs(longest(each)) for option, each in parts.items()}
    check_any(runs.values(), folders)
    cost = {key: ms for folder in folders for key, ms in folder.cost.items()}
    return Results(tuple(folders), runs.pop(""), runs, cost, data)


def same_images(folders: Iterable[Folder]) -> str:
    """The name of the images that all folders are of.

    Raises:
        ValueError: where they are of different ones.
    """
    by_images: dict[tuple[str, str], Folder] = {}
    for folder in folders:
        config = folder.config
        by_images[str(config.get("data", "unknown images")), str(config.get("data_checksum", ""))] = folder
    if len(by_images) > 1:
        listed = ", ".join(f"{folder.path} of {name}" for (name, _), folder in by_images.items())
        raise ValueError(f"a report is of one set of images; got {listed}: make one report for each")
    ((name, _),) = by_images
    return name


def check_any(parts: Iterable[Runs], folders: Iterable[Folder]) -> None:
    """Refuse folders without any results that the report knows."""
    parts = list(parts)
    if not any(runs.settings for runs in parts):
        listed, known = ", ".join(str(folder.path) for folder in folders), ", ".join(parts[0].scope.settings)
        raise ValueError(f"{listed}: no results of the settings {known}, which the report is about")


def longest(folders: Iterable[Folder]) -> pl.DataFrame:
    """The rows of all folders, each network from the folder that has most of its tasks."""
    tagged = [folder.rows.with_columns(folder=pl.lit(i)) for i, folder in enumerate(folders) if len(folder.rows)]
    if not tagged:
        return pl.DataFrame()
    rows = pl.concat(tagged, how="diagonal_relaxed")
    last = rows.group_by([*KEYS, "folder"]).agg(pl.col("task").max()).sort("task", "folder", descending=[True, False])
    kept = last.unique(KEYS, keep="first", maintain_order=True).select(*KEYS, "folder")
    return rows.join(kept, on=[*KEYS, "folder"], how="semi")
