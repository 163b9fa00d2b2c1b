"""Stored results as runs: one series of tasks for each system, config and seed, whole and from one study.

Shapes: S seeds, T tasks.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ..lab.studies import SETTINGS, SYSTEMS, Member
from ..lab.studies.permuted_values import chosen

CHANCE = 0.1  # accuracy of a diverged network: ten classes, and NaN tells none from another
ACCURACIES = ("online_accuracy", "best_test_accuracy", "best_validation_accuracy", "test_accuracy")
NEAR = 0.75  # runs of at least this share of the longest run's tasks count as equally long
FRESH = "scratch"
KEYS = ("study", "setting", "system", "config_id", "seed")
_COPY = "_copy"
NEEDED = (*KEYS, "task", "online_accuracy")


@dataclass(frozen=True)
class Run:
    """One network's tasks 0, 1, ... as far as none is missing."""

    study: str
    setting: str
    system: str
    config_id: str
    seed: int
    rows: pl.DataFrame

    @property
    def tasks(self) -> int:
        return len(self.rows)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The hyper-parameters; empty where none are stored."""
        text = self.rows["config"][0] if "config" in self.rows.columns else None
        return json.loads(text) if text else {}

    @cached_property
    def diverged(self) -> bool:
        """Whether its numbers stopped being numbers."""
        return "diverged" in self.rows.columns and bool(self.rows["diverged"].fill_null(False).any())

    def measure(self, name: str) -> np.ndarray:
        """One column, (T,), NaN where there is no number; accuracy in percent, that of a diverged run at chance."""
        if name not in self.rows.columns:
            return np.full(self.tasks, np.nan)
        values = self.rows[name].cast(pl.Float64).to_numpy().copy()
        values[~np.isfinite(values)] = np.nan
        if name in ACCURACIES:
            if self.diverged:
                values = np.where(np.isnan(values), self._chance(), values)
            values *= 100
        return values

    def _chance(self) -> np.ndarray:
        """Accuracy of a guess, (T,): where classes come one after the other, among those seen."""
        if "classes" not in self.rows.columns:
            return np.full(self.tasks, CHANCE)
        return 1 / self.rows["classes"].cast(pl.Float64).fill_null(1 / CHANCE).to_numpy()


@dataclass(frozen=True)
class Panel:
    """Some groups of runs over the same seeds and tasks: what a comparison is made of.

    groups: {name: one run for each seed, seeds in order}
    """

    seeds: tuple[int, ...]
    tasks: int
    groups: Mapping[str, tuple[Run, ...]]

    def series(self, name: str, measure: str = "online_accuracy") -> np.ndarray:
        """(S, T)"""
        return np.stack([run.measure(measure)[: self.tasks] for run in self.groups[name]])

    @property
    def diverged(self) -> dict[str, int]:
        """{group: number of diverged runs}, those with none left out."""
        counts = {name: sum(run.diverged for run in runs) for name, runs in self.groups.items()}
        return {name: count for name, count in counts.items() if count}


def papers_id(setting: str, system: str) -> str:
    """The config_id of a system at the paper's values for MNIST, or ours where it has none."""
    return Member(system, chosen(setting, system), 0).config_id


@dataclass(frozen=True)
class Problem:
    """What runs are on, and how they are told apart.

    settings, systems: that a report knows, in order.
    accuracy: the column by which systems are compared; a task without it is none.
    chosen_id: config_id of a system in a setting at its chosen values.
    """

    settings: tuple[str, ...] = tuple(SETTINGS)
    systems: tuple[str, ...] = SYSTEMS
    accuracy: str = "online_accuracy"
    chosen_id: Callable[[str, str], str] = field(default=papers_id, repr=False)


PERMUTED = Problem()


class Runs:
    """The runs in a table of results, by setting, system, config and seed.

    A run is taken from one folder and one study: where several hold the same member, from that with most tasks.
    Settings and systems that the laboratory does not know, as those of other problems, are left out.

    Args:
        frame: rows as `regrow.load` returns them, of any folders one after the other; may be empty.
        problem: what they are on.

    Raises:
        ValueError: if a needed column is missing.

    Example:
        >>> row = {"study": "s", "setting": "large", "system": "base", "config_id": "c", "seed": 0}
        >>> runs = Runs(pl.DataFrame([row | {"task": task, "online_accuracy": 0.9} for task in (0, 1, 3)]))
        >>> runs.main("large", "base")[0].tasks
        2
    """

    def __init__(self, frame: pl.DataFrame, problem: Problem = PERMUTED) -> None:
        self.problem, needed = problem, (*KEYS, "task", problem.accuracy)
        if frame.width and (missing := [name for name in needed if name not in frame.columns]):
            raise ValueError(
                f"results must have the columns {', '.join(needed)}; {', '.join(missing)} missing: "
                "give folders that `regrow run` wrote"
            )
        self._runs: dict[tuple[str, str], dict[str, dict[int, Run]]] = {}
        if len(frame):
            known = pl.col("setting").is_in(problem.settings) & pl.col("system").is_in(problem.systems)
            whole = _unbroken(frame.filter(known), problem.accuracy)
            for rows in whole.partition_by([*KEYS, _COPY], maintain_order=True):
                study, setting, system, config_id, seed = (rows[key][0] for key in KEYS)
                self._add(Run(study, setting, system, config_id, seed, rows))

    @classmethod
    def of(cls, results: "pl.DataFrame | Runs") -> "Runs":
        """The runs of a table, or as they are: sorting a large table out takes a second."""
        return results if isinstance(results, Runs) else cls(results)

    def _add(self, run: Run) -> None:
        seeds = self._runs.setdefault((run.setting, run.system), {}).setdefault(run.config_id, {})
        if run.seed not in seeds or seeds[run.seed].tasks < run.tasks:
            seeds[run.seed] = run

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings that have a run, in the laboratory's order."""
        have = {setting for setting, _ in self._runs}
        return tuple(name for name in self.problem.settings if name in have)

    def systems(self, setting: str) -> tuple[str, ...]:
        """Systems that have a run in a setting, in the laboratory's order."""
        return tuple(name for name in self.problem.systems if (setting, name) in self._runs)

    def configs(self, setting: str, system: str) -> dict[str, tuple[Run, ...]]:
        """{config_id: its runs, seeds in order}"""
        configs = self._runs.get((setting, system), {})
        return {name: tuple(seeds[seed] for seed in sorted(seeds)) for name, seeds in sorted(configs.items())}

    def main(self, setting: str, system: str) -> tuple[Run, ...]:
        """The runs of a system at its chosen values: of the config with most tasks; among equals, the paper's.

        Empty where neither tells, as in a sweep that lacks the paper's values.
        """
        configs = self.configs(setting, system)
        if not configs:
            return ()
        longest = max(run.tasks for runs in configs.values() for run in runs)
        best = {name: runs for name, runs in configs.items() if max(run.tasks for run in runs) == longest}
        papers = self.problem.chosen_id(setting, system)
        return best[papers] if papers in best else next(iter(best.values())) if len(best) == 1 else ()

    def panels(self, setting: str, systems: Iterable[str], least: int = 1) -> list[Panel]:
        """The long and the wide choice of seeds for a comparison of systems at their chosen values; see `panels`."""
        return panels({system: self.main(setting, system) for system in systems}, least)


def panels(groups: Mapping[str, Sequence[Run]], least: int = 1) -> list[Panel]:
    """The choices of seeds over which groups of runs can be compared: the longest, and that of most seeds.

    Runs of unequal length have no one best choice: few seeds over many tasks, or many over fewer.

    Args:
        groups: {name: runs of different seeds}; one without runs leaves nothing to compare.
        least: tasks a comparison needs.

    Returns:
        Two panels, one if both are the same, none if no seed has so many tasks in all groups.
    """
    seeds = {seed: min(run.tasks for run in found) for seed, found in _by_seed(groups).items()}
    ranked = sorted((seed for seed in seeds if seeds[seed] >= max(1, least)), key=lambda seed: (-seeds[seed], seed))
    if not ranked:
        return []
    long = [seed for seed in ranked if seeds[seed] >= NEAR * seeds[ranked[0]]]
    found = []
    for members in (long, ranked)[: 1 if len(long) == len(ranked) else 2]:
        runs = {name: tuple(_pick(group, seed) for seed in sorted(members)) for name, group in groups.items()}
        found.append(Panel(tuple(sorted(members)), min(seeds[seed] for seed in members), runs))
    return found


def _by_seed(groups: Mapping[str, Sequence[Run]]) -> dict[int, list[Run]]:
    """{seed: one run of each group} for the seeds that all have."""
    found: dict[int, list[Run]] = {}
    for runs in groups.values():
        for run in runs:
            found.setdefault(run.seed, []).append(run)
    return {seed: runs for seed, runs in found.items() if len(runs) == len(groups)}


def _pick(runs: Sequence[Run], seed: int) -> Run:
    return next(run for run in runs if run.seed == seed)


def _unbroken(rows: pl.DataFrame, accuracy: str) -> pl.DataFrame:
    """The rows of tasks 0, 1, ... of every run, up to the first that is missing or has no accuracy, in one order.

    A member that several folders hold is several runs, told apart by where its tasks start again. After it has diverged
    a run needs no accuracy.
    """
    task, run = pl.col("task"), [*KEYS, _COPY]
    rows = rows.drop_nulls([*KEYS, "task"]).with_columns(pl.lit(0).alias(_COPY))
    twice = rows.select(*KEYS, "task").is_duplicated()
    if twice.any():
        again = (task.diff() <= 0).fill_null(False).cast(pl.Int32).cum_sum().over(KEYS)
        rows = rows.with_columns(pl.when(pl.lit(twice).any().over(KEYS)).then(again).otherwise(0).alias(_COPY))
    rows = rows.sort([*run, "task"])
    bad = pl.col(accuracy).cast(pl.Float64).is_finite().fill_null(False).not_()
    if "diverged" in rows.columns:
        bad = bad & pl.col("diverged").fill_null(False).cast(pl.Int8).cum_max().over(run).cast(pl.Boolean).not_()
    broken = (task != pl.int_range(pl.len()).over(run)) | bad
    return rows.filter(broken.cast(pl.Int8).cum_max().over(run) == 0)


def entries(setting: str, pixels: int = 784) -> int:
    """Parameters of a setting's network.

    Example:
        >>> entries("large"), entries("small-ln")
        (99710, 8240)
    """
    h, norms = SETTINGS[setting].hidden, 6 if SETTINGS[setting].layer_norm else 0
    return (pixels + 1) * h + 2 * (h + 1) * h + (h + 1) * 10 + norms * h
