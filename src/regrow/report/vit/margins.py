"""The constants behind the verdicts on CIFAR-100, each with its reason.

They were fixed from the paper, before the runs that are judged by them.
"""

from ..claims.margins import Margin

LEAST = 4  # tasks: of fewer no trend can be told
TEN, FOUR = (5.0, 15.0), (2.0, 6.0)  # what "close to ten" and "four" points are taken for
CLOSER = 1.0
COLLAPSE = 50.0
RATE = 5.0
ORDER = 0.1
NEVER, SOME = 0.25, 0.05

MARGINS = {
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
    "least tasks on CIFAR-100": Margin(LEAST, "tasks", "of fewer no trend can be told"),
}
