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
from .runs import KEYS, NEEDED, Runs

BENCH = "bench.json"
OPTIONS = {
    ("units_read", "after"): "units read after the norm",
    ("ln_position", "before"): "norm before the activation",
}
"""{(key, value) of a manifest's config that is not the usual one: in a few words}"""
PIXELS = {"digits": 64}
_REMEDY = "give folders that `regrow run` wrote (its --out)"


@dataclass(frozen=True)
class Folder:
    """What one run has stored.

    cost: {(setting, system): milliseconds for one update of one network}, of `bench.json` where there is one.
    """

    path: Path
    manifest: Mapping[str, Any]
    rows: pl.DataFrame
    cost: Mapping[tuple[str, str], float]

    @property
    def config(self) -> Mapping[str, Any]:
        """What the run was asked for; empty where the manifest does not say."""
        found = self.manifest.get("config")
        return found if isinstance(found, Mapping) else {}

    @property
    def option(self) -> str:
        """How it differs from the usual options, in a few words; empty where it does not."""
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
    """All that one report is about.

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
        OSError: where there is no such folder, or it is not of a run.
        ValueError: where it holds no rows yet, or files that are damaged or of something else; one line.
    """
    content, rows = manifest.read(path), _load(path)
    missing = [name for name in NEEDED if name not in rows.columns]
    if missing:
        raise ValueError(f"{path} holds rows without {', '.join(missing)}, so not of a run: {_REMEDY}")
    try:
        schema = VIT_RESULTS if "best_test_accuracy" in rows.columns else RESULTS
        rows = rows.select(pl.col(name).cast(kind) for name, kind in schema.items() if name in rows.columns)
    except pl.exceptions.PolarsError as error:
        what = " ".join(str(error).split())[:80]
        raise ValueError(f"{path} holds rows that are not of a run ({what}): {_REMEDY}") from error
    return Folder(path, content, rows, _cost(path / BENCH))


def _load(path: Path) -> pl.DataFrame:
    try:
        return load(path)
    except (pl.exceptions.PolarsError, json.JSONDecodeError, TypeError, AttributeError) as error:
        what = " ".join(str(error).split())[:80]
        raise ValueError(f"{path} holds rows that are not of a run ({what}): {_REMEDY}") from error


def _cost(path: Path) -> dict[tuple[str, str], float]:
    """The time of an update of each system, from the figures that `regrow bench --json` wrote."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        rows = {key: float(row["ms_per_network_update"]) for key, row in content.items() if key in _keys()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"[:80]
        raise ValueError(f"{path} is damaged ({what}): write it anew with regrow bench --json {path}") from error
    return {_keys()[key]: ms for key, ms in rows.items()}


def _keys() -> dict[str, tuple[str, str]]:
    """{key of the figures: (setting, system)}"""
    plain = {setting: (setting, "base") for setting in SETTINGS}
    return {f"{setting}-{system}": (setting, system) for setting in SETTINGS for system in SYSTEMS} | plain


def combine(folders: Sequence[Folder]) -> Results:
    """Put folders together; of a network that several hold, the longest series counts.

    Raises:
        ValueError: where they are of different images, or none has results that the report knows.
    """
    of = {images(folder): folder for folder in folders}
    if len(of) > 1:
        told = ", ".join(f"{folder.path} of {name}" for (name, _), folder in of.items())
        raise ValueError(f"a report is of one set of images; got {told}: make one report for each")
    parts: dict[str, list[Folder]] = {"": []}
    for folder in folders:
        parts.setdefault(folder.option, []).append(folder)
    runs = {option: Runs(longest(each)) for option, each in parts.items()}
    if not any(each.settings for each in runs.values()):
        listed = ", ".join(str(folder.path) for folder in folders)
        raise ValueError(f"{listed}: no results of the settings {', '.join(SETTINGS)}, which the report is about")
    cost = {key: ms for folder in folders for key, ms in folder.cost.items()}
    ((name, _),) = of
    return Results(tuple(folders), runs.pop(""), runs, cost, name)


def images(folder: Folder) -> tuple[str, str]:
    """Name and checksum of the images a run was on."""
    return str(folder.config.get("data", "unknown images")), str(folder.config.get("data_checksum", ""))


def longest(folders: Iterable[Folder]) -> pl.DataFrame:
    """The rows of all folders, each network from that which has most of its tasks."""
    tagged = [folder.rows.with_columns(folder=pl.lit(i)) for i, folder in enumerate(folders) if len(folder.rows)]
    if not tagged:
        return pl.DataFrame()
    rows = pl.concat(tagged, how="diagonal_relaxed")
    last = rows.group_by([*KEYS, "folder"]).agg(pl.col("task").max()).sort("task", "folder", descending=[True, False])
    kept = last.unique(KEYS, keep="first", maintain_order=True).select(*KEYS, "folder")
    return rows.join(kept, on=[*KEYS, "folder"], how="semi")
