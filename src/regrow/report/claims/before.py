"""What the rules before these said of the same runs, so that a reader sees which verdict the rules have changed.

They compared the end of a run with its own early peak, and correlates with tasks 20 to 39; let the longest runs decide
on what happens in time, even a single one; counted tasks as degrees of freedom for two seeds; and corrected over all
statements. They go with the next release.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..margins import ALPHA
from ..stats import Effect, holm
from .grades import Sides, of_statement
from .quantity import Measured, Quantity
from .statement import Statement
from .verdict import FAILS, HOLDS, OPEN


def verdicts_before(statements: Sequence[Statement], look: Callable[[Quantity], Measured]) -> list[str]:
    """Holds, fails, or not enough data, for each statement; empty for one that is new.

    Args:
        statements: all that are judged together.
        look: measures a quantity.
    """
    sides = [None if statement.added else _sides(statement, look) for statement in statements]
    adjusted = iter(holm(np.array([side.p for side in sides if side])).tolist())
    said = [OPEN if side is None or next(adjusted) >= ALPHA else HOLDS if side.true else FAILS for side in sides]
    return ["" if each.added else verdict for each, verdict in zip(statements, said, strict=True)]


def _sides(statement: Statement, look: Callable[[Quantity], Measured]) -> Sides | None:
    """For and against a statement; None where runs are missing."""
    longest = any(test.about != "level" for test in statement.tests_before)
    measured = [look(test.quantity).effects for test in statement.tests_before]
    if not all(measured):
        return None
    return of_statement(statement, [_freed(each[-1 if longest else 0]) for each in measured], statement.tests_before)


def _freed(effect: Effect) -> Effect:
    return replace(effect, freedom=effect.freedom_before or effect.freedom)
