"""A quantity: what is measured of stored runs for a statement, and what is missing where it cannot be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..margins import LEAST_TASKS
from ..runs import Comparison, Run, Runs, comparisons
from ..stats import Effect
from ..style import look

POINTS, PERCENT = "points", "%"

Key = tuple[str, str]
"""(setting, system)"""
Groups = Mapping[Key, Sequence[Run]]
Compute = Callable[[Comparison], Effect]


@dataclass(frozen=True)
class Measured:
    """A quantity, as measured in the given runs.

    effects: over most seeds, which decides, and, where those are others, in the longest runs; empty without runs.
    lacks: what is missing, one line; empty if nothing is.
    notes: what a reader should know of it.
    """

    effects: tuple[Effect, ...] = ()
    lacks: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantity:
    """Something to measure: its name, unit, and the setting and systems whose runs it needs.

    sweep: whether it needs their sweeps.
    also: further settings whose runs it needs.
    over_time: whether it is a change over the tasks, 0 where nothing changes, not a level.
    before: what the rules before these measured in its place, where that was something else.
    """

    name: str
    unit: str
    setting: str
    systems: tuple[str, ...]
    measure: Callable[[Runs], Measured] = field(repr=False)
    sweep: bool = False
    also: tuple[str, ...] = ()
    over_time: bool = False
    before: "Quantity | None" = field(default=None, repr=False)

    @property
    def settings(self) -> tuple[str, ...]:
        """All whose runs it needs."""
        return self.setting, *self.also


class Rules(NamedTuple):
    """What a quantity needs, and how its notes put what is unusual.

    tasks, seeds: at least.
    other_values: of runs at other than the chosen values.
    chance: how diverged runs count.
    """

    tasks: int = LEAST_TASKS
    seeds: int = 1
    other_values: str = "not the paper's values, or not MNIST"
    chance: str = "at chance (10 %)"


def label(system: str) -> str:
    """A system as figures and tables call it."""
    return look(system).label


def title(key: Key) -> str:
    """A system in a setting, in words."""
    return f"{label(key[1])} in {key[0]}"


def quantity(
    name: str,
    unit: str,
    keys: Sequence[Key],
    compute: Compute,
    rules: Rules,
    measure: str = "",
    has: Callable[[Run], bool] = lambda run: True,
    before: Quantity | None = None,
    over_time: bool = False,
) -> Quantity:
    """A quantity of runs at their chosen values.

    Args:
        name, unit: for the reader.
        keys: whose runs it needs.
        compute: from runs of the same seeds and tasks, whose groups have these keys.
        rules: what it needs at least.
        measure: a column that runs must have throughout, or they are left out.
        has: whether a run has it.
        before: what was measured in its place.
        over_time: whether it is a change over the tasks.
    """
    settings, systems = (tuple(dict.fromkeys(part)) for part in zip(*keys, strict=True))

    def from_runs(runs: Runs) -> Measured:
        every = {key: runs.main(*key) for key in keys}
        kept = {key: [run for run in group if has(run)] for key, group in every.items()}
        for setting, system in keys:
            if every[setting, system] and not kept[setting, system]:
                return Measured(lacks=f"no run of {system} in {setting} has numbers for {measure} throughout")
        kept_only = over(runs, kept, compute, rules)
        left_out = tuple(
            f"{title(key)}: {len(group) - len(kept[key])} of {len(group)} runs left out, diverged or without {measure}"
            for key, group in every.items()
            if len(group) > len(kept[key]) and kept_only.effects
        )
        return Measured(kept_only.effects, kept_only.lacks, kept_only.notes + left_out)

    return Quantity(name, unit, settings[0], systems, from_runs, also=settings[1:], over_time=over_time, before=before)


def over(runs: Runs, groups: Groups, compute: Compute, rules: Rules) -> Measured:
    """A quantity over the seeds and tasks that groups of runs share, or what they lack for one."""
    shared = [each for each in comparisons(groups, rules.tasks) if len(each.seeds) >= rules.seeds]
    if not shared:
        return Measured(lacks=lacks(groups, rules))
    return Measured(measured(compute, shared), notes=notes(runs, shared[-1].groups, rules))


def measured(compute: Compute, shared: Sequence[Comparison]) -> tuple[Effect, ...]:
    """Effects over most seeds and in the longest runs, from `comparisons`, which has the longest first."""
    return tuple(compute(each) for each in reversed(shared))


def notes(runs: Runs, groups: Groups, rules: Rules) -> tuple[str, ...]:
    """What a reader must know of the runs that decide."""
    lines = []
    for key, group in groups.items():
        if group[0].config_id != runs.scope.chosen_id(*key):
            lines.append(f"{title(key)}: {rules.other_values}")
        if lost := sum(run.diverged for run in group):
            lines.append(f"{title(key)}: {lost} of {len(group)} runs diverged; they stay in, {rules.chance}")
    return tuple(lines)


def lacks(groups: Groups, rules: Rules) -> str:
    """What is missing for a comparison, one line."""
    for (setting, system), group in groups.items():
        most = max((run.tasks for run in group), default=0)
        if most < rules.tasks:
            short = f"{most} of the {rules.tasks} tasks needed" if most else "no run at its chosen values"
            return f"{system} in {setting}: {short}"
    if rules.seeds > 1:
        seeds = max((len(each.seeds) for each in comparisons(groups, rules.tasks)), default=0)
        names = " and ".join(map(title, groups))
        return f"{names}: {seeds} of the {rules.seeds} seeds needed, with {rules.tasks} tasks in all"
    names = " and ".join(system for _, system in groups)
    return f"{names} in {next(iter(groups))[0]}: no seed with {rules.tasks} tasks in all"
