"""The constants behind the verdicts, each with its reason.

All were fixed before the runs that they are confirmed on. Most are ours: the paper gives no size for "maintains",
"slightly" or "stable".
"""

from typing import NamedTuple


class Margin(NamedTuple):
    """A constant, its unit, the reason for its value, and whose it is: "ours" or "paper"."""

    value: float
    unit: str
    reason: str
    source: str = "ours"


ALPHA = 0.05
"""Chance of one false finding among the statements of one numbered claim, after Holm's correction."""
SMALLEST_P = 1e-4
"""No smaller p-value is printed: it would say more of the tail of a normal law than of a handful of seeds."""

PAPER_TASKS = 1_000
LEAST_TASKS = 200  # below them nothing on permuted images is decided
LONG = 500  # tasks without which a change that is not seen may still come
LAST = 100  # tasks at the end of a run
FIRST = 50  # tasks among which the rules before these looked for an early peak
PEAK = 5  # successive tasks of a peak
START = 5  # first tasks, which later ones are compared with in the correlates
SWEEP_TASKS = 20
SCRATCH_TASKS = 10
RECOMMENDED_SEEDS = 5  # four degrees of freedom: an interval of 2.8 standard errors to each side

LEVEL = 0.5
STEEP = 2.0
DIP = 0.25
STABLE = 20.0
DEAD = 5.0
NONE_DEAD = 2.0

MARGINS = {
    "level": Margin(
        LEVEL,
        "points of accuracy",
        "one size for all that is equal, kept or slight: the paper calls 0.30 and 0.36 points equally effective "
        "(SWR 92.79, ReDo 92.49, CBP 92.43) and 0.37 slightly better (threshold 92.79, proportional 92.42), and lost "
        "what is ten points",
    ),
    "steep": Margin(
        STEEP, "points of accuracy", "four times what counts as a loss; the paper's chart shows about nine"
    ),
    "dip": Margin(DIP, "points of accuracy", "half of what counts as a loss: the paper calls it slight, not a loss"),
    "stable": Margin(
        STABLE,
        "%",
        "a change by a fifth: from task to task gradients vary by 3 to 6 % and ranks by up to a tenth, and the base "
        "system's change by half or more",
    ),
    "dead": Margin(DEAD, "points of the units", "a twentieth of all hidden units; the base system reaches a half"),
    "none dead": Margin(NONE_DEAD, "points of the units", "not to be seen on the paper's axis, which reaches 60 %"),
    "last": Margin(LAST, "tasks", "the end of a run: a tenth of the paper's; below 220 tasks the last 80"),
    "early": Margin(
        20,
        "tasks",
        "where the early window begins: accuracy rises over the first tasks, in small networks for about as long",
    ),
    "peak": Margin(
        PEAK,
        "tasks",
        "of an early peak, the first after task 0: units in small networks are at their best for about as long",
    ),
    "start": Margin(
        START, "tasks", "what correlates are compared with: by task 20 most of their change in 200 tasks is over"
    ),
    "least tasks": Margin(LEAST_TASKS, "tasks", "fewer have no end that is apart from the beginning"),
    "long": Margin(LONG, "tasks", "half of the paper's: before them a change that is not seen may still come"),
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
    "the paper's tasks on CIFAR-100": Margin(20, "tasks", "five new classes each", "paper"),
    "least tasks on CIFAR-100": Margin(LEAST, "tasks", "from fewer no trend can be seen"),
}
