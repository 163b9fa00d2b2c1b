"""Stored results as runs: one unbroken series of tasks for each system, config and seed, from one study.

Shapes: S seeds, T tasks.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from ..lab.studies import SETTINGS, SYSTEMS, Member
from ..lab.studies.permuted_values import chosen
from .margins import LEAST_TASKS

CHANCE = 0.1  # accuracy of a diverged network, which guesses among ten classes
ACCURACIES = ("online_accuracy", "best_test_accuracy", "best_validation_accuracy", "test_accuracy")
NEAR = 0.75  # runs of at least this share of the longest run's tasks count as equally long
FRESH = "scratch"
"""The system that starts over at every task: the yardstick."""
STANDARDIZED = "standardized pixels"
"""How runs on inputs without zeros differ from the usual ones."""
KEYS = ("study", "setting", "system", "config_id", "seed")
_COPY = "_copy"
NEEDED = (*KEYS, "task", "online_accuracy")


@dataclass(frozen=True)
class Run:
    """One network: its tasks 0, 1, … up to the first that is missing."""

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
        """Whether its loss stopped being finite."""
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
class Comparison:
    """Groups of runs over the same seeds and tasks.

    groups: {key: one run for each seed, seeds in order}
    """

    seeds: tuple[int, ...]
    tasks: int
    groups: Mapping[Any, tuple[Run, ...]]

    def series(self, key: Any, measure: str = "online_accuracy") -> np.ndarray:
        """A column of a group, (S, T)."""
        return np.stack([run.measure(measure)[: self.tasks] for run in self.groups[key]])

    def diverged(self, key: Any) -> int:
        """How many runs of a group diverged."""
        return sum(run.diverged for run in self.groups[key])


def papers_id(setting: str, system: str) -> str:
    """The config_id of a system at the paper's values for MNIST, or ours where it has none."""
    return Member(system, chosen(setting, system), 0).config_id


@dataclass(frozen=True)
class Scope:
    """Which runs a part of the report covers.

    settings, systems: in the order of the report.
    accuracy: the column by which systems are compared; a task without it does not count.
    chosen_id: config_id of a system in a setting at its chosen values.
    """

    settings: tuple[str, ...] = tuple(SETTINGS)
    systems: tuple[str, ...] = SYSTEMS
    accuracy: str = "online_accuracy"
    chosen_id: Callable[[str, str], str] = field(default=papers_id, repr=False)


PERMUTED = Scope()


class Runs:
    """The runs in a table of results, by setting, system, config and seed.

    A run comes from one folder and one study: where several hold the same member, from the one with most tasks.
    Settings and systems outside the scope are left out.

    Args:
        frame: rows as `regrow.load` returns them, of any folders one after the other; may be empty.
        scope: which of them count.

    Raises:
        ValueError: if a needed column is missing.

    Example:
        >>> row = {"study": "s", "setting": "large", "system": "base", "config_id": "c", "seed": 0}
        >>> runs = Runs(pl.DataFrame([row | {"task": task, "online_accuracy": 0.9} for task in (0, 1, 3)]))
        >>> runs.main("large", "base")[0].tasks
        2
    """

    def __init__(self, frame: pl.DataFrame, scope: Scope = PERMUTED) -> None:
        self.scope, needed = scope, (*KEYS, "task", scope.accuracy)
        if frame.width and (missing := [name for name in needed if name not in frame.columns]):
            raise ValueError(
                f"results must have the columns {', '.join(needed)}; {', '.join(missing)} missing: "
                "give folders that `regrow run` wrote"
            )
        self._runs: dict[tuple[str, str], dict[str, dict[int, Run]]] = {}
        if len(frame):
            known = pl.col("setting").is_in(scope.settings) & pl.col("system").is_in(scope.systems)
            whole = _unbroken(frame.filter(known), scope.accuracy)
            for rows in whole.partition_by([*KEYS, _COPY], maintain_order=True):
                study, setting, system, config_id, seed = (rows[key][0] for key in KEYS)
                self._add(Run(study, setting, system, config_id, seed, rows))

    @classmethod
    def of(cls, results: "pl.DataFrame | Runs") -> "Runs":
        """The runs of a table; runs as they are, since sorting a large table takes a second."""
        return results if isinstance(results, Runs) else cls(results)

    def _add(self, run: Run) -> None:
        seeds = self._runs.setdefault((run.setting, run.system), {}).setdefault(run.config_id, {})
        if run.seed not in seeds or seeds[run.seed].tasks < run.tasks:
            seeds[run.seed] = run

    def only(self, keep: Callable[[Run], bool]) -> "Runs":
        """Those of the runs that are to be kept."""
        part = Runs(pl.DataFrame(), self.scope)
        for configs in self._runs.values():
            for run in (run for seeds in configs.values() for run in seeds.values() if keep(run)):
                part._add(run)
        return part

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings that have a run, in the laboratory's order."""
        have = {setting for setting, _ in self._runs}
        return tuple(name for name in self.scope.settings if name in have)

    def systems(self, setting: str) -> tuple[str, ...]:
        """Systems that have a run in a setting, in the laboratory's order."""
        return tuple(name for name in self.scope.systems if (setting, name) in self._runs)

    def configs(self, setting: str, system: str) -> dict[str, tuple[Run, ...]]:
        """{config_id: its runs, seeds in order}"""
        configs = self._runs.get((setting, system), {})
        return {name: tuple(seeds[seed] for seed in sorted(seeds)) for name, seeds in sorted(configs.items())}

    def main(self, setting: str, system: str) -> tuple[Run, ...]:
        """The runs of a system at its chosen values: of the config with most tasks; among equals, the paper's.

        Empty where that decides nothing, as in a sweep that lacks the paper's values.
        """
        configs = self.configs(setting, system)
        if not configs:
            return ()
        longest = max(run.tasks for runs in configs.values() for run in runs)
        best = {name: runs for name, runs in configs.items() if max(run.tasks for run in runs) == longest}
        papers = self.scope.chosen_id(setting, system)
        return best[papers] if papers in best else next(iter(best.values())) if len(best) == 1 else ()


def comparisons(groups: Mapping[Any, Sequence[Run]], least: int = 1) -> list[Comparison]:
    """The choices of seeds over which groups of runs can be compared: the longest runs, and the most seeds.

    Where runs are of unequal length there is no single best choice: few seeds over many tasks, or many over fewer.

    Args:
        groups: {key: runs of different seeds}; one without runs leaves nothing to compare.
        least: tasks a comparison needs.

    Returns:
        Two comparisons, one if both are the same, none if no seed has so many tasks in all groups.
    """
    seeds = {seed: min(run.tasks for run in runs) for seed, runs in _by_seed(groups).items()}
    ranked = sorted((seed for seed in seeds if seeds[seed] >= max(1, least)), key=lambda seed: (-seeds[seed], seed))
    if not ranked:
        return []
    long = [seed for seed in ranked if seeds[seed] >= NEAR * seeds[ranked[0]]]
    choices = []
    for members in (long, ranked)[: 1 if len(long) == len(ranked) else 2]:
        runs = {name: tuple(_pick(group, seed) for seed in sorted(members)) for name, group in groups.items()}
        choices.append(Comparison(tuple(sorted(members)), min(seeds[seed] for seed in members), runs))
    return choices


def frames(groups: Mapping[Any, Sequence[Run]]) -> list[Comparison]:
    """Comparisons as the verdicts have them, of at least 200 tasks where any are; the last is of most seeds."""
    return comparisons(groups, LEAST_TASKS) or comparisons(groups)


def _by_seed(groups: Mapping[Any, Sequence[Run]]) -> dict[int, list[Run]]:
    """{seed: one run of each group} for the seeds that all have."""
    by_seed: dict[int, list[Run]] = {}
    for runs in groups.values():
        for run in runs:
            by_seed.setdefault(run.seed, []).append(run)
    return {seed: runs for seed, runs in by_seed.items() if len(runs) == len(groups)}


def _pick(runs: Sequence[Run], seed: int) -> Run:
    return next(run for run in runs if run.seed == seed)


def _unbroken(rows: pl.DataFrame, accuracy: str) -> pl.DataFrame:
    """The rows of tasks 0, 1, ... of every run, up to the first that is missing or has no accuracy, in one order.

    Where several folders hold a member, each copy is a run: a new one begins where the task number falls. A run that
    has diverged needs no accuracy.
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
