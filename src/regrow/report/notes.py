"""Notes for sceptical readers: how the numbers of a report are computed."""

METHOD = (
    (
        "Problem",
        "One task is one fresh random permutation of the pixels and one pass over the training images in random order. "
        "Online accuracy is taken on each batch before its update, and averaged over a task. Initial weights and the "
        "order of the data are functions of the seed alone, the same for all systems: systems are compared seed by "
        "seed.",
    ),
    (
        "Bands",
        "Bands in figures are ± 1 standard error over seeds, with n − 1 in the denominator, as in the paper; a single "
        "seed has none. Points are means over bins of 1, 2, 5, 10, … tasks, at most 50 to a line; a last bin that is "
        "not full is left out. Where some runs are longer than others a line is broken where seeds end.",
    ),
    (
        "Intervals",
        "Intervals in tables and verdicts are of 95 %. From three seeds on they are Student's t over seeds, on "
        "differences of the same seeds where systems are compared; below, a moving-block bootstrap over tasks (†), "
        "which speaks of these very runs only, with one degree of freedom for two seeds.",
    ),
    (
        "Verdicts",
        "Every statement is one or more tests of a quantity against a bound. At least three seeds decide: the p-value "
        "is two-sided, with Holm's correction over the statements of one numbered claim; below 0.05 the statement is "
        "confirmed or contradicted, above it is undecided. Of one or two seeds a statement agrees or disagrees where "
        "their own interval says so. That nothing changes takes 500 tasks to say; below 200 tasks nothing is decided. "
        "Exploratory: judged on runs that were known when these rules were made; confirmatory: on new seeds. "
        "claims.json has every number.",
    ),
    (
        "Unequal runs",
        "Where runs are of unequal length the most seeds decide, over the tasks that they have in common (at least "
        "200); what the longest runs say stands beside it.",
    ),
    (
        "Correlates",
        "Dead units and ranks are measured before a task's first update, on 1,500 images under its permutation. Rank "
        "is the number of singular values that hold 99 % of their sum, which the paper calls stable rank.",
    ),
    (
        "Diverged runs",
        "A run that diverges stays in all means, at chance (10 %) from there on.",
    ),
    (
        "Chosen values",
        "Systems run at the values that the paper chose; where it has none, at ours (the config says which). CBP and "
        "ReDo act after the optimizer's step; with “authors' order”, within the backward pass, as in the authors' "
        "code.",
    ),
)
"""(head, text)"""

DIGITS = (
    "These runs are on scikit-learn's digits, not on MNIST: the paper's levels stand beside them for orientation only, "
    "and its statements are of another problem."
)


VIT_METHOD = (
    (
        "Problem",
        "Five new classes of CIFAR-100 come with each task, old ones stay. Of each task's epochs the best test "
        "accuracy counts, of all classes seen so far; at a task's end the parameters go back to the epoch of the best "
        "validation accuracy. Initial weights, the order of the classes and that of the images are functions of the "
        "seed alone, the same for all systems: systems are compared seed by seed.",
    ),
    (
        "Bands and intervals",
        "Bands in figures are ± 1 standard error over seeds, with n − 1 in the denominator, as in the paper; a single "
        "seed has none. Intervals in tables and verdicts are of 95 %, Student's t over one number a seed, of shares of "
        "runs Clopper and Pearson's. There is none for fewer than three seeds: what a network reached on its last task "
        "is a single number, which says nothing about its spread.",
    ),
    (
        "Verdicts",
        "Every statement is one or more tests of a quantity against a bound that was fixed from the paper before the "
        "runs. Its p-value is two-sided, with Holm's correction over the statements of one numbered claim. Below "
        "0.05 a statement is confirmed or contradicted; above, it is undecided.",
    ),
    (
        "Fresh network",
        "The yardstick is a network of the same seed, setting and optimizer that starts anew at every task, with new "
        "weights and new optimizer memory, and learns all classes seen so far for as long.",
    ),
    (
        "Diverged runs",
        "A run whose loss is no number ends. In the figures, tables and verdicts it stays, at chance (one in the "
        "classes seen) from there on; figure 17 and measures of weights are without it.",
    ),
    (
        "Optimizer",
        "Figures and verdicts are of the authors' optimizer where there are runs with it, as the paper's are; the "
        "clean one stands beside it in a figure and a table of its own.",
    ),
    (
        "Chosen values",
        "Systems run at the values that the paper chose. Where tasks are shorter than the paper's, what is counted in "
        "updates is scaled to their length. Our sweeps select by validation accuracy; the authors selected by test "
        "accuracy. CBP and ReDo act after the optimizer's step.",
    ),
)
"""(head, text)"""

SHRUNK = (
    "These networks are not at the paper's scale: {what}. The verdicts below are of these runs, and say nothing of the "
    "paper's own."
)
SHORT = (
    "Short tasks make the boundary worse than it is at the paper's length, because the step size rises faster than the "
    "buffer empties."
)
MATCHED = (
    "Tasks are shorter than the paper's; the decay is chosen so that their boundaries multiply weights about as the "
    "paper's do."
)
