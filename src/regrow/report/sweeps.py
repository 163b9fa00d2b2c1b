"""Sweeps as stored runs hold them: the configs of one system in one setting, over the same seeds and tasks.

Shapes: S seeds.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .format import DASH, count, interval
from .runs import Comparison, Run, Runs, comparisons
from .stats import Effect

Configs = Mapping[str, tuple[Run, ...]]
"""{config_id: its runs}"""


def configs_with(runs: Runs, setting: str, system: str, knobs: Collection[str]) -> Configs:
    """The configs of a system that have all of these knobs."""
    return {
        name: group for name, group in runs.configs(setting, system).items() if set(knobs) <= group[0].config.keys()
    }


@dataclass(frozen=True)
class Sweep:
    """Configs that can be compared.

    over: the seeds and tasks that all have.
    measure: by which they are compared; where it is no number it counts as 0.
    """

    over: Comparison
    measure: str = "online_accuracy"

    def by_seed(self, name: str) -> np.ndarray:
        """Mean over tasks of a config, (S,)."""
        return self.series(name).mean(1)

    def mean(self, name: str) -> float:
        """Mean over seeds and tasks of a config."""
        return float(self.series(name).mean())

    def series(self, name: str) -> np.ndarray:
        """The measure of a config, a seed a row."""
        return np.nan_to_num(self.over.series(name, self.measure))

    def config(self, name: str) -> dict[str, Any]:
        """The hyper-parameters of a config."""
        return self.over.groups[name][0].config

    def best(self, among_equals: str | None = None) -> str:
        """The config of the highest mean."""
        return max(self.over.groups, key=lambda name: (self.mean(name), name == among_equals))


def read(configs: Configs, measure: str = "online_accuracy", least: int = 2) -> Sweep | None:
    """The sweep of these configs, over most seeds; None where they are fewer than `least` or share no seed."""
    shared = comparisons(configs) if len(configs) >= least else []
    return Sweep(shared[-1], measure) if shared else None


def winner(
    configs: Configs,
    papers: Callable[[Run], bool],
    ahead: Callable[[Sweep, str, str], Effect],
    measure: str = "online_accuracy",
) -> tuple[Mapping[str, Any], str, str]:
    """The best config of our sweep, how far it is ahead of the paper's values, and the size of the sweep, as text.

    Args:
        configs: of one system in one setting.
        papers: whether a run has the paper's values.
        ahead: how far one config is ahead of another.
        measure: by which they are compared.
    """
    sweep = read(configs, measure)
    if not sweep:
        return {}, DASH, f"{len(configs)} configs, no shared seed" if len(configs) > 1 else DASH
    same: Sequence[str] = [name for name, runs in sweep.over.groups.items() if papers(runs[0])]
    best = sweep.best(same[0] if same else None)
    gain = DASH
    if same:
        gain = "the same" if best == same[0] else interval(ahead(sweep, best, same[0]), sign=True)
    return sweep.config(best), gain, f"{len(configs)} configs, {count(sweep.over)}"
