"""Claim 9: other optimizers, figure 7."""

from ..margins import LEVEL
from .patterns import AHEAD, KEEPS, LOSES, OTHERS, beats, keeps, loses
from .quantities import ahead
from .statement import OPTIMIZERS, Statement, all_of, within

WITH_OPTIMIZERS = (
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
        "With SGDW and momentum selective weight reinitialization is at least second best of six.",
        "figure 7 and appendix A",
        f"{AHEAD}, to each of the other five. True: at least four above 0.",
        beats("large-sgdw", "swr", *OTHERS),
        study=OPTIMIZERS,
        at_least=4,
    ),
    Statement(
        "9d",
        "With AdamW selective weight reinitialization is level with continual backpropagation and ReDo.",
        "figure 7 and appendix A",
        f"{AHEAD}. Level: within ±{LEVEL} points (two one-sided tests).",
        all_of(within(ahead("large-adamw", "swr", other), -LEVEL, LEVEL) for other in ("cbp", "redo")),
        study=OPTIMIZERS,
    ),
    Statement(
        "9e",
        "With AdamW all three renewal methods perform above L2 and shrink-and-perturb.",
        "figure 7 and appendix A",
        f"{AHEAD}. True: all six above 0.",
        all_of(beats("large-adamw", system, "l2", "shrink-perturb") for system in ("swr", "cbp", "redo")),
        study=OPTIMIZERS,
    ),
)
