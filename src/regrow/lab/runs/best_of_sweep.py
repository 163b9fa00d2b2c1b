"""The ranking of a sweep's configs: stored beside the results, read by a later sweep."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ..studies import ALL_SETTINGS, SYSTEMS, Member
from ..studies.permuted_grids import Winners
from . import manifest
from .digests import open_json, seal_json
from .files import write_whole

NAME = "selected.json"

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
        data: the data that the winners are for, as in the manifest's config; None: any.

    Returns:
        {(setting, system): config}

    Raises:
        FileNotFoundError: where the folder holds no run, or a sweep that is not finished.
        ValueError: where it holds no sweep or one on other data, or its ranking is damaged.
    """
    stored = manifest.read(folder)
    remedy = "give the --out of a finished `regrow run … --sweep`"
    if not stored["config"].get("sweep"):
        raise ValueError(
            f"`--from` must name the folder of a sweep; got {folder}, which holds a run without --sweep: {remedy}"
        )
    for key, value in (data or {}).items():
        if stored["config"].get(key, value) != value:
            was = stored["config"].get(key)
            raise ValueError(f"`--from` {folder} has `{key}` {was}; got {value}: sweep on the same data first")
    path = folder / NAME
    try:
        ranking = open_json(path.read_bytes())[0]["ranking"]
        winners = {(s, m): ranked[0]["config"] for s, systems in ranking.items() for m, ranked in systems.items()}
        for (setting, system), config in winners.items():
            if Member(system, config, 0).config_id != ranking[setting][system][0]["config_id"]:
                raise ValueError(f"the config of {system} in {setting} was changed")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing, the sweep is not finished: rerun its command first") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and rerun the sweep's command") from None
    return winners
