"""What is measured of sweeps: how much the best config stands out from its neighbours, and the worst against the best.

Shapes: S seeds, T tasks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...lab.studies.permuted_grids import grid
from ..margins import SWEEP_TASKS
from ..runs import Panel, Run, Runs
from ..stats import Effect, contrast
from .quantities import POINTS, Found, Quantity, label, measured

Knobs = dict[str, tuple[Any, ...]]
"""{knob: the values tried, in order}"""


@dataclass(frozen=True)
class Sweep:
    """The runs of one system at all values of a grid.

    knobs: those that vary, and their values in order.
    configs: {one value of each knob: the runs there}
    of: configs in the paper's grid.
    """

    system: str
    knobs: Knobs
    configs: dict[tuple, tuple[Run, ...]]
    of: int

    @property
    def whole(self) -> bool:
        """Whether it holds as many configs as the paper's grid, so that its best and worst are those of the grid."""
        return len(self.configs) >= self.of

    def neighbours(self, place: tuple) -> list[tuple]:
        """Configs one step away in one knob."""
        found = []
        for i, values in enumerate(self.knobs.values()):
            at = values.index(place[i])
            near = values[max(0, at - 1) : at] + values[at + 1 : at + 2]
            found += [place[:i] + (value,) + place[i + 1 :] for value in near]
        return [place for place in found if place in self.configs]


def sweep(runs: Runs, setting: str, system: str) -> Sweep | None:
    """A system's runs as a grid over the knobs that its sweep varies; None where there is no second config."""
    tried = grid(setting, system)
    names = [name for name in tried[0] if len({config.get(name) for config in tried}) > 1]
    configs = {}
    for found in runs.configs(setting, system).values():
        if all(name in found[0].config for name in names):
            configs[tuple(found[0].config[name] for name in names)] = found
    if len(configs) < 2:
        return None
    knobs = {name: tuple(sorted({place[i] for place in configs})) for i, name in enumerate(names)}
    return Sweep(system, knobs, configs, len(tried))


def peak_height(setting: str, system: str) -> Quantity:
    """Mean accuracy of a sweep's best config minus that of its neighbours, one step away in one knob.

    The best is chosen by the same runs, which makes it look better than it is: against the claim of a flat top.
    """
    name = f"{_name(system)}: best config minus its neighbours"
    return _swept(name, setting, (system,), lambda panel, found: _height(panel, found[0]))


def peak_against(setting: str, system: str, other: str) -> Quantity:
    """How much more one system's best config stands out from its neighbours than another's."""

    def compute(panel: Panel, found: list[Sweep]) -> np.ndarray:
        return _height(panel, found[0]) - _height(panel, found[1])

    return _swept(f"height of the peak, {_name(system)} minus {_name(other)}", setting, (system, other), compute)


def worst_against_best(setting: str, system: str, *others: str) -> Quantity:
    """Mean accuracy of a system's worst config minus that of the best config of any other system.

    Worst and best are chosen by the same runs, which makes them look further apart the wrong way: against the claim.
    """

    def compute(panel: Panel, found: list[Sweep]) -> np.ndarray:
        mine, theirs = _ranked(panel, found[:1]), _ranked(panel, found[1:])
        return panel.series(mine[0]) - panel.series(theirs[-1])

    name = f"worst config of {_name(system)} minus best config of {', '.join(map(_name, others))}"
    return _swept(name, setting, (system, *others), compute)


def _name(system: str) -> str:
    return label(system)


def _height(panel: Panel, found: Sweep) -> np.ndarray:
    """(S, T)"""
    best = {_key(found, place): place for place in found.configs}[_ranked(panel, [found])[-1]]
    around = [panel.series(_key(found, place)) for place in found.neighbours(best)]
    return panel.series(_key(found, best)) - np.mean(around, axis=0)


def _ranked(panel: Panel, found: list[Sweep]) -> list[str]:
    """Group names of the configs, worst mean accuracy first."""
    names = [_key(sweep, place) for sweep in found for place in sweep.configs]
    return sorted(names, key=lambda name: float(panel.series(name).mean()))


def _key(found: Sweep, place: tuple) -> str:
    return f"{found.system} {place}"


def _swept(
    name: str, setting: str, systems: tuple[str, ...], compute: Callable[[Panel, list[Sweep]], np.ndarray]
) -> Quantity:
    def find(runs: Runs) -> Found:
        found = [sweep(runs, setting, system) for system in systems]
        lacking = [system for system, one in zip(systems, found, strict=True) if one is None or not one.whole]
        if lacking:
            return Found(lacks=_part(lacking[0], setting, found[systems.index(lacking[0])]))
        whole = [one for one in found if one]
        groups = {_key(one, place): runs for one in whole for place, runs in one.configs.items()}

        def effect(panel: Panel) -> Effect:
            series = compute(panel, whole)
            return contrast(series, np.full(panel.tasks, 1 / panel.tasks))

        return _short(measured(groups, setting, effect, SWEEP_TASKS), groups, setting)

    return Quantity(name, POINTS, setting, systems, find, sweep=True)


def _part(system: str, setting: str, found: Sweep | None) -> str:
    if found is None:
        return f"{system} in {setting}: no sweep"
    return f"{system} in {setting}: {len(found.configs)} of the {found.of} configs of its sweep"


def _short(found: Found, groups: Mapping[str, tuple[Run, ...]], setting: str) -> Found:
    """One line for many configs that diverged, or lack tasks."""
    count = sum(any(run.diverged for run in runs) for runs in groups.values())
    notes = (f"{count} of {len(groups)} configs in {setting} diverged; they count at chance (10 %)",) if count else ()
    lacks = f"sweep in {setting}: no seed with {SWEEP_TASKS} tasks in all configs" if found.lacks else ""
    return replace(found, notes=notes, lacks=lacks)
