"""Claims 1 to 12 of the paper, on permuted MNIST, taken apart."""

from ..margins import DEAD, DIP, LEVEL, NONE_DEAD, SLIGHT, STABLE, STEEP
from ..style import FOUR
from .quantities import against_fresh, ahead, change, dead_at_end, drop, drop_against, growth
from .quantity import Quantity
from .statement import Statement, Test, all_of, within
from .sweeps import peak_against, peak_height, worst_against_best

INITIAL, UNITS, OPTIMIZERS = "initial-assessment", "weights-vs-units", "optimizers"
OTHERS = ("base", "l2", "shrink-perturb", "cbp", "redo")


DROP = (
    "end minus early peak: the mean accuracy of the last 100 tasks minus the best mean of 5 successive tasks among the "
    "first 50"
)
KEEPS = f"{DROP}. Kept: above −{LEVEL} points (a rise is no loss)."
LOSES = f"{DROP}. Lost: below −{LEVEL} points."
AHEAD = "difference of mean accuracy over all tasks, by seed"


def keeps(setting: str, *systems: str) -> tuple[Test, ...]:
    """Each system ends no more than the margin below its early peak."""
    return tuple(Test(drop(setting, system), ">", -LEVEL) for system in systems)


def loses(setting: str, *systems: str, by: float = LEVEL) -> tuple[Test, ...]:
    """Each system ends below its early peak, by more than so many points."""
    return tuple(Test(drop(setting, system), "<", -by) for system in systems)


def steady(setting: str, *systems: str) -> tuple[Test, ...]:
    """Each system's accuracy changes by less than the margin over the last half of the tasks."""
    return tuple(test for system in systems for test in within(change(setting, system), -LEVEL, LEVEL))


def beats(setting: str, system: str, *others: str, by: float = 0.0) -> tuple[Test, ...]:
    """A system is ahead of each of the others, by more than so many points."""
    return tuple(Test(ahead(setting, system, other), ">", by) for other in others)


def fresh(setting: str, *systems: str) -> tuple[Quantity, ...]:
    """Systems against a fresh network, to be shown beside."""
    return tuple(against_fresh(setting, system) for system in systems)


def authors(setting: str, *systems: str) -> tuple[Quantity, ...]:
    """Drops of unit methods in the authors' order, to be shown beside."""
    return tuple(drop(setting, f"{system}-authors") for system in systems)


PERFORMANCE = (
    Statement(
        "1a",
        "The base system loses plasticity in the large network.",
        "figures 1 and 2a",
        LOSES,
        loses("large", "base"),
        beside=fresh("large", "base"),
    ),
    Statement(
        "1b",
        "At the end the base system does worse than a fresh network: the paper's definition of lost plasticity.",
        "section 2 and figure 1",
        "mean accuracy of the last 100 tasks minus that of a network freshly initialised for every task, by seed. "
        "Holds: below 0.",
        (Test(against_fresh("large", "base"), "<", 0.0),),
    ),
    Statement(
        "1c",
        "L2 and shrink-and-perturb keep plasticity in the large network.",
        "figures 1 and 2a",
        KEEPS,
        keeps("large", "l2", "shrink-perturb"),
        beside=fresh("large", "l2", "shrink-perturb"),
    ),
    Statement(
        "1d",
        "With AdamW, L2 and shrink-and-perturb dip slightly.",
        "figure 7 and appendix A",
        f"{DROP}. A dip: below −{DIP} points. Slightly: less of it than of the base system's.",
        all_of(
            (Test(drop("large-adamw", system), "<", -DIP), Test(drop_against("large-adamw", system, "base"), ">", 0.0))
            for system in ("l2", "shrink-perturb")
        ),
        study=OPTIMIZERS,
    ),
    Statement(
        "2a",
        "Selective weight reinitialization with gradient utility and resampling keeps plasticity with either pruning.",
        "figure 1",
        KEEPS,
        keeps("large", "swr", "swr-gradient-proportional-resample"),
        study=INITIAL,
        beside=fresh("large", "swr", "swr-gradient-proportional-resample"),
    ),
    Statement(
        "2b",
        "Of the two prunings, threshold is slightly better.",
        "figure 1 and its takeaways",
        f"{AHEAD}. Better: above 0. Slightly: below {SLIGHT} point.",
        within(ahead("large", "swr", "swr-gradient-proportional-resample"), 0.0, SLIGHT),
        study=INITIAL,
        prefer="seeds",
    ),
    Statement(
        "3a",
        "Mean reinitialization with gradient utility loses plasticity in all settings but one.",
        "figures 1, 5 and 6",
        f"{LOSES} In at least 7 of 8 cases: four settings, two prunings.",
        all_of(loses(place, "swr-gradient-threshold-mean", "swr-gradient-proportional-mean") for place in FOUR),
        at_least=7,
    ),
    Statement(
        "3b",
        "In the small network with layer norm, mean reinitialization beats resampling under proportional pruning.",
        "figure 5d",
        f"{AHEAD}. Holds: above 0.",
        beats("small-ln", "swr-gradient-proportional-mean", "swr-gradient-proportional-resample"),
        prefer="seeds",
    ),
    Statement(
        "3c",
        "Magnitude utility loses plasticity, with either pruning and either way to renew.",
        "figure 4",
        LOSES,
        loses(
            "large",
            *(
                f"swr-magnitude-{prune}-{reinit}"
                for prune in ("threshold", "proportional")
                for reinit in ("resample", "mean")
            ),
        ),
        study=INITIAL,
    ),
    Statement(
        "4a",
        "In the large network continual backpropagation, ReDo and selective weight reinitialization all stay flat.",
        "figure 2a",
        f"{DROP}: above −{LEVEL} points; and the slope over the last half of the tasks times their number: within "
        f"±{LEVEL} points.",
        keeps("large", "cbp", "redo", "swr") + steady("large", "cbp", "redo", "swr"),
        beside=fresh("large", "cbp", "redo", "swr") + authors("large", "cbp", "redo"),
    ),
    Statement(
        "4b",
        "In the large network renewing weights and renewing units are equally effective.",
        "figure 2a and the abstract",
        f"{AHEAD}. Equal: within ±{LEVEL} points (two one-sided tests).",
        all_of(within(ahead("large", "swr", other), -LEVEL, LEVEL) for other in ("cbp", "redo")),
        prefer="seeds",
    ),
    Statement(
        "5a",
        "In the large network with layer norm continual backpropagation loses plasticity.",
        "figure 2b",
        LOSES,
        loses("large-ln", "cbp"),
        beside=fresh("large-ln", "cbp") + authors("large-ln", "cbp"),
    ),
    Statement(
        "5b",
        "There ReDo performs below selective weight reinitialization.",
        "figure 2b",
        f"{AHEAD}. Holds: above 0.",
        beats("large-ln", "swr", "redo"),
        prefer="seeds",
        beside=(ahead("large-ln", "swr", "redo-authors"),),
    ),
    Statement(
        "5c",
        "There selective weight reinitialization is the best of all six systems.",
        "figure 2b",
        f"{AHEAD}, to each of the other five. Holds: all above 0.",
        beats("large-ln", "swr", *OTHERS),
        prefer="seeds",
    ),
    Statement(
        "6a",
        "In the small network continual backpropagation and ReDo drop after the first tasks, then level off.",
        "figure 2c",
        f"{DROP}: below −{LEVEL} points; and the slope over the last half of the tasks times their number: within "
        f"±{LEVEL} points.",
        loses("small", "cbp", "redo") + steady("small", "cbp", "redo"),
        beside=fresh("small", "cbp", "redo") + authors("small", "cbp", "redo"),
    ),
    Statement(
        "6b",
        "There selective weight reinitialization keeps plasticity.",
        "figure 2c",
        KEEPS,
        keeps("small", "swr"),
        beside=fresh("small", "swr"),
    ),
    Statement(
        "6c",
        "There selective weight reinitialization performs above both unit methods.",
        "figure 2c",
        f"{AHEAD}. Holds: both above 0.",
        beats("small", "swr", "cbp", "redo"),
        prefer="seeds",
        beside=tuple(ahead("small", "swr", f"{system}-authors") for system in ("cbp", "redo")),
    ),
    Statement(
        "7a",
        "In the small network with layer norm both unit methods drop steeply.",
        "figure 2d",
        f"{DROP}. Steeply: below −{STEEP} points.",
        loses("small-ln", "cbp", "redo", by=STEEP),
        beside=fresh("small-ln", "cbp", "redo") + authors("small-ln", "cbp", "redo"),
    ),
    Statement(
        "7b",
        "There selective weight reinitialization keeps plasticity.",
        "figure 2d",
        KEEPS,
        keeps("small-ln", "swr"),
        beside=fresh("small-ln", "swr"),
    ),
    Statement(
        "7c",
        "There selective weight reinitialization is the best of all six systems.",
        "figure 2d",
        f"{AHEAD}, to each of the other five. Holds: all above 0.",
        beats("small-ln", "swr", *OTHERS),
        prefer="seeds",
    ),
    Statement(
        "8a",
        "Selective weight reinitialization is at least as good as L2 in three of the four settings.",
        "figure 2 and section 4",
        f"{AHEAD}. At least as good: above −{LEVEL} points.",
        all_of(beats(place, "swr", "l2", by=-LEVEL) for place in FOUR),
        at_least=3,
        prefer="seeds",
    ),
    Statement(
        "8b",
        "With layer norm selective weight reinitialization performs above shrink-and-perturb.",
        "figures 2b and 2d, section 4",
        f"{AHEAD}. Holds: above 0 in both.",
        beats("large-ln", "swr", "shrink-perturb") + beats("small-ln", "swr", "shrink-perturb"),
        prefer="seeds",
    ),
    Statement(
        "9a",
        "The base system loses plasticity with SGD, with SGDW and momentum, and with AdamW.",
        "figure 7a",
        LOSES,
        all_of(loses(place, "base") for place in ("large", "large-sgdw", "large-adamw")),
        study=OPTIMIZERS,
    ),
    Statement(
        "9b",
        "Selective weight reinitialization keeps plasticity with SGDW and momentum and with AdamW.",
        "figure 7",
        KEEPS,
        keeps("large-sgdw", "swr") + keeps("large-adamw", "swr"),
        study=OPTIMIZERS,
    ),
    Statement(
        "9c",
        "With SGDW and momentum it is at least second best of six.",
        "figure 7 and appendix A",
        f"{AHEAD}, to each of the other five. Holds: at least four above 0.",
        beats("large-sgdw", "swr", *OTHERS),
        study=OPTIMIZERS,
        at_least=4,
        prefer="seeds",
    ),
    Statement(
        "9d",
        "With AdamW it is level with continual backpropagation and ReDo.",
        "figure 7 and appendix A",
        f"{AHEAD}. Level: within ±{LEVEL} points (two one-sided tests).",
        all_of(within(ahead("large-adamw", "swr", other), -LEVEL, LEVEL) for other in ("cbp", "redo")),
        study=OPTIMIZERS,
        prefer="seeds",
    ),
    Statement(
        "9e",
        "With AdamW all three renewal methods perform above L2 and shrink-and-perturb.",
        "figure 7 and appendix A",
        f"{AHEAD}. Holds: all six above 0.",
        all_of(beats("large-adamw", system, "l2", "shrink-perturb") for system in ("swr", "cbp", "redo")),
        study=OPTIMIZERS,
        prefer="seeds",
    ),
)


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
    """Nothing rises or shrinks that does where plasticity is lost."""
    return tuple(
        [Test(growth(setting, system, name), "<", DEAD if name == "dead_units" else STABLE) for name in UP]
        + [Test(growth(setting, system, name), ">", -STABLE) for name in DOWN]
    )


def stable(setting: str, system: str) -> tuple[Test, ...]:
    """No measure ends further from where it was than its margin."""
    dead, *others = (growth(setting, system, name) for name in UP + DOWN)
    return all_of([within(dead, -DEAD, DEAD), *(within(other, -STABLE, STABLE) for other in others)])


def other_order(setting: str, system: str, *measures: str) -> tuple[Quantity, ...]:
    """Measures of a unit method in the authors' order, to be shown beside."""
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
