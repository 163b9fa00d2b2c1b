"""Decides which stack a free worker trains next, and for how many tasks."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..studies import StackPlan

TURN = 60.0  # seconds that a turn should take: starting one costs about a second


class Turn(NamedTuple):
    """Train a stack up to a number of tasks."""

    plan: StackPlan
    tasks: int


class Turns:
    """Hands out the stack with the most work left; the last ones in turns, so that all workers end together.

    With W workers, stacks are trained to their end while more than 2 W are unfinished, so that complete results appear
    early. From then on, while there are more stacks than workers, each is handed out for `TURN` seconds.

    Args:
        plans: the stacks.
        done: tasks of each that are finished, {id: tasks}.
        tasks: to finish in all, of each.
        workers: W.
        expected: seconds per task of each, {id: seconds}; None: all equal, and never in turns.

    Example:
        >>> from regrow.lab.studies.packing import pack
        >>> large, small = pack("weights-vs-units", ["large", "small"], ["base"])
        >>> turns = Turns([small, large], {small.id: 0, large.id: 10}, 30, 1, {small.id: 1.0, large.id: 3.0})
        >>> [turns.next() == turn for turn in (Turn(large, 30), Turn(small, 30), None)]
        [True, True, True]
    """

    def __init__(
        self,
        plans: Sequence[StackPlan],
        done: Mapping[str, int],
        tasks: int,
        workers: int,
        expected: Mapping[str, float] | None = None,
    ) -> None:
        self._tasks, self._workers, self._expected = tasks, workers, expected
        self._done = dict(done)
        self._waiting = [plan for plan in plans if done[plan.id] < tasks]
        self.unfinished = len(self._waiting)

    def next(self) -> Turn | None:
        """The next turn, for a free worker; None where no stack is waiting."""
        if not self._waiting:
            return None
        plan = max(self._waiting, key=self._left)  # the first of equals
        self._waiting.remove(plan)
        tasks = self._tasks
        if self._expected and 1 < self._workers < self.unfinished <= 2 * self._workers:
            tasks = min(tasks, self._done[plan.id] + math.ceil(TURN / self._expected[plan.id]))
        return Turn(plan, tasks)

    def ended(self, turn: Turn) -> bool:
        """Take a turn back; returns whether its stack is finished."""
        self._done[turn.plan.id] = turn.tasks
        finished = turn.tasks == self._tasks
        if finished:
            self.unfinished -= 1
        else:
            self._waiting.append(turn.plan)
        return finished

    def _left(self, plan: StackPlan) -> float:
        """Seconds left; tasks where no time is expected."""
        return (self._tasks - self._done[plan.id]) * (self._expected[plan.id] if self._expected else 1.0)
