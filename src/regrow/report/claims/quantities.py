"""What is measured of the runs for the paper's claims: each a number of points or percent with its error.

Shapes: S seeds, T tasks.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..margins import FIRST, LAST, LEAST_TASKS, PEAK, SCRATCH_TASKS, SETTLED
from ..runs import Panel, Run, Runs, panels, papers_id
from ..stats import SEEDS, Effect, contrast, slope
from ..style import SYSTEMS

POINTS, UNITS, PERCENT = "points", "points of the units", "%"

MEASURES = {
    "dead_units": "dead units",
    "weight_magnitude": "mean |w|",
    "gradient_magnitude": "mean |g|",
    "rank99": "rank of the last hidden layer",
}
"""The four correlates; the rank is the one in the paper's figures: singular values that hold 99 % of their sum."""


@dataclass(frozen=True)
class Found:
    """A quantity in the runs at hand.

    effects: by the longest runs, and, where that is another choice of runs, by the most seeds; empty if runs lack.
    lacks: what is missing, one line; empty if nothing is.
    notes: what a reader should know of it.
    """

    effects: tuple[Effect, ...] = ()
    lacks: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantity:
    """Something to measure: its name, unit, and the setting and systems whose runs it needs.

    also: further settings whose runs it needs.
    """

    name: str
    unit: str
    setting: str
    systems: tuple[str, ...]
    find: Callable[[Runs], Found] = field(repr=False)
    sweep: bool = False
    also: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """All whose runs it needs."""
        return self.setting, *self.also


def label(system: str) -> str:
    """A system as figures and tables call it."""
    return SYSTEMS[system].label if system in SYSTEMS else system


def drop(setting: str, system: str) -> Quantity:
    """Mean accuracy of the last 100 tasks minus the early peak: the best 5 successive of the first 50 tasks."""
    return _quantity("end minus early peak", POINTS, setting, (system,), lambda panel: _drop(panel.series(system)))


def drop_against(setting: str, system: str, other: str) -> Quantity:
    """How much less one system drops than another: the difference of their drops."""

    def compute(panel: Panel) -> Effect:
        one, two = panel.series(system), panel.series(other)
        weights = _drop_weights(one), _drop_weights(two)
        if len(panel.seeds) >= SEEDS:
            by_seed = (one * weights[0] - two * weights[1]).sum(1, keepdims=True)
            return replace(contrast(by_seed, np.ones(1)), tasks=panel.tasks)
        first, second = contrast(one, weights[0]), contrast(two, weights[1])
        # As if the two were independent: what they share would only make the error smaller.
        error, freedom = math.hypot(first.error, second.error), min(first.freedom, second.freedom)
        return replace(first, value=first.value - second.value, error=error, freedom=freedom)

    name = f"drop of {label(system)} minus drop of {label(other)}"
    return _quantity(name, POINTS, setting, (system, other), compute, named=False)


def change(setting: str, system: str) -> Quantity:
    """Change of accuracy over the last half of the tasks, by its slope."""

    def compute(panel: Panel) -> Effect:
        late = panel.series(system)[:, panel.tasks // 2 :]
        return replace(slope(late).times(late.shape[1]), tasks=panel.tasks)

    return _quantity("fitted change over the last half", POINTS, setting, (system,), compute)


def ahead(setting: str, system: str, other: str) -> Quantity:
    """Mean accuracy over all tasks of one system minus that of another."""

    def compute(panel: Panel) -> Effect:
        return contrast(panel.series(system) - panel.series(other), np.full(panel.tasks, 1 / panel.tasks))

    return _quantity(f"{label(system)} minus {label(other)}", POINTS, setting, (system, other), compute, named=False)


def against_fresh(setting: str, system: str) -> Quantity:
    """Mean accuracy of the last 100 tasks minus that of a fresh network on its tasks.

    A fresh network has the same expected accuracy on every task, so that few of its tasks stand for all.
    """
    name = f"{label(system)} at the end minus a fresh network"
    return Quantity(name, POINTS, setting, (system, "scratch"), lambda runs: _against_fresh(runs, setting, system))


def dead_at_end(setting: str, system: str) -> Quantity:
    """Share of dead units, mean of the last 100 tasks."""

    def compute(panel: Panel) -> Effect:
        return contrast(100 * panel.series(system, "dead_units"), _end(panel.tasks))

    return _correlate("dead units at the end", UNITS, setting, system, "dead_units", compute)


def growth(setting: str, system: str, measure: str) -> Quantity:
    """Mean of the last 100 tasks against that of tasks 20 to 39: in percent; of dead units, in points."""

    def compute(panel: Panel) -> Effect:
        series, weights = panel.series(system, measure), _end(panel.tasks)
        early = series[:, SETTLED].mean(1, keepdims=True)
        weights[SETTLED] -= 1 / (SETTLED.stop - SETTLED.start)
        return contrast(100 * series if measure == "dead_units" else 100 * series / early, weights)

    unit = UNITS if measure == "dead_units" else PERCENT
    return _correlate(f"change of {MEASURES[measure]}", unit, setting, system, measure, compute)


def _quantity(
    name: str,
    unit: str,
    setting: str,
    systems: tuple[str, ...],
    compute: Callable[[Panel], Effect],
    named: bool = True,
) -> Quantity:
    def find(runs: Runs) -> Found:
        return measured({system: runs.main(setting, system) for system in systems}, setting, compute)

    return Quantity(f"{label(systems[0])}: {name}" if named else name, unit, setting, systems, find)


def _correlate(
    name: str, unit: str, setting: str, system: str, measure: str, compute: Callable[[Panel], Effect]
) -> Quantity:
    """A quantity of the runs that have the measure at every task: those that diverged have not."""

    def find(runs: Runs) -> Found:
        all_runs = runs.main(setting, system)
        usable = tuple(run for run in all_runs if _has(run, measure))
        if all_runs and not usable:
            return Found(lacks=f"no run of {system} in {setting} has numbers for {measure} throughout")
        found = measured({system: usable}, setting, compute)
        left_out = len(all_runs) - len(usable)
        notes = (f"{label(system)} in {setting}: {left_out} of {len(all_runs)} runs left out, diverged or without it",)
        return replace(found, notes=found.notes + notes) if left_out else found

    return Quantity(f"{label(system)}: {name}", unit, setting, (system,), find)


def _has(run: Run, measure: str) -> bool:
    values = run.measure(measure)
    early = values[SETTLED]
    return not run.diverged and bool(np.isfinite(values).all()) and (measure == "dead_units" or bool((early > 0).all()))


def measured(
    groups: Mapping[str, tuple[Run, ...]], setting: str, compute: Callable[[Panel], Effect], least: int = LEAST_TASKS
) -> Found:
    """A quantity over the panels of some groups of runs, or what they lack for one."""
    found = panels(groups, least)
    if not found:
        return Found(lacks=_lacks(groups, setting, least))
    return Found(tuple(compute(panel) for panel in found), notes=_notes(found, setting))


def _notes(found: list[Panel], setting: str) -> tuple[str, ...]:
    """Of the panel with most seeds, which has all the runs of the other."""
    panel, notes = found[-1], []
    for name, runs in panel.groups.items():
        if runs[0].config_id != papers_id(setting, runs[0].system):
            notes.append(f"{label(name)} in {setting}: not the paper's values, or not MNIST")
        if count := panel.diverged.get(name):
            of = len(panel.seeds)
            notes.append(f"{label(name)} in {setting}: {count} of {of} runs diverged; they stay in, at chance (10 %)")
    return tuple(notes)


def _lacks(groups: Mapping[str, tuple[Run, ...]], setting: str, least: int) -> str:
    for name, runs in groups.items():
        most = max((run.tasks for run in runs), default=0)
        if not most:
            return f"{name} in {setting}: no run at its chosen values"
        if most < least:
            return f"{name} in {setting}: {most} of the {least} tasks needed"
    return f"{' and '.join(groups)} in {setting}: no seed with {least} tasks in all"


def _end(tasks: int) -> np.ndarray:
    """Weights of the mean over the last tasks, (T,)."""
    return np.repeat([0.0, 1 / LAST], [tasks - LAST, LAST])


def _drop(series: np.ndarray) -> Effect:
    return contrast(series, _drop_weights(series))


def _drop_weights(series: np.ndarray) -> np.ndarray:
    """Each run's own: the end minus the window of its early peak, (S, T)."""
    weights = np.tile(_end(series.shape[1]), (len(series), 1))
    starts = sliding_window_view(series[:, :FIRST], PEAK, axis=1).mean(-1).argmax(1)
    for run, start in zip(weights, starts, strict=True):
        run[start : start + PEAK] -= 1 / PEAK
    return weights


def _against_fresh(runs: Runs, setting: str, system: str) -> Found:
    fresh = {run.seed: run for run in runs.main(setting, "scratch") if run.tasks >= SCRATCH_TASKS}
    mine = runs.main(setting, system)
    paired = tuple(run for run in mine if run.seed in fresh)
    if not fresh:
        return Found(lacks=_lacks({"scratch": runs.main(setting, "scratch")}, setting, SCRATCH_TASKS))
    if mine and not paired:
        return Found(lacks=f"{system} and scratch in {setting}: no seed in both")

    def compute(panel: Panel) -> Effect:
        levels = [fresh[seed].measure("online_accuracy") for seed in panel.seeds]
        means = np.array([[level.mean()] for level in levels])
        effect = contrast(panel.series(system) - means, _end(panel.tasks))
        if len(panel.seeds) >= SEEDS:
            return effect
        # A fresh network's tasks are independent: new weights and a new permutation each.
        own = np.mean([level.var(ddof=1) / len(level) for level in levels]) / len(levels)
        return replace(effect, error=math.hypot(effect.error, math.sqrt(own)))

    return measured({system: paired}, setting, compute)
