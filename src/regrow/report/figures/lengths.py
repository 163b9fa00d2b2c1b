"""Which runs of a line are drawn: all of its seeds, or its longest, so that a line is of the same runs throughout."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ...lab.runs.text import counted
from ..runs import NEAR, Run
from ..stats import SEEDS

BEGUN = 0.1
"""A seed with a smaller share of the longest run's tasks has only begun, and is left out."""

Choose = Callable[[Sequence[Run]], Sequence[Run]]


def most_seeds(runs: Sequence[Run]) -> Sequence[Run]:
    """All seeds, over the tasks that all of them have."""
    return _at_least(runs, BEGUN)


def longest(runs: Sequence[Run]) -> Sequence[Run]:
    """The longest runs, over the tasks that all of them have."""
    return _at_least(runs, NEAR)


def choices(groups: Iterable[Sequence[Run]]) -> tuple[Choose, ...]:
    """One choice, or two where every line has fewer seeds that are longer; the first is what a reader sees.

    The longest runs come first where there are enough seeds of them for an interval.

    Args:
        groups: the runs of each line.
    """
    groups = [runs for runs in groups if runs]
    tasks = max((run.tasks for runs in groups for run in runs), default=0)
    ends = [max(run.tasks for run in runs) for runs in groups]
    if not groups or min(ends) < NEAR * tasks or all(len(longest(runs)) == len(most_seeds(runs)) for runs in groups):
        return (most_seeds,)
    enough = min(len(longest(runs)) for runs in groups) >= SEEDS
    return (longest, most_seeds) if enough else (most_seeds, longest)


def until(runs: Sequence[Run], tasks: int) -> list[Run]:
    """Runs without the tasks from this one on."""
    return [run if run.tasks <= tasks else replace(run, rows=run.rows.head(tasks)) for run in runs]


def in_words(groups: Iterable[Sequence[Run]]) -> str:
    """How long runs are and how many seeds lines have.

    Example:
        >>> in_words([])
        ''
    """
    groups = [runs for runs in groups if runs]
    if not groups:
        return ""
    tasks = _range((max(run.tasks for run in runs) for runs in groups), "task")
    return f"{tasks}, {_range(map(len, groups), 'seed')}"


def _range(numbers: Iterable[int], what: str) -> str:
    ends = sorted(set(numbers))
    return counted(ends[0], what) if len(ends) == 1 else f"{ends[0]:,} to {counted(ends[-1], what)}"


def _at_least(runs: Sequence[Run], share: float) -> Sequence[Run]:
    most = max((run.tasks for run in runs), default=0)
    kept = [run for run in runs if run.tasks >= share * most]
    return until(kept, min((run.tasks for run in kept), default=0))
