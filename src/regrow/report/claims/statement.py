"""A statement of the paper, and the tests of quantities that decide it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..margins import LEAST_TASKS, LONG, PAPER_TASKS
from .quantity import Quantity

INITIAL, UNITS, OPTIMIZERS = "initial-assessment", "weights-vs-units", "optimizers"

About = Literal["level", "change", "no change"]


@dataclass(frozen=True)
class Test:
    """A quantity that must lie above or below a bound.

    side: ">" or "<".
    """

    __test__ = False  # not for pytest

    quantity: Quantity
    side: str
    bound: float

    @property
    def about(self) -> About:
        """A level, or, of a quantity over time, that there is a change, or that there is none: where 0 passes."""
        if not self.quantity.over_time:
            return "level"
        return "no change" if (self.bound < 0 if self.side == ">" else self.bound > 0) else "change"


@dataclass(frozen=True)
class Statement:
    """One statement of the paper that our runs can confirm or contradict.

    id: number of the claim and a letter.
    text: what the paper says, in plain English.
    place: where it says so.
    criterion: what is computed and when the statement is true.
    tests: what must be true.
    study: the one that trains the runs.
    at_least: how many of the cases must be true; None: all.
    each: tests to a case, which is true where all of them are.
    beside: shown to the reader and not judged.
    tasks: number of tasks in the paper's runs; asks: number that the suggested command trains.
    least: tasks below which nothing is decided.
    long: tasks that it takes to say that there is no change; before them one that is not seen may still come.
    before: the tests of the rules before these, where they had other bounds; None: the same with other quantities.
    added: whether it was not judged before.
    """

    id: str
    text: str
    place: str
    criterion: str
    tests: tuple[Test, ...]
    study: str = UNITS
    at_least: int | None = None
    each: int = 1
    beside: tuple[Quantity, ...] = ()
    tasks: int = PAPER_TASKS
    asks: int = LEAST_TASKS
    least: int = LEAST_TASKS
    long: int = LONG
    before: tuple[Test, ...] | None = None
    added: bool = False

    @property
    def cases(self) -> int:
        """Number of cases."""
        return len(self.tests) // self.each

    @property
    def needed(self) -> int:
        """How many of the cases must be true."""
        return self.at_least or self.cases

    @property
    def claim(self) -> int:
        """Number of the paper's claim that it is part of."""
        return int(self.id.rstrip("abcdefghij"))

    @property
    def tests_before(self) -> tuple[Test, ...]:
        """What the rules before these asked for."""
        tests = self.before or self.tests
        return tuple(replace(test, quantity=test.quantity.before or test.quantity) for test in tests)


def within(quantity: Quantity, low: float, high: float) -> tuple[Test, ...]:
    """A quantity lies between two bounds."""
    return Test(quantity, ">", low), Test(quantity, "<", high)


def all_of(parts: Iterable[Sequence[Test]]) -> tuple[Test, ...]:
    """The tests of all parts, in order."""
    return tuple(test for part in parts for test in part)
