"""What is measured of sweeps: how much the best config stands out from its neighbours, and the worst against the best.

Shapes: S seeds, T tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...lab.studies.permuted_grids import grid
from ..margins import SWEEP_TASKS
from ..runs import Comparison, Run, Runs, comparisons
from ..stats import Effect, contrast
from ..sweeps import configs_with
from .quantity import POINTS, Measured, Quantity, label, measured

Place = tuple[Any, ...]
"""One value of each knob."""


@dataclass(frozen=True)
class Grid:
    """The runs of one system at all values of a grid.

    knobs: those that vary, and their values in order.
    configs: {place: the runs there}
    of: configs in the paper's grid.
    """

    system: str
    knobs: dict[str, tuple[Any, ...]]
    configs: dict[Place, tuple[Run, ...]]
    of: int

    @property
    def whole(self) -> bool:
        """Whether it holds as many configs as the paper's grid, so that its best and worst are those of the grid."""
        return len(self.configs) >= self.of

    def neighbours(self, place: Place) -> list[Place]:
        """Configs one step away in one knob."""
        places = []
        for i, values in enumerate(self.knobs.values()):
            at = values.index(place[i])
            near = values[max(0, at - 1) : at] + values[at + 1 : at + 2]
            places += [(*place[:i], value, *place[i + 1 :]) for value in near]
        return [place for place in places if place in self.configs]

    def groups(self) -> dict[tuple[str, Place], tuple[Run, ...]]:
        """The runs, under keys that hold the system too."""
        return {(self.system, place): runs for place, runs in self.configs.items()}

    def ranked(self, runs: Comparison) -> list[Place]:
        """Places of the configs, the worst mean accuracy first."""
        return sorted(self.configs, key=lambda place: _mean(runs, (self.system, place)))

    def height(self, runs: Comparison) -> np.ndarray:
        """The best config minus the mean of its neighbours, (S, T)."""
        best = self.ranked(runs)[-1]
        around = [runs.series((self.system, place)) for place in self.neighbours(best)]
        return runs.series((self.system, best)) - np.mean(around, axis=0)


def _mean(runs: Comparison, key: tuple[str, Place]) -> float:
    return float(runs.series(key).mean())


def as_grid(runs: Runs, setting: str, system: str) -> Grid | None:
    """A system's runs as a grid over the knobs that its sweep varies; None where there are fewer than two configs."""
    tried = grid(setting, system)
    names = [name for name in tried[0] if len({config.get(name) for config in tried}) > 1]
    configs = {
        tuple(group[0].config[name] for name in names): group
        for group in configs_with(runs, setting, system, names).values()
    }
    if len(configs) < 2:
        return None
    knobs = {name: tuple(sorted({place[i] for place in configs})) for i, name in enumerate(names)}
    return Grid(system, knobs, configs, len(tried))


def peak_height(setting: str, system: str) -> Quantity:
    """Mean accuracy of a sweep's best config minus that of its neighbours, one step away in one knob.

    The best is chosen by the same runs, which makes it look better than it is: against the claim of a flat top.
    """
    name = f"{label(system)}: best config minus its neighbours"
    return _swept(name, setting, (system,), lambda runs, grids: grids[0].height(runs))


def peak_against(setting: str, system: str, other: str) -> Quantity:
    """How much more one system's best config stands out from its neighbours than another's."""
    name = f"height of the peak, {label(system)} minus {label(other)}"
    return _swept(name, setting, (system, other), lambda runs, grids: grids[0].height(runs) - grids[1].height(runs))


def worst_against_best(setting: str, system: str, *others: str) -> Quantity:
    """Mean accuracy of a system's worst config minus that of the best config of any other system.

    Worst and best are chosen by the same runs, which makes them look further apart the wrong way: against the claim.
    """

    def compute(runs: Comparison, grids: list[Grid]) -> np.ndarray:
        worst, *best = ((each.system, each.ranked(runs)[0 if each is grids[0] else -1]) for each in grids)
        return runs.series(worst) - runs.series(max(best, key=lambda key: _mean(runs, key)))

    name = f"worst config of {label(system)} minus best config of {', '.join(map(label, others))}"
    return _swept(name, setting, (system, *others), compute)


def _swept(
    name: str, setting: str, systems: tuple[str, ...], compute: Callable[[Comparison, list[Grid]], np.ndarray]
) -> Quantity:
    def measure(runs: Runs) -> Measured:
        grids = []
        for system in systems:
            one = as_grid(runs, setting, system)
            if not one or not one.whole:
                part = f"{len(one.configs)} of the {one.of} configs of its sweep" if one else "no sweep"
                return Measured(lacks=f"{system} in {setting}: {part}")
            grids.append(one)
        groups = {key: group for each in grids for key, group in each.groups().items()}
        lost = sum(any(run.diverged for run in group) for group in groups.values())
        notes = (f"{lost} of {len(groups)} configs in {setting} diverged; they count at chance (10 %)",) if lost else ()
        shared = comparisons(groups, SWEEP_TASKS)
        if not shared:
            return Measured(lacks=f"sweep in {setting}: no seed with {SWEEP_TASKS} tasks in all configs", notes=notes)
        return Measured(measured(lambda each: _average(compute(each, grids)), shared), notes=notes)

    return Quantity(name, POINTS, setting, systems, measure, sweep=True)


def _average(series: np.ndarray) -> Effect:
    tasks = series.shape[1]
    return contrast(series, np.full(tasks, 1 / tasks))
