"""A statement of the paper, and the tests of quantities that decide it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..margins import LEAST_TASKS, PAPER_TASKS
from .quantity import Quantity

UNITS = "weights-vs-units"


@dataclass(frozen=True)
class Test:
    """A quantity that must lie above or below a bound.

    side: ">" or "<".
    """

    __test__ = False  # not for pytest

    quantity: Quantity
    side: str
    bound: float


@dataclass(frozen=True)
class Statement:
    """One statement of the paper that our runs can hold or fail.

    id: number of the claim and a letter.
    text: what the paper says, in plain English.
    place: where it says so.
    statistic: what is computed and when it holds.
    tests: what must be true.
    study: the one that trains the runs.
    at_least: how many of the tests must be true; None: all.
    prefer: which runs decide: "tasks" (the longest, for what happens in time) or "seeds" (the most, for levels).
    beside: shown to the reader and not judged.
    tasks: number of tasks in the paper's runs; asks: number that the suggested command trains.
    """

    id: str
    text: str
    place: str
    statistic: str
    tests: tuple[Test, ...]
    study: str = UNITS
    at_least: int | None = None
    prefer: str = "tasks"
    beside: tuple[Quantity, ...] = ()
    tasks: int = PAPER_TASKS
    asks: int = LEAST_TASKS

    @property
    def needed(self) -> int:
        """How many of the tests must be true."""
        return self.at_least or len(self.tests)


def within(quantity: Quantity, low: float, high: float) -> tuple[Test, ...]:
    """A quantity lies between two bounds."""
    return Test(quantity, ">", low), Test(quantity, "<", high)


def all_of(parts: Iterable[Sequence[Test]]) -> tuple[Test, ...]:
    """The tests of all parts, in order."""
    return tuple(test for part in parts for test in part)
