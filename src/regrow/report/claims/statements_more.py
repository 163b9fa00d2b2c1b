"""Claims 10 to 12 of the paper on permuted MNIST, taken apart: sensitivity to the knobs, and the four correlates."""

from .margins import DEAD, LEVEL, NONE_DEAD, STABLE
from .quantities import Quantity, dead_at_end, growth
from .statements import FOUR, INITIAL, PERFORMANCE, Statement, Test, all_of, within
from .sweeps import peak_against, peak_height, worst_against_best

RENEWERS = ("cbp", "redo", "swr")
PROPORTIONAL = "swr-gradient-proportional-resample"
GROWTH = "mean of the last 100 tasks against that of tasks 20 to 39"
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
    """Nothing rises that rises where plasticity is lost, and nothing shrinks that shrinks there."""
    return tuple(
        [Test(growth(setting, system, name), "<", DEAD if name == "dead_units" else STABLE) for name in UP]
        + [Test(growth(setting, system, name), ">", -STABLE) for name in DOWN]
    )


def stable(setting: str, system: str) -> tuple[Test, ...]:
    """No measure ends further from where it was than its margin."""
    dead, *others = (growth(setting, system, name) for name in UP + DOWN)
    return all_of([within(dead, -DEAD, DEAD), *(within(other, -STABLE, STABLE) for other in others)])


def other_order(setting: str, system: str, *measures: str) -> tuple[Quantity, ...]:
    """Measures of a unit method in the authors' order, to be told beside."""
    return tuple(growth(setting, f"{system}-authors", name) for name in measures)


SENSITIVITY = (
    Statement(
        "10a",
        "Threshold pruning is insensitive to its knobs near the best values.",
        "figure 8f and appendix B",
        "mean accuracy of the best config of the sweep minus the mean of its neighbours, one step away in one knob. "
        f"Insensitive: below {LEVEL} points.",
        (Test(peak_height("large", "swr"), "<", LEVEL),),
        study=INITIAL,
        prefer="seeds",
    ),
    Statement(
        "10b",
        "Proportional pruning is more sensitive than threshold pruning.",
        "figures 8b and 8f, appendix B",
        "how far the best config stands above its neighbours, proportional minus threshold. Holds: above 0.",
        (Test(peak_against("large", PROPORTIONAL, "swr"), ">", 0.0),),
        study=INITIAL,
        prefer="seeds",
    ),
    Statement(
        "10c",
        "Under layer norm even the worst values of selective weight reinitialization beat all values of the unit "
        "methods.",
        "figures 9b and 9d, appendix B",
        "mean accuracy of the worst config of its sweep minus that of the best config of both others. Holds: above 0 "
        "in both settings.",
        tuple(Test(worst_against_best(place, "swr", "cbp", "redo"), ">", 0.0) for place in ("large-ln", "small-ln")),
        prefer="seeds",
    ),
)

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
        "Selective weight reinitialization (gradient utility, resampling, either pruning) avoids all four.",
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
    ),
    Statement(
        "12a",
        "Under layer norm the weights of continual backpropagation grow and its gradients shrink.",
        "figures 12 and 14, appendix C",
        f"{GROWTH}. Holds: by more than {STABLE:g} % each, in both settings.",
        all_of(
            rises(place, "cbp", "weight_magnitude") + shrinks(place, "cbp", "gradient_magnitude")
            for place in ("large-ln", "small-ln")
        ),
        beside=other_order("large-ln", "cbp", "weight_magnitude", "gradient_magnitude"),
    ),
    Statement(
        "12b",
        "In the small network with layer norm ReDo loses rank and gradient.",
        "figure 14 and appendix C",
        f"{GROWTH}. Holds: both fall by more than {STABLE:g} %.",
        shrinks("small-ln", "redo", "rank99", "gradient_magnitude"),
        beside=other_order("small-ln", "redo", "rank99", "gradient_magnitude"),
    ),
    Statement(
        "12c",
        "In the large network with layer norm L2 loses rank and gradient.",
        "figure 12 and appendix C",
        f"{GROWTH}. Holds: both fall by more than {STABLE:g} %.",
        shrinks("large-ln", "l2", "rank99", "gradient_magnitude"),
    ),
)

STATEMENTS = (*PERFORMANCE, *SENSITIVITY, *CORRELATES)
"""All statements, in the paper's order of claims."""
