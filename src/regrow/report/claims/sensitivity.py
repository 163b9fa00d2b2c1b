"""Claim 10: how much depends on the hyper-parameters, figures 8 and 9."""

from ..margins import LEVEL
from .patterns import PROPORTIONAL
from .statement import INITIAL, Statement, Test
from .sweeps import peak_against, peak_height, worst_against_best

SENSITIVITY = (
    Statement(
        "10a",
        "Threshold pruning is insensitive to its knobs near the best values.",
        "figure 8f and appendix B",
        "mean accuracy of the best config of the sweep minus the mean of its neighbours, one step away in one knob. "
        f"Insensitive: below {LEVEL} points.",
        (Test(peak_height("large", "swr"), "<", LEVEL),),
        study=INITIAL,
    ),
    Statement(
        "10b",
        "Proportional pruning is more sensitive than threshold pruning.",
        "figures 8b and 8f, appendix B",
        "how far the best config stands above its neighbours, proportional minus threshold. True: above 0.",
        (Test(peak_against("large", PROPORTIONAL, "swr"), ">", 0.0),),
        study=INITIAL,
    ),
    Statement(
        "10c",
        "Under layer norm even the worst values of selective weight reinitialization beat all values of the unit "
        "methods.",
        "figures 9b and 9d, appendix B",
        "mean accuracy of the worst config of its sweep minus that of the best config of both others. True: above 0 "
        "in both settings.",
        tuple(Test(worst_against_best(place, "swr", "cbp", "redo"), ">", 0.0) for place in ("large-ln", "small-ln")),
    ),
)
