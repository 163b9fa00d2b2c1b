"""The part of a page on CIFAR-100: its figures, tables and verdicts."""

from dataclasses import replace

from ...lab.runs.text import counted
from ..claims import Verdict, evaluate
from ..claims.scale import judge_scale
from ..claims.vit import STATEMENTS
from ..figures import vit
from ..figures.vit_optimizers import boundaries
from ..margins import VIT_MARGINS
from ..notes import SHRUNK, VIT_METHOD
from ..results_vit import TASKS, ViTResults, every, folder_options
from ..tables.permuted import runs_table
from ..tables.vit import tables
from .part import Part

PAPERS = f"The paper has {TASKS} tasks of 100 epochs, and 20 seeds of each system (5 in appendix D)."

SCOPE = (
    "Class-incremental CIFAR-100: a vision transformer that sees five new classes with each task; old ones stay. The "
    "best test accuracy of each task's epochs counts."
)


OPTIMIZER_NAMES = {
    "authors": "the authors' optimizer",
    "authors-cleared": "the same with its buffer cleared between tasks",
    "clean": "a clean one",
}


def judge(results: ViTResults) -> list[Verdict]:
    """A verdict on every statement on CIFAR-100; what networks of another scale cannot judge is left undecided."""
    remarks = tuple(
        text
        for text in (
            f"not at the paper's scale: {'; '.join(results.shrunk)}" if results.shrunk else "",
            f"of the {results.optimizer} optimizer; the paper's are of the authors'"
            if results.optimizer != "authors"
            else "",
        )
        if text
    )
    verdicts = judge_scale(evaluate(results.main, STATEMENTS, results.options), results)
    return [replace(verdict, notes=(*verdict.notes, *remarks)) for verdict in verdicts]


def part(results: ViTResults) -> Part:
    """All that a page shows of CIFAR-100."""
    verdicts = judge(results)
    summary, *rest, claims = tables(results, verdicts)
    runs = [run for each in results.runs.values() for run in every(each)]
    systems, settings = ({getattr(run, name) for run in runs} for name in ("system", "setting"))
    seeds, ways = {run.seed for run in runs}, [way for way, each in results.runs.items() if each.settings]
    both = f", with {' and with '.join(OPTIMIZER_NAMES[way] for way in ways)}" if len(ways) > 1 else ""
    about = (
        f"Class-incremental CIFAR-100: {counted(len(systems), 'system')} in {counted(len(settings), 'setting')}, "
        f"at most {counted(results.tasks, 'task')} and {counted(len(seeds), 'seed')}{both}. {PAPERS}"
    )
    return Part(
        key="cifar100",
        title="CIFAR-100",
        about=about,
        scope=SCOPE,
        warning=SHRUNK.format(what="; ".join(results.shrunk)) if results.shrunk else "",
        runs=replace(runs_table(results.folders, folder_options), name="runs-cifar100"),
        tables=[summary, *rest],
        claims=claims,
        verdicts=verdicts,
        drawn=[*vit.figures(results), boundaries(results)],
        margins=VIT_MARGINS,
        method=VIT_METHOD,
    )
