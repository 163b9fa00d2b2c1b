"""Stacks are shared out so that every one is trained once, whole ones first, and all workers end together."""

import heapq
from collections.abc import Mapping, Sequence

import pytest
from walks import plans

from regrow.lab.runs.scheduler import TURN, Turn, Turns
from regrow.lab.runs.timing import makespan

TASKS = 100


def work_through(seconds: Sequence[float], workers: int, really: Sequence[float] | None = None):
    """Seconds until all is done, and the turns in the order they began; `really`: where tasks take other times."""
    stacks = plans(len(seconds))
    expected = {plan.id: cost for plan, cost in zip(stacks, seconds, strict=True)}
    takes = {plan.id: cost for plan, cost in zip(stacks, really or seconds, strict=True)}
    done = dict.fromkeys(expected, 0)
    turns, clock, begun = Turns(stacks, done, TASKS, workers, expected), 0.0, list[Turn]()
    at_work: list[tuple[float, int, Turn]] = []
    free = workers
    while turns.unfinished:
        while free and (turn := turns.next()):
            assert turn.plan.id not in {other.plan.id for _, _, other in at_work}
            begun.append(turn)
            free -= 1
            heapq.heappush(at_work, (clock + takes[turn.plan.id] * (turn.tasks - done[turn.plan.id]), len(begun), turn))
        clock, _, turn = heapq.heappop(at_work)
        free += 1
        done[turn.plan.id] = turn.tasks
        assert turns.ended(turn) == (turn.tasks == TASKS)
    assert set(done.values()) == {TASKS} and turns.next() is None
    return clock, begun


def bound(seconds: Sequence[float], workers: int) -> float:
    return makespan([TASKS * cost for cost in seconds], workers)


@pytest.mark.parametrize(
    ("seconds", "workers"),
    [
        ([5.1, 7.2, 2.0, 2.7], 2),  # the four settings of a study
        ([7.2, 7.2, 7.2], 2),
        ([7.2] * 7, 2),
        ([5.1, 7.2, 2.0, 2.7] * 5, 2),
        ([3.0, 3.0, 3.0, 3.0, 3.0], 4),
        ([30.0, 1.0, 1.0], 2),
        ([100.0, 100.0, 100.0], 2),  # a task longer than a turn
    ],
)
def test_all_workers_end_together(seconds, workers):
    took, begun = work_through(seconds, workers)
    assert took <= bound(seconds, workers) + 2 * max(TURN, *seconds)
    whole = begun[: max(0, len(seconds) - 2 * workers)]
    assert all(turn.tasks == TASKS for turn in whole)  # results of the first are there as soon as can be


def test_a_wrong_guess_costs_little():
    """Where the second stack takes twice what it should, and the others half."""
    guess, truth = [5.0, 5.0, 5.0, 5.0], [2.5, 10.0, 2.5, 2.5]
    took, _ = work_through(guess, 2, truth)
    assert took <= 1.2 * bound(truth, 2)


@pytest.mark.parametrize(
    ("count", "workers", "in_turns"), [(1, 2, 0), (2, 2, 0), (3, 1, 0), (2, 1, 0), (3, 2, 3), (5, 2, 3)]
)
def test_no_turns_where_they_gain_nothing(count, workers, in_turns):
    """With as many workers as stacks, or one alone; of many stacks the last few."""
    _, begun = work_through([7.2] * count, workers)
    ids = [turn.plan.id for turn in begun]
    assert sum(ids.count(plan.id) > 1 for plan in plans(count)) == in_turns


def test_what_is_done_is_not_done_again():
    stacks = plans(3)
    done: Mapping[str, int] = {stacks[0].id: TASKS, stacks[1].id: 40, stacks[2].id: 10}
    turns = Turns(stacks, done, TASKS, 2)
    assert turns.unfinished == 2
    assert [turns.next(), turns.next(), turns.next()] == [Turn(stacks[2], TASKS), Turn(stacks[1], TASKS), None]
