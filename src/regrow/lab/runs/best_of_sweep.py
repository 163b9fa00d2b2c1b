"""The ranking of a sweep's configs: stored beside the results, read by a later sweep."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ..studies import ALL_SETTINGS, SYSTEMS, Config, Member, System
from ..studies.packing import Best
from ..studies.permuted_grids import Winners
from . import manifest
from .digests import open_json, seal_json
from .files import write_whole

NAME = "selected.json"
_USUAL = {"pixels": "raw", "first_seed": 0}  # of a manifest's config that does not say

Ranking = dict[str, dict[str, list[dict[str, Any]]]]
"""{setting: {system: [{config_id, config, n, mean, standard_error, diverged}, best first]}}"""


def rank(rows: pl.DataFrame) -> Ranking:
    """Rank the configs of each setting and system by mean online accuracy over all tasks and seeds, best first.

    For vision transformers, the best validation accuracy of each task replaces online accuracy. Each seed is one
    sample: its mean over its tasks. `standard_error` is that of their mean, None for a single seed; `diverged` counts
    the seeds that diverged. A config without a mean comes last.

    Args:
        rows: of the results table.

    Example:
        >>> rows = {"setting": "small", "system": "l2", "config": ["{}", '{"decay": 0.1}'], "config_id": ["a", "b"],
        ...         "seed": 0, "task": 0, "online_accuracy": [0.5, 0.6], "diverged": False}
        >>> [best["config_id"] for best in rank(pl.DataFrame(rows))["small"]["l2"]]
        ['b', 'a']

    Reference:
        Hernandez-Garcia et al. 2025, section 3: grid search by mean online accuracy.
    """
    measure = "best_validation_accuracy" if "best_validation_accuracy" in rows.columns else "online_accuracy"
    each = pl.col(measure).fill_null(float("nan"))  # a task without accuracy must not be left out of the mean
    accuracy, keys = pl.col("accuracy"), pl.col("setting", "system", "config_id", "config")
    seeds = rows.group_by(keys, "seed").agg(accuracy=each.mean(), lost=pl.col("diverged").any())
    configs = seeds.sort("seed").group_by(keys).agg(
        n=pl.len(), mean=accuracy.mean(), standard_error=accuracy.std() / pl.len().sqrt(), diverged=pl.col("lost").sum()
    )  # fmt: skip
    configs = configs.with_columns(pl.col("mean", "standard_error").fill_nan(None))
    ranking: Ranking = {}
    for row in configs.sort("mean", "config_id", descending=[True, False], nulls_last=True).iter_rows(named=True):
        place = ranking.setdefault(row.pop("setting"), {}).setdefault(row.pop("system"), [])
        place.append(row | {"config": json.loads(row["config"])})
    by_setting = sorted(ranking.items(), key=lambda item: list(ALL_SETTINGS).index(item[0]))
    return {name: dict(sorted(systems.items(), key=lambda s: SYSTEMS.index(s[0]))) for name, systems in by_setting}


def write(folder: Path, rows: pl.DataFrame) -> Ranking:
    """Store the ranking of a finished sweep as `selected.json` in its folder."""
    ranking = rank(rows)
    content = {"study": rows["study"][0], "tasks": int(rows["task"].n_unique()), "ranking": ranking}
    write_whole(folder / NAME, seal_json(content))
    return ranking


def read_winners(folder: Path, data: Mapping[str, Any] | None = None) -> Winners:
    """The best config of every setting and system of a sweep.

    Args:
        folder: the sweep's.
        data: what the winners are for, as in the manifest's config; None: anything.

    Returns:
        {(setting, system): config}

    Raises:
        FileNotFoundError: where the folder holds no run, or a sweep that is not finished.
        ValueError: where it holds no sweep or one on other data, or its ranking is damaged.
    """
    ranking = read(folder, data).ranking
    return {(s, m): ranked[0]["config"] for s, systems in ranking.items() for m, ranked in systems.items()}


class Sweep(NamedTuple):
    """A finished sweep: its ranking, and the tasks and seeds that it is of."""

    folder: Path
    ranking: Ranking
    tasks: int
    seeds: range


def read(folder: Path, data: Mapping[str, Any] | None = None) -> Sweep:
    """The ranking of a finished sweep; arguments and errors as of `read_winners`."""
    stored = manifest.read(folder)
    config = _USUAL | stored["config"]
    remedy = "give the --out of a finished `regrow run … --sweep`"
    if not config.get("sweep"):
        raise ValueError(
            f"`--from` must name the folder of a sweep; got {folder}, which holds a run without --sweep: {remedy}"
        )
    for key, value in (data or {}).items():
        if config.get(key, value) != value:
            was = config.get(key)
            raise ValueError(f"`--from` {folder} has `{key}` {was}; got {value}: sweep on the same data first")
    path = folder / NAME
    try:
        content = open_json(path.read_bytes())[0]
        ranking, tasks = content["ranking"], int(content["tasks"])
        for setting, systems in ranking.items():
            for system, ranked in systems.items():
                if Member(system, ranked[0]["config"], 0).config_id != ranked[0]["config_id"]:
                    raise ValueError(f"the config of {system} in {setting} was changed")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing, the sweep is not finished: rerun its command first") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and rerun the sweep's command") from None
    first = config["first_seed"]
    return Sweep(folder, ranking, tasks, range(first, first + config["seeds"]))


def best(sweeps: Sequence[Sweep], settings: Sequence[str], count: int, seeds: range) -> Best:
    """The best configs of every method, over the rankings of several sweeps.

    All variants of selective weight reinitialization are one method: `count` of them all, not of each.

    Args:
        sweeps: over equally many tasks.
        settings: in which configs are wanted.
        count: of each method, at most.
        seeds: of the runs that the configs are for; none may have served to select them.

    Returns:
        {setting: (system, config), best first in each method}

    Raises:
        ValueError: for sweeps of unequal length, a seed that selected, and a setting without a ranking.
    """
    if len(lengths := {sweep.tasks for sweep in sweeps}) > 1:
        raise ValueError(f"`--from` must be of sweeps over equally many tasks; got {sorted(lengths)}: extend the short")
    used = max(sweep.seeds.stop for sweep in sweeps)
    if seeds.start < used:
        raise ValueError(
            f"`--first-seed` must be at least {used}, or the seeds that selected the best also judge them; "
            f"got {seeds.start}: give --first-seed {used}"
        )
    found: dict[str, list[tuple[str, Config]]] = {}
    for setting in settings:
        by_method: dict[str, list[tuple[float, str, str, Config]]] = {}
        for sweep in sweeps:
            for system, ranked in sweep.ranking.get(setting, {}).items():
                own = by_method.setdefault(System.of(system).method, [])
                own += [(-r["mean"], r["config_id"], system, r["config"]) for r in ranked if r["mean"] is not None]
        if not by_method:
            raise ValueError(f"`--from` has no ranking of {setting}: sweep it too, or leave it out of --settings")
        found[setting] = [run[2:] for own in by_method.values() for run in sorted(own, key=lambda r: r[:2])[:count]]
    return found
