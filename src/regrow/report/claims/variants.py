"""Claims 1 to 3: the ways of selective weight reinitialization, figures 1, 4, 5 and 6."""

from ..margins import DIP, LEVEL
from ..style import FOUR
from .patterns import AHEAD, DROP, KEEPS, LOSES, PROPORTIONAL, beats, fresh, keeps, loses
from .quantities import against_fresh, ahead, ahead_of_best, drop, drop_against
from .statement import INITIAL, OPTIMIZERS, Statement, Test, all_of, within

OTHER_SETTINGS = tuple(place for place in FOUR if place != "large-ln")
THRESHOLD_MEAN, PROPORTIONAL_MEAN = "swr-gradient-threshold-mean", "swr-gradient-proportional-mean"
BY_POSITION = "ties by position, as the authors' code presumably breaks them"

VARIANTS = (
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
        "section 3 and figure 1",
        "mean accuracy of the last 100 tasks minus that of a network freshly initialised for every task, by seed. "
        "True: below 0.",
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
        keeps("large", "swr", PROPORTIONAL),
        study=INITIAL,
        beside=fresh("large", "swr", PROPORTIONAL),
    ),
    Statement(
        "2b",
        "Of the two prunings of weights by gradient utility, threshold is slightly better.",
        "figure 1 and its takeaways",
        f"{AHEAD}. Better: above 0. Slightly: below {LEVEL} points, the size that 4b calls equal.",
        within(ahead("large", "swr", PROPORTIONAL), 0.0, LEVEL),
        before=within(ahead("large", "swr", PROPORTIONAL), 0.0, 1.0),
        study=INITIAL,
    ),
    Statement(
        "2c",
        "Proportional pruning of weights performs above both unit methods in all settings but one.",
        "figure 5 and appendix A",
        f"{AHEAD}. True: above 0 to both, in at least three of the four settings.",
        all_of(beats(place, PROPORTIONAL, "redo", "cbp") for place in FOUR),
        at_least=3,
        each=2,
        added=True,
    ),
    Statement(
        "2d",
        "In the large network with layer norm proportional pruning performs above L2 and shrink-and-perturb.",
        "figure 5b and appendix A",
        f"{AHEAD}. True: above 0 to both.",
        beats("large-ln", PROPORTIONAL, "l2", "shrink-perturb"),
        added=True,
    ),
    Statement(
        "2e",
        "In the other three settings proportional pruning does not perform above both L2 and shrink-and-perturb.",
        "figure 5 and appendix A",
        f"{AHEAD}. True: in each setting below 0 to the better of the two, by their own means.",
        tuple(Test(ahead_of_best(place, PROPORTIONAL, "l2", "shrink-perturb"), "<", 0.0) for place in OTHER_SETTINGS),
        added=True,
    ),
    Statement(
        "3a",
        "Mean reinitialization with gradient utility loses plasticity in all settings but one.",
        "figures 1, 5 and 6",
        f"{LOSES} In at least 7 of 8 cases: four settings, two prunings; proportional pruning with {BY_POSITION}.",
        all_of(loses(place, THRESHOLD_MEAN, f"{PROPORTIONAL_MEAN}-authors") for place in FOUR),
        at_least=7,
        before=all_of(loses(place, THRESHOLD_MEAN, PROPORTIONAL_MEAN) for place in FOUR),
        beside=tuple(drop(place, PROPORTIONAL_MEAN) for place in FOUR),
    ),
    Statement(
        "3b",
        "In the small network with layer norm, mean reinitialization beats resampling under proportional pruning.",
        "figure 5d",
        f"{AHEAD}. True: above 0.",
        beats("small-ln", PROPORTIONAL_MEAN, PROPORTIONAL),
        beside=(ahead("small-ln", f"{PROPORTIONAL_MEAN}-authors", f"{PROPORTIONAL}-authors"),),
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
        "3d",
        "With magnitude utility and proportional pruning performance is slightly better than the base system's.",
        "figure 4a and appendix A",
        f"{AHEAD}, with either way to renew. True: above 0. How slight is not judged: the paper gives no size.",
        all_of(beats("large", f"swr-magnitude-proportional-{reinit}", "base") for reinit in ("resample", "mean")),
        study=INITIAL,
        added=True,
    ),
    Statement(
        "3e",
        "With magnitude utility and threshold pruning performance is no better than the base system's.",
        "figure 4b and appendix A",
        f"{AHEAD}, with either way to renew. True: below {LEVEL} points.",
        tuple(
            Test(ahead("large", f"swr-magnitude-threshold-{reinit}", "base"), "<", LEVEL)
            for reinit in ("resample", "mean")
        ),
        study=INITIAL,
        added=True,
    ),
)
