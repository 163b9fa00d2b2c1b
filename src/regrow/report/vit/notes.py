"""What a reader of the part on CIFAR-100 must know: how its numbers come about."""

METHOD = (
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
        "is a single number, from which its spread cannot be told.",
    ),
    (
        "Verdicts",
        "Every statement is one or more tests of a quantity against a bound that was fixed from the paper before the "
        "runs. Its p-value is two-sided. Holm's correction runs over all statements on CIFAR-100 that the runs can "
        "judge; those on permuted images are another experiment and a family of their own, so that a verdict does not "
        "change with what else a page shows. Below 0.05 a statement holds or fails; above, the data do not decide.",
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
    "Short tasks make the boundary worse than it is at the paper's length, for the step size rises faster than the "
    "buffer empties."
)
