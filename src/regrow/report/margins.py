"""The constants behind the verdicts, each with its reason.

They were fixed before the runs that are judged by them, from the paper and one short trial of the base system.
"""

from typing import NamedTuple


class Margin(NamedTuple):
    """A constant, its unit, and the reason for its value."""

    value: float
    unit: str
    reason: str


ALPHA = 0.05
"""Chance of one false finding among all statements judged, after Holm's correction."""

PAPER_TASKS = 1_000
LEAST_TASKS = 200  # without them the first 50 and the last 100 tasks are no two ends of a run
LAST = 100  # tasks at the end of a run
FIRST = 50  # tasks among which the early peak is looked for
PEAK = 5  # successive tasks of a peak
SETTLED = slice(20, 40)  # tasks that later ones are compared with in the correlates
SWEEP_TASKS = 20
SCRATCH_TASKS = 10
RECOMMENDED_SEEDS = 5  # four degrees of freedom: an interval of 2.8 standard errors to each side

LEVEL = 0.5
SLIGHT = 1.0
STEEP = 2.0
DIP = 0.25
STABLE = 20.0
DEAD = 5.0
NONE_DEAD = 2.0

MARGINS = {
    "level": Margin(
        LEVEL,
        "points of accuracy",
        "the paper calls systems 0.3 to 0.4 points apart equally effective (92.79, 92.43, 92.49); what it calls lost "
        "is ten points; the best of many windows of a flat course lies 0.1 to 0.3 points above its mean by chance",
    ),
    "slight": Margin(SLIGHT, "points of accuracy", "more than that the paper's text does not call slight"),
    "steep": Margin(
        STEEP, "points of accuracy", "four times what counts as a loss; the paper's chart shows about nine"
    ),
    "dip": Margin(DIP, "points of accuracy", "half of what counts as a loss, and about what choosing a peak makes"),
    "stable": Margin(STABLE, "%", "a change by a fifth; the paper's charts show the base system's change severalfold"),
    "dead": Margin(DEAD, "points of the units", "a twentieth of all hidden units; the base system reaches a half"),
    "none dead": Margin(NONE_DEAD, "points of the units", "not to be seen on the paper's axis, which reaches 60 %"),
    "last": Margin(LAST, "tasks", "the end of a run: a tenth of the paper's"),
    "first": Margin(FIRST, "tasks", "where the early peak of accuracy is looked for: a twentieth of the paper's run"),
    "peak": Margin(PEAK, "tasks", "of the peak: networks without layer norm are at their best for about that long"),
    "least tasks": Margin(LEAST_TASKS, "tasks", "fewer have no end that is apart from the beginning"),
}


LEAST = 4  # tasks: fewer show no trend
TEN, FOUR = (5.0, 15.0), (2.0, 6.0)  # what "close to ten" and "four" points are taken for
CLOSER = 1.0
COLLAPSE = 50.0
RATE = 5.0
ORDER = 0.1
NEVER, SOME = 0.25, 0.05

VIT_MARGINS = {
    "about ten": Margin(TEN[1], "points of accuracy", "close to ten: between 5 and 15"),
    "about four": Margin(FOUR[1], "points of accuracy", "between 2 and 6: half of it to half as much again"),
    "closer": Margin(
        CLOSER, "points of accuracy", "a gap of ten points that is smaller by less than one is not closed"
    ),
    "collapse": Margin(COLLAPSE, "%", "the paper's chart shows a fall to a tenth"),
    "rate": Margin(RATE, "% a task", "exponential: over 20 tasks to less than two fifths of what it was"),
    "class order": Margin(ORDER, "of rank correlation", "the paper's lie from 0.04 to 0.07, and from 0.11 to 0.13"),
    "never": Margin(NEVER, "of the runs", "none of so many runs that a quarter of all is ruled out"),
    "some": Margin(SOME, "of the runs", "fewer than the paper's one in twenty"),
    "the paper's tasks on CIFAR-100": Margin(20, "tasks", "five new classes each"),
    "least tasks on CIFAR-100": Margin(LEAST, "tasks", "from fewer no trend can be seen"),
}
