"""Claims 13 to 18 of the paper, on class-incremental CIFAR-100, taken apart."""

from collections.abc import Iterable
from functools import partial

from ...lab.studies import VIT_SETTINGS
from ..margins import CLOSER, COLLAPSE, FOUR, LEAST, NEVER, ORDER, RATE, SOME, TEN
from ..results_vit import STUDY, TASKS
from ..style import METHODS, REPARAM, STANDARD
from .quantity import Quantity
from .statement import Statement, Test, all_of, within
from .vit_quantities import ahead, below_fresh, change, class_order, closer, diverging, last_ahead, last_gap, rate

NODECAY = "vit-nodecay"
UNSCALED = (STANDARD, REPARAM, NODECAY)
SCALED = [(name, setting) for name, setting in VIT_SETTINGS.items() if setting.scaled]
SHRINKING, STEADY = ("base", "cbp", "redo"), ("shrink-perturb", "swr")
GAP = "accuracy on the last task minus that of a network trained from scratch on the same classes, by seed"
LAST = "difference of accuracy on the last task, by seed"
MEAN = "difference of mean accuracy over all tasks, by seed"
SHRINK = (
    f"fitted slope of the logarithm over tasks, as percent a task; runs that diverged are left out. Shrinks "
    f"exponentially: below −{RATE:g} % a task"
)
COUNT = (
    "share of runs whose loss stopped being a number. In some: one did; fails where none of so many did that a share "
    f"of {100 * SOME:g} % is ruled out. Never: none did, of so many that {100 * NEVER:g} % are ruled out"
)

_claim = partial(Statement, study=STUDY, tasks=TASKS, asks=TASKS, least=LEAST, long=LEAST)


def scale(setting: str) -> Quantity:
    """Change of the norms' scale."""
    return change(setting, "base", "ln_scale", "the norms' scale")


def qk(setting: str, system: str) -> Quantity:
    """Rate of the query and key weights of the last block."""
    return rate(setting, system, "qk_median_last", "queries and keys, last block")


def mlp(system: str) -> Quantity:
    """Rate of the MLP weights of the last block."""
    return rate(REPARAM, system, "mlp_median_last", "MLP weights, last block")


def over_all(system: str) -> tuple[Quantity, ...]:
    """Rates of attention weights over all blocks; of CBP those of the MLPs as well."""
    attention = rate(REPARAM, system, "qkv_mean", "attention weights, all blocks")
    return attention, *((rate(REPARAM, system, "mlp_mean", "MLP weights, all blocks"),) if system == "cbp" else ())


def below(quantities: Iterable[Quantity], bound: float) -> tuple[Test, ...]:
    """All below a bound."""
    return tuple(Test(quantity, "<", bound) for quantity in quantities)


def above(quantities: Iterable[Quantity], bound: float) -> tuple[Test, ...]:
    """All above a bound."""
    return tuple(Test(quantity, ">", bound) for quantity in quantities)


NORM = (
    _claim(
        "13a",
        "Trained class by class, a vision transformer with the standard layer norm lets the norms' scale collapse.",
        "section 5 and figure 3a",
        f"mean |scale| after the last task against that after the first. Collapse: below −{COLLAPSE:g} %.",
        below([scale(STANDARD)], -COLLAPSE),
    ),
    _claim(
        "13b",
        "Trained class by class, the norms' scale ends below that of a network trained from scratch.",
        "figure 3a",
        "mean |scale| after the last task against the fresh network's, by seed. True: below 0.",
        below([below_fresh(STANDARD, "base", "ln_scale", "the norms' scale")], 0.0),
    ),
    _claim(
        "13c",
        "With the standard norm the base trails a network trained from scratch by about ten points on the last task.",
        "section 5 and figure 3b",
        f"{GAP}. About ten: between −{TEN[1]:g} and −{TEN[0]:g} points.",
        within(last_gap(STANDARD, "base"), -TEN[1], -TEN[0]),
    ),
    _claim(
        "13d",
        "With the reparametrized norm the base trails a network trained from scratch by about four points.",
        "section 5 and figure 3b",
        f"{GAP}. About four: between −{FOUR[1]:g} and −{FOUR[0]:g} points.",
        within(last_gap(REPARAM, "base"), -FOUR[1], -FOUR[0]),
    ),
    _claim(
        "13e",
        "The reparametrized norm makes the gap to a network trained from scratch smaller.",
        "section 5 and figure 3b",
        f"{GAP}: with the reparametrized norm, less that with the standard norm. True: above 0.",
        above([closer(REPARAM, STANDARD)], 0.0),
    ),
)

RENEWAL = (
    _claim(
        "14a",
        "With the reparametrized norm selective weight reinitialization loses least on the last task.",
        "section 5 and figure 3c",
        f"{LAST}, to base and each other method. True: all above 0.",
        above((last_ahead(REPARAM, "swr", other) for other in ("base", "shrink-perturb", "cbp", "redo")), 0.0),
    ),
    _claim(
        "14b",
        "No method keeps plasticity whole: all end below a network trained from scratch.",
        "section 5 and figure 3c",
        f"{GAP}. True: all below 0.",
        below((last_gap(REPARAM, system) for system in ("base", *METHODS)), 0.0),
    ),
    _claim(
        "14c",
        "Selective weight reinitialization and shrink-and-perturb never diverge.",
        "section 5 and figure 3c",
        f"{COUNT}.",
        below((diverging(REPARAM, system, NEVER) for system in STEADY), 0.0),
    ),
    _claim(
        "14d",
        "The base, continual backpropagation and ReDo diverge in some runs.",
        "section 5, figures 3b and 3c, appendix E",
        f"{COUNT}.",
        above((diverging(REPARAM, system, SOME) for system in SHRINKING), 0.0),
    ),
    _claim(
        "15a",
        "With the standard norm every method ends below a network trained from scratch.",
        "section 5, appendix F and figure 18",
        f"{GAP}. True: all below 0.",
        below((last_gap(STANDARD, system) for system in METHODS), 0.0),
    ),
    _claim(
        "15b",
        "With the standard norm no method makes the gap smaller than the base's.",
        "section 5, appendix F and figure 18",
        f"{LAST}, to base. Not smaller: below +{CLOSER:g} point.",
        below((last_ahead(STANDARD, system, "base") for system in METHODS), CLOSER),
    ),
)

DECAY = (
    _claim(
        "16a",
        "Decay that does not follow the step size beats decay that does, whatever the norm.",
        "appendix D and figure 15a",
        f"{MEAN}, unscaled minus scaled. True: above 0 in all three.",
        above((ahead(setting.unscaled, name) for name, setting in SCALED), 0.0),
    ),
    _claim(
        "16b",
        "The reparametrized norm beats leaving biases and norms without decay.",
        "appendix D and figure 15a",
        f"{MEAN}. True: above 0.",
        above([ahead(REPARAM, NODECAY)], 0.0),
    ),
    _claim(
        "16c",
        "Leaving biases and norms without decay beats the standard norm with decay.",
        "appendix D and figure 15a",
        f"{MEAN}. True: above 0.",
        above([ahead(NODECAY, STANDARD)], 0.0),
    ),
    _claim(
        "16d",
        "Leaving biases and norms without decay keeps the norms' scale from collapsing.",
        "appendix D and figure 15b",
        f"mean |scale| after the last task against that after the first. No collapse: above −{COLLAPSE:g} %.",
        above([scale(NODECAY)], -COLLAPSE),
    ),
)

WEIGHTS = (
    _claim(
        "17a",
        "Query and key weights of the last block shrink exponentially in the base (either norm), CBP and ReDo.",
        "appendix E and figure 16a",
        f"median |w|, {SHRINK}.",
        below((*(qk(REPARAM, system) for system in SHRINKING), qk(STANDARD, "base")), -RATE),
    ),
    _claim(
        "17b",
        "Under selective weight reinitialization and shrink-and-perturb query and key weights do not shrink so.",
        "appendix E and figure 16a",
        f"median |w|, {SHRINK}.",
        above((qk(REPARAM, system) for system in STEADY), -RATE),
    ),
    _claim(
        "17c",
        "MLP weights of the last block shrink exponentially under continual backpropagation.",
        "appendix E and figure 16b",
        f"median |w|, {SHRINK}.",
        below([mlp("cbp")], -RATE),
    ),
    _claim(
        "17d",
        "Under ReDo, selective weight reinitialization and shrink-and-perturb MLP weights do not shrink so.",
        "appendix E and figure 16b",
        f"median |w|, {SHRINK}.",
        above((mlp(system) for system in ("redo", *STEADY)), -RATE),
    ),
    _claim(
        "17e",
        "Means over the whole network hide that weights of the last block shrink.",
        "appendix E, figures 16c and 16d",
        f"mean |w| over all blocks, attention in base, CBP and ReDo, MLPs in CBP, {SHRINK}. Hidden: none does.",
        above((quantity for system in SHRINKING for quantity in over_all(system)), -RATE),
    ),
)

ORDERS = (
    _claim(
        "18a",
        "Where the decay does not follow the step size, the order of the classes does not predict their accuracy.",
        "appendix D and table 6",
        "Spearman's correlation of order and accuracy after the last task, by seed. None: within ±"
        f"{ORDER:g} in all three (two one-sided tests).",
        all_of(within(class_order(name), -ORDER, ORDER) for name in UNSCALED),
    ),
    _claim(
        "18b",
        "Where the decay follows the step size, later classes have higher accuracy.",
        "appendix D and table 6",
        "Spearman's correlation of order and accuracy after the last task, by seed. True: above 0 in all three; the "
        "paper says so at a level of 10 %.",
        above((class_order(name) for name, _ in SCALED), 0.0),
    ),
)

STATEMENTS = (*NORM, *RENEWAL, *DECAY, *WEIGHTS, *ORDERS)
"""All statements, in the paper's order of claims."""
