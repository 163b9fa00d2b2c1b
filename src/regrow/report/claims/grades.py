"""From p-values for and against the tests of a statement to its grade."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..margins import ALPHA
from ..stats import SEEDS, Effect
from .statement import Statement, Test
from .verdict import AGREES, CONFIRMED, CONTRADICTED, DISAGREES, UNDECIDED, size


class Sides(NamedTuple):
    """One-sided p-values of a statement and of its contrary."""

    pro: float
    contra: float

    @property
    def p(self) -> float:
        """Two-sided."""
        return min(1.0, 2 * min(self))

    @property
    def true(self) -> bool:
        """Whether the runs speak for the statement rather than against it."""
        return self.pro < self.contra


def chances(test: Test, effect: Effect) -> Sides:
    """For and against one test."""
    above, below = effect.above(test.bound), effect.below(test.bound)
    return Sides(above, below) if test.side == ">" else Sides(below, above)


def of_case(sides: Sequence[Sides]) -> Sides:
    """For and against "all of these tests are true"."""
    pro, contra = zip(*sides, strict=True)
    return Sides(partial_conjunction(pro, len(sides)), partial_conjunction(contra, 1))


def held(test: Test, effect: Effect, long: int) -> Sides:
    """The same, without what so few tasks cannot say: that there is no change."""
    pro, contra = chances(test, effect)
    if effect.tasks >= long or test.about == "level":
        return Sides(pro, contra)
    return Sides(1.0, contra) if test.about == "no change" else Sides(pro, 1.0)


def cases(statement: Statement, sides: Sequence[Sides]) -> list[Sides]:
    """For and against each case of a statement, from those of its tests."""
    return [of_case(sides[i : i + statement.each]) for i in range(0, len(sides), statement.each)]


def of_statement(statement: Statement, effects: Sequence[Effect], tests: Sequence[Test] | None = None) -> Sides:
    """For and against "so many of the cases are true", from the effects of all tests."""
    return _of_tests(statement, [chances(*pair) for pair in zip(tests or statement.tests, effects, strict=True)])


def _of_tests(statement: Statement, sides: Sequence[Sides]) -> Sides:
    pro, contra = zip(*cases(statement, sides), strict=True)
    needed = statement.needed
    return Sides(partial_conjunction(pro, needed), partial_conjunction(contra, len(pro) - needed + 1))


def partial_conjunction(p_values: Iterable[float], needed: int) -> float:
    """P-value of "at least `needed` of n are true", whatever they share: (n - needed + 1) * p_(needed), at most 1.

    Example:
        >>> partial_conjunction([0.01, 0.2, 0.03], 2), partial_conjunction([0.01, 0.2, 0.03], 3)
        (0.06, 0.2)

    Reference:
        Benjamini & Heller 2008, Screening for partial conjunction hypotheses.
    """
    ordered = sorted(p_values)
    return min(1.0, (len(ordered) - needed + 1) * ordered[needed - 1])


def decides(statement: Statement, effects: Sequence[Effect]) -> bool:
    """Whether seeds and tasks are enough for a grade that decides."""
    seeds, tasks = size(effects)
    return seeds >= SEEDS and tasks >= statement.least


def may_still_come(statement: Statement, sides: Sides, effects: Sequence[Effect]) -> bool:
    """Whether what the runs say rests on a change that they do not show but are too short to rule out."""
    without = _of_tests(statement, [held(*pair, statement.long) for pair in zip(statement.tests, effects, strict=True)])
    all_of_it, rest = (sides.pro, without.pro) if sides.true else (sides.contra, without.contra)
    return rest > all_of_it and 2 * rest >= ALPHA


def grade(statement: Statement, effects: Sequence[Effect], sides: Sides, p: float) -> str:
    """The grade of a statement whose runs are there.

    Args:
        statement: judged.
        effects: of its tests, in their order.
        sides: from `of_statement`.
        p: two-sided; after Holm's correction where the runs decide.
    """
    if size(effects)[1] < statement.least or not p < ALPHA or may_still_come(statement, sides, effects):
        return UNDECIDED
    if decides(statement, effects):
        return CONFIRMED if sides.true else CONTRADICTED
    return AGREES if sides.true else DISAGREES
