"""Claims 11 and 12: what goes with lost plasticity, figures 10 to 14."""

from collections.abc import Iterable

from ..margins import DEAD, NONE_DEAD, STABLE
from ..style import FOUR
from .correlates_quantities import dead_at_end, growth, growth_later
from .patterns import PROPORTIONAL
from .quantity import Quantity
from .statement import INITIAL, Statement, Test, all_of, within

RENEWERS = ("cbp", "redo", "swr")
GROWTH = (
    "mean of the last 100 tasks against that of tasks 0 to 4, or 1 to 5 for dead units and rank, which are measured "
    "before a task is trained"
)
UP, DOWN = ("dead_units", "weight_magnitude"), ("gradient_magnitude", "rank99")


def rises(setting: str, system: str, *measures: str) -> tuple[Test, ...]:
    """Each measure ends higher by more than its margin."""
    return tuple(
        Test(growth(setting, system, name), ">", DEAD if name == "dead_units" else STABLE) for name in measures
    )


def shrinks(setting: str, system: str, *measures: str) -> tuple[Test, ...]:
    """Each measure ends lower by more than its margin."""
    return tuple(Test(growth(setting, system, name), "<", -STABLE) for name in measures)


def avoids(setting: str, system: str) -> tuple[Test, ...]:
    """Nothing rises or shrinks that does where plasticity is lost."""
    return tuple(
        [Test(growth(setting, system, name), "<", DEAD if name == "dead_units" else STABLE) for name in UP]
        + [Test(growth(setting, system, name), ">", -STABLE) for name in DOWN]
    )


def stable(setting: str, system: str) -> tuple[Test, ...]:
    """No measure ends further from where it was than its margin."""
    dead, *others = (growth(setting, system, name) for name in UP + DOWN)
    return all_of([within(dead, -DEAD, DEAD), *(within(other, -STABLE, STABLE) for other in others)])


def since_later(settings: Iterable[str], system: str, *measures: str) -> tuple[Quantity, ...]:
    """Measures against tasks 20 to 39 in place of the first, to be shown beside."""
    return tuple(growth_later(setting, system, name) for setting in settings for name in measures)


def other_order(setting: str, system: str, *measures: str) -> tuple[Quantity, ...]:
    """Measures of a unit method in the authors' order, to be shown beside."""
    return tuple(growth(setting, f"{system}-authors", name) for name in measures)


CORRELATES = (
    Statement(
        "11a",
        "In the base system dead units and weights grow, gradients and the rank shrink.",
        "figure 10 and appendix C",
        f"{GROWTH}. Grow, shrink: by more than {DEAD:g} points of all units (dead units), {STABLE:g} % (the others).",
        rises("large", "base", *UP) + shrinks("large", "base", *DOWN),
    ),
    Statement(
        "11b",
        "Selective weight reinitialization by gradient (resampling, either pruning) avoids these changes of the base.",
        "figure 10 and appendix C",
        f"{GROWTH}. Avoided: no rise by {DEAD:g} points of all units (dead units) or {STABLE:g} % (weights), no fall "
        f"by {STABLE:g} % (gradients, rank).",
        avoids("large", "swr") + avoids("large", PROPORTIONAL),
        study=INITIAL,
    ),
    Statement(
        "11c",
        "No renewal method leaves dead units, in any of the four settings.",
        "figures 11 to 14, appendix C",
        f"share of dead units, mean of the last 100 tasks. None: below {NONE_DEAD:g} % of all hidden units.",
        tuple(Test(dead_at_end(place, system), "<", NONE_DEAD) for place in FOUR for system in RENEWERS),
    ),
    Statement(
        "11d",
        "Without layer norm all four measures stay stable for all renewal methods.",
        "figures 11 and 13, appendix C",
        f"{GROWTH}. Stable: within ±{DEAD:g} points of all units (dead units), ±{STABLE:g} % (the others).",
        all_of(stable(place, system) for place in ("large", "small") for system in RENEWERS),
        beside=tuple(
            quantity for system in RENEWERS for quantity in since_later(("large", "small"), system, *UP, *DOWN)
        ),
    ),
    Statement(
        "12a",
        "Under layer norm the weights of continual backpropagation grow and its gradients shrink.",
        "figures 12 and 14, appendix C",
        f"{GROWTH}. True: by more than {STABLE:g} % each, in both settings.",
        all_of(
            rises(place, "cbp", "weight_magnitude") + shrinks(place, "cbp", "gradient_magnitude")
            for place in ("large-ln", "small-ln")
        ),
        beside=since_later(("large-ln", "small-ln"), "cbp", "weight_magnitude", "gradient_magnitude")
        + other_order("large-ln", "cbp", "weight_magnitude", "gradient_magnitude"),
    ),
    Statement(
        "12b",
        "In the small network with layer norm ReDo loses rank and gradient.",
        "figure 14 and appendix C",
        f"{GROWTH}. True: both fall by more than {STABLE:g} %.",
        shrinks("small-ln", "redo", "rank99", "gradient_magnitude"),
        beside=since_later(("small-ln",), "redo", "rank99", "gradient_magnitude")
        + other_order("small-ln", "redo", "rank99", "gradient_magnitude"),
    ),
    Statement(
        "12c",
        "In the large network with layer norm L2 loses rank and gradient.",
        "figure 12 and appendix C",
        f"{GROWTH}. True: both fall by more than {STABLE:g} %.",
        shrinks("large-ln", "l2", "rank99", "gradient_magnitude"),
        beside=since_later(("large-ln",), "l2", "rank99", "gradient_magnitude"),
    ),
)
