"""What runs smaller than the paper's cannot judge, on class-incremental CIFAR-100.

Two things differ. Decay accumulates over fewer updates; and in short tasks the momentum buffer, kept from one task to
the next, multiplies weights by other factors (see `regrow.lab.vit.matching`), or by none where an optimizer clears it.
A statement that rests on either is left undecided, with the reason, whatever its numbers.
"""

from collections.abc import Sequence
from dataclasses import replace

from ...lab.studies import VIT_SETTINGS
from ...lab.studies.vit_values import chosen
from ...lab.vit.matching import boundary_factors, updates
from ...lab.vit.options import PAPERS_IMAGES
from ..format import number
from ..results_vit import TASKS, Scale, ViTResults
from .verdict import EXPLORATORY, NOT_RUN, UNDECIDED, Verdict

ACCUMULATED = ("13a", "16a", "16b", "16c", "16d", "17a", "17b", "17c", "17d", "17e")
"""Statements that rest on decay accumulated over the whole run."""
AT_BOUNDARIES = ("13b", "13c", "13d", "13e", "14a", "14b", "14c", "14d", "15a", "15b")
"""Statements that rest on what happens to weights between tasks."""
NEAR = 2.0
"""Factors within this ratio of the paper's, and of their signs, count as the paper's regime."""
ENOUGH = 50.0
"""Percent of the paper's updates from which decay counts as accumulated."""


def judge_scale(verdicts: Sequence[Verdict], results: ViTResults) -> list[Verdict]:
    """The verdicts, with those that runs of this scale cannot give left undecided."""
    return [_limited(verdict, results) for verdict in verdicts]


def _limited(verdict: Verdict, results: ViTResults) -> Verdict:
    why = reason(verdict, results) if verdict.grade != NOT_RUN else ""
    if not why:
        return verdict
    verdict = replace(verdict, grade=UNDECIDED, p=None, p_holm=None, evidence=EXPLORATORY)
    return replace(verdict, reason=f"not at scale: {why}; {verdict.reason}")


def reason(verdict: Verdict, results: ViTResults) -> str:
    """Why these runs cannot judge a statement; empty where they can."""
    if verdict.id in ACCUMULATED:
        share = share_of_updates(results)
        rests = "it rests on decay accumulated over the whole run, which here has"
        return f"{rests} {share:.2g} % of the paper's updates" if share < ENOUGH else ""
    if verdict.id in AT_BOUNDARIES:
        far = [text for setting in verdict.settings if (text := other_regime(setting, results))]
        return far[0] if far else ""
    return ""


def share_of_updates(results: ViTResults) -> float:
    """Updates of the longest run, in percent of the paper's."""
    return 100 * sum(_updates(results.tasks, results.scale)) / sum(_updates(TASKS, Scale()))


def other_regime(setting: str, results: ViTResults) -> str:
    """How factors at the boundaries of tasks differ from the paper's, in words; empty where they are near or absent."""
    tasks, paper = min(5, results.tasks), chosen(setting, "base")
    runs = results.main.main(setting, "base")
    if tasks < 2 or not runs or VIT_SETTINGS[setting].scaled:
        return ""
    decay, peak = float(runs[0].config.get("decay", paper["decay"])), float(paper["step_size"])
    kept = results.optimizer == "authors"
    ours = factors(decay, peak, tasks, results.scale) if kept else [1.0] * (tasks - 1)
    theirs = factors(float(paper["decay"]), peak, tasks, Scale())
    if all(a * b > 0 and 1 / NEAR <= a / b <= NEAR for a, b in zip(ours, theirs, strict=True)):
        return ""
    remedy = "`--matched` chooses the decay that comes closest" if kept else "only the authors' optimizer keeps it"
    return (
        f"between tasks the momentum buffer multiplies weights by {_range(ours)}, at the paper's size by "
        f"{_range(theirs)} ({remedy})"
    )


def factors(decay: float, peak: float, tasks: int, scale: Scale) -> list[float]:
    """The factor at each boundary, whatever the loss, (T - 1)."""
    return boundary_factors([decay], peak, _updates(tasks, scale))[:, 0].tolist()


def _updates(tasks: int, scale: Scale) -> list[int]:
    return updates(tasks, scale.epochs_per_task, scale.images_per_class or PAPERS_IMAGES)


def _range(values: Sequence[float]) -> str:
    low, high = (number(end, 2) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
