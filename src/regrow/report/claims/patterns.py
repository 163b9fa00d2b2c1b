"""Tests that many statements share: kept, lost, steady, ahead."""

from ..margins import LEVEL
from .quantities import against_fresh, ahead, change, drop, fall
from .quantity import Quantity
from .statement import Test, within

OTHERS = ("base", "l2", "shrink-perturb", "cbp", "redo")
PROPORTIONAL = "swr-gradient-proportional-resample"

DROP = (
    "end minus start: the mean accuracy of the last 100 tasks minus that of tasks 20 to 119; below 220 tasks the last "
    "80 and tasks 20 to 99"
)
FALL = "end minus peak: the mean accuracy of the last 100 tasks (80 below 220) minus that of tasks 1 to 5"
KEEPS = f"{DROP}. Kept: above −{LEVEL} points (a rise is no loss)."
LOSES = f"{DROP}. Lost: below −{LEVEL} points."
STEADY = f"and the slope over the last half of the tasks times their number: within ±{LEVEL} points."
AHEAD = "difference of mean accuracy over all tasks, by seed"


def keeps(setting: str, *systems: str) -> tuple[Test, ...]:
    """Each system ends no more than the margin below its early level."""
    return tuple(Test(drop(setting, system), ">", -LEVEL) for system in systems)


def loses(setting: str, *systems: str) -> tuple[Test, ...]:
    """Each system ends below its early level, by more than the margin."""
    return tuple(Test(drop(setting, system), "<", -LEVEL) for system in systems)


def falls(setting: str, *systems: str, by: float = LEVEL) -> tuple[Test, ...]:
    """Each system ends below its early peak, by more than so many points."""
    return tuple(Test(fall(setting, system), "<", -by) for system in systems)


def steady(setting: str, *systems: str) -> tuple[Test, ...]:
    """Each system's accuracy changes by less than the margin over the last half of the tasks."""
    return tuple(test for system in systems for test in within(change(setting, system), -LEVEL, LEVEL))


def beats(setting: str, system: str, *others: str, by: float = 0.0) -> tuple[Test, ...]:
    """A system is ahead of each of the others, by more than so many points."""
    return tuple(Test(ahead(setting, system, other), ">", by) for other in others)


def fresh(setting: str, *systems: str) -> tuple[Quantity, ...]:
    """Systems against a fresh network, to be shown beside."""
    return tuple(against_fresh(setting, system) for system in systems)


def authors(setting: str, *systems: str) -> tuple[Quantity, ...]:
    """Drops of unit methods in the authors' order, to be shown beside."""
    return tuple(drop(setting, f"{system}-authors") for system in systems)
