"""The part of a page on one problem: its figures, tables and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...lab.runs.text import counted
from .. import notes
from ..claims import Verdict, evaluate
from ..figures.all import figures
from ..figures.answer import answer
from ..figures.sheet import Drawing, Missing
from ..margins import MARGINS, Margin
from ..results import Results
from ..tables.permuted import runs_table, tables
from ..tables.table import Table

PAPERS = "The paper has 1,000 tasks and, as far as is known, 30 seeds of each system."
IMAGES = {"mnist": "MNIST"}

NEW = ("zero-gradient", "ties", "dense-inputs", "against-fresh", "cost")
"""Figures of what the paper does not show, in the order of a page."""


@dataclass(frozen=True)
class Part:
    """What a page shows of one problem.

    key: for the ids of its sections.
    title: the problem's name.
    about: which runs there are, one paragraph; scope: what a reader must know to read them.
    warning: what a reader must not overlook, or nothing.
    runs: what was run; tables: the others; claims: that of the verdicts, a file only.
    margins: the constants behind the verdicts.
    method: how its numbers come about, (head, text).
    hero: the figure of the first screen.
    """

    key: str
    title: str
    about: str
    scope: str
    warning: str
    runs: Table
    tables: Sequence[Table]
    claims: Table
    verdicts: Sequence[Verdict]
    drawn: Sequence[Drawing | Missing]
    margins: Mapping[str, Margin]
    method: Sequence[tuple[str, str]]
    hero: Drawing | Missing | None = field(default=None)


SCOPE = (
    "{title}: each task is a new permutation of the pixels, one pass over the images; online accuracy is taken before "
    "each update. Networks of three hidden layers of 100 (“large”) or 10 (“small”) units, with or without layer norm, "
    "plain SGD, at the values that the paper chose."
)


def permuted(results: Results) -> Part:
    """The part on permuted images."""
    runs, verdicts = results.runs, evaluate(results.runs)
    summary, *rest, claims = tables(runs, verdicts, results.cost or None)
    mains = [runs.main(setting, system) for setting in runs.settings for system in runs.systems(setting)]
    systems = {system for setting in runs.settings for system in runs.systems(setting)}
    title = f"Permuted {IMAGES.get(results.data, results.data)}"
    longest = max((run.tasks for each in mains for run in each), default=0)
    about = (
        f"{title}: {counted(len(systems), 'system')} in {counted(len(runs.settings), 'setting')}, at most "
        f"{counted(longest, 'task')} and {counted(max(map(len, mains), default=0), 'seed')}. {PAPERS}"
    )
    return Part(
        key="permuted",
        title=title,
        about=about,
        scope=SCOPE.format(title=title),
        warning=notes.DIGITS if results.data == "digits" else "",
        runs=runs_table(results.folders),
        tables=[summary, *rest],
        claims=claims,
        verdicts=verdicts,
        drawn=figures(runs, results.others, results.cost, results.pixels),
        margins=MARGINS,
        method=notes.METHOD,
        hero=answer(runs),
    )
