"""Tables on CIFAR-100: how well every system learns, both optimizers, tables D and 6.

Shapes: S seeds, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import permutation_test, rankdata

from ...lab.studies.vit_values import CHOSEN, GRIDS, OPTIMIZERS, chosen, scaled
from ..claims import Verdict
from ..claims.quantity import label
from ..claims.vit_quantities import accuracies, by_seed, rank_correlation
from ..figures.vit_optimizers import ABOUT, AUTHORS, CONTROLS, Boundary, compare
from ..format import DASH, chance, count, interval, number, value
from ..results_vit import ACCURACY, ViTResults
from ..runs import FRESH, Comparison, Run, Runs, comparisons
from ..stats import Effect
from ..style import NORMS, REPARAM, STANDARD, VIT_SETTING_LABELS
from ..sweeps import Sweep, winner
from .hyperparameters import COLUMNS, KNOBS
from .permuted import claims
from .table import Table

TUNED = "best_validation_accuracy"
DRAWS = 9_999  # of a permutation test
PUBLISHED = {("vit-reparam", "base"): "≈ 58.5", ("vit", "base"): "≈ 51"}
"""{(setting, system): accuracy on all 100 classes}, read off a chart of the first author's later thesis."""
TABLE_6 = {
    "vit-reparam": (0.0428, 0.3396),
    "vit-nodecay": (0.0679, 0.1394),
    "vit": (0.0636, 0.1500),
    "vit-reparam-scaled": (0.1163, 0.0120),
    "vit-nodecay-scaled": (0.1080, 0.0154),
    "vit-scaled": (0.1269, 0.0032),
}
"""{setting: the paper's correlation and p-value}"""
FEW = "No interval where there are fewer than 3 seeds."


def tables(results: ViTResults, verdicts: Sequence[Verdict] = ()) -> list[Table]:
    """Every table of this part: summary, optimizers, D, 6, and the claims where there are verdicts.

    Args:
        results: from `combine`.
        verdicts: as `regrow.report.claims.evaluate` returns them.
    """
    listed = [summary(results), optimizers(results), table_d(results), table_6(results)]
    return [*listed, replace(claims(verdicts), name="claims-cifar100")] if verdicts else listed


def scale_note(results: ViTResults) -> tuple[str, ...]:
    """A note where the networks are smaller than the paper's."""
    return (f"Not at the paper's scale: {'; '.join(results.shrunk)}.",) if results.shrunk else ()


def summary(results: ViTResults) -> Table:
    """How well each system learns in each setting, beside a network trained from scratch."""
    rows = []
    for way in OPTIMIZERS:
        runs = results.runs[way]
        for setting in runs.settings:
            for system in runs.systems(setting):
                rows += [_summed(runs, way, over, setting, system) for over in _own(runs, setting, system)]
    columns = ("Optimizer", "Setting", "System", "Mean", "Last task", "Against fresh", "Scale of norms")
    columns += ("Published", "Seeds × tasks", "Diverged")
    caption = (
        "The best test accuracy of each task's epochs, in percent with 95 % intervals over seeds: mean over tasks, "
        "last task, and the last task against a network trained from scratch, of the same seed, setting and optimizer; "
        "mean |scale| of the norms after the last task."
    )
    published = (
        "Published: at the paper's scale, on all 100 classes; ≈ read off a chart of the first author's later thesis."
    )
    diverged = "A diverged run stays in the means, at chance (one in the classes seen) from there on."
    notes = (FEW, published, diverged, *scale_note(results))
    return Table("summary-cifar100", "How well each system learns", caption, columns, tuple(rows), notes, 3)


def _own(runs: Runs, setting: str, system: str) -> list[Comparison]:
    return comparisons({system: runs.main(setting, system)})


def _summed(runs: Runs, way: str, over: Comparison, setting: str, system: str) -> tuple[str, ...]:
    accuracy, scale = over.series(system, ACCURACY), over.series(system, "ln_scale")[:, -1]
    papers = over.groups[system][0].config.get("source") == "paper"
    return (
        way,
        VIT_SETTING_LABELS[setting],
        label(system),
        interval(by_seed(accuracy.mean(1), over.tasks)),
        interval(by_seed(accuracy[:, -1], over.tasks)),
        _behind(runs, over, setting, system),
        number(float(np.nanmean(scale)), 3) if np.isfinite(scale).any() else DASH,
        PUBLISHED.get((setting, system), DASH) if papers else DASH,
        count(over),
        f"{over.diverged(system)} of {len(over.seeds)}",
    )


def _behind(runs: Runs, over: Comparison, setting: str, system: str) -> str:
    """The last task against a fresh network, over the seeds for which there is one that is as long."""
    fresh = {run.seed: run for run in runs.main(setting, FRESH) if run.tasks >= over.tasks}
    mine = [run for run in over.groups[system] if run.seed in fresh]
    if system == FRESH or not mine:
        return DASH
    last = over.tasks - 1
    gaps = [run.measure(ACCURACY)[last] - fresh[run.seed].measure(ACCURACY)[last] for run in mine]
    return interval(by_seed(np.array(gaps), over.tasks), sign=True)


def optimizers(results: ViTResults) -> Table:
    """What each optimizer does to the base: its gap to a fresh network, and its weights at the boundaries of tasks."""
    by_setting = {setting: compare(results, setting) for setting in (STANDARD, REPARAM)}
    ways = [way for way in CONTROLS if any(each and way in each.end for each in by_setting.values())]
    rows = [row for setting, each in by_setting.items() if each for row in _compared(setting, each, ways)]
    one, two = by_setting[STANDARD], by_setting[REPARAM]
    if one and two and (one.seeds, one.tasks) == (two.seeds, two.tasks):
        name = "base, reparametrized minus standard norm, last task (points)"
        shared = [way for way in one.end if way in two.end]
        rows.append(_row(name, {way: two.end[way] - one.end[way] for way in shared}, one, ways))
    caption = (
        "The base system with the authors' optimizer and with its controls, the same seeds: accuracy on the last task "
        "minus that of a network trained from scratch with the same optimizer; and mean |w| after the first epoch of a "
        "task, in percent of what it was before the task. The differences tell how much of the loss goes with the "
        "momentum buffer and the decay in it."
    )
    notes = (
        *(ABOUT[way] for way in ways),
        *filter(None, (results.scale.about_boundaries,)),
        FEW,
        *scale_note(results),
    )
    pairs = (
        text for way in ways for text in (CONTROLS[way].capitalize(), f"{CONTROLS[way].capitalize()} minus authors'")
    )
    columns = ("What", "Authors'", *pairs, "Seeds × tasks")
    return Table("optimizers-cifar100", "The authors' optimizer and its controls", caption, columns, tuple(rows), notes)


def _compared(setting: str, each: Boundary, ways: Sequence[str]) -> list[tuple[str, ...]]:
    name = NORMS[setting]
    return [
        _row(f"{name}: base minus fresh network, last task (points)", each.gap, each, ways),
        _row(f"{name}: |w| of the base over a boundary (%)", each.kept, each, ways),
    ]


def _row(name: str, numbers: Mapping[str, np.ndarray], each: Boundary, ways: Sequence[str]) -> tuple[str, ...]:
    """A number for each optimizer; a dash for one that this setting lacks."""
    authors, cells = numbers[AUTHORS], []
    for way in ways:
        other = numbers.get(way)
        cells += [DASH, DASH] if other is None else [
            interval(by_seed(other, each.tasks)), interval(by_seed(other - authors, each.tasks), sign=True)
        ]  # fmt: skip
    return name, interval(by_seed(authors, each.tasks)), *cells, f"{each.seeds} × {each.tasks}"


def table_d(results: ViTResults) -> Table:
    """Table D: the values tested, those that the paper chose, and the best of our sweeps."""
    rows = [row for setting in CHOSEN for system in CHOSEN[setting] if _grid(setting, system)
            for row in _knobs(results, setting, system)]  # fmt: skip
    caption = (
        "Values tested and chosen by the paper, and the best of our sweep. The base is tuned on all 100 classes at "
        "once, the methods on classes as they come. Ours selects by the best validation accuracy, mean over tasks; the "
        "authors selected by test accuracy, the measure they report."
    )
    notes = ("Ours minus paper's: in validation accuracy.", FEW, *scale_note(results))
    return Table("table-D", "Table D: values of the vision transformer", caption, COLUMNS, tuple(rows), notes, 3)


def _grid(setting: str, system: str) -> Mapping[str, Sequence[Any]]:
    return GRIDS.get(setting, {}).get(system, {})


def _knobs(results: ViTResults, setting: str, system: str) -> list[tuple[str, ...]]:
    """A row for each knob that was tried; the first says how the whole config did."""
    picked, tested = CHOSEN[setting][system], _grid(setting, system)
    runs = (results.tuning if system == "base" else results.runs)[results.optimizer]
    best, *ends = winner(
        runs.configs(setting, system), lambda run: _is_papers(run, setting, system, results), _ahead, TUNED
    )
    rows = []
    for i, (knob, values) in enumerate(tested.items()):
        papers, ours = picked.get(knob, ()), value(best[knob]) if knob in best else DASH
        sweep = ends if i == 0 else ("", "")
        named = VIT_SETTING_LABELS[setting], label(system), KNOBS.get(knob, knob), ", ".join(map(value, values))
        rows.append((*named, value(papers[0]) if papers else DASH, ours, *sweep))
    return rows


def _ahead(sweep: Sweep, one: str, other: str) -> Effect:
    return by_seed(sweep.by_seed(one) - sweep.by_seed(other), sweep.over.tasks)


def _is_papers(run: Run, setting: str, system: str, results: ViTResults) -> bool:
    """Whether a config has the paper's values of all knobs that were tried, scaled to the length of the tasks."""
    papers = scaled(chosen(setting, system, results.optimizer), results.scale.ratio)
    return all(run.config.get(knob) == papers[knob] for knob in _grid(setting, system))


def table_6(results: ViTResults) -> Table:
    """Table 6: does the order of the classes predict their accuracy in the end?"""
    rows = []
    for setting, (rho, p) in TABLE_6.items():
        runs = [run for run in results.main.main(setting, "base") if len(accuracies(run, run.tasks)) > 1]
        tasks = max((run.tasks for run in runs), default=0)
        final = np.array([accuracies(run, tasks) for run in runs if run.tasks == tasks])
        cells = (DASH, DASH, DASH)
        if len(final):
            mean = float(np.mean([rank_correlation(accuracy) for accuracy in final]))
            cells = (number(mean, 4), chance(permutation_p(final)), f"{len(final)} × {final.shape[1]}")
        rows.append((VIT_SETTING_LABELS[setting], number(rho, 4), chance(p), *cells))
    caption = (
        "Spearman's correlation of the order in which classes came and their accuracy after the last task, mean over "
        f"seeds, and the p-value of a two-sided permutation test ({DRAWS:,} draws, within each seed). Above 0: later "
        "classes do better."
    )
    notes = (
        "Classes of equal accuracy share their mean rank; the authors break ties by place. Their p-values are not "
        "corrected, and neither are ours.",
        *scale_note(results),
    )
    columns = ("Setting", "Paper: correlation", "Paper: p", "Ours: correlation", "Ours: p", "Seeds × classes")
    right = frozenset(range(1, 5))
    return Table("table-6", "Table 6: class order and accuracy", caption, columns, tuple(rows), notes, 1, right)


def permutation_p(accuracy: np.ndarray, draws: int = DRAWS) -> float:
    """Two-sided p-value of the mean Spearman correlation of place and accuracy, by permuting places within each seed.

    SciPy's `permutation_test`: twice the smaller share, (1 + number of draws as far on that side) / (1 + draws).

    Args:
        accuracy: of each class in the order they came, (S, K).
        draws: of the test; the same numbers every time.

    Example:
        >>> permutation_p(np.arange(20.0)[None] / 20, draws=99), permutation_p(np.ones((2, 20)), draws=99)
        (0.02, 1.0)
    """
    classes = accuracy.shape[1]
    ranks = rankdata(accuracy, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1, keepdims=True)
    ranks = np.divide(ranks, norms, out=np.zeros_like(ranks), where=norms > 0)
    place = np.arange(classes) - (classes - 1) / 2
    place /= np.linalg.norm(place)

    def together(*ranked: np.ndarray, axis: int) -> np.ndarray:
        return sum(((each * place).sum(axis) for each in ranked), start=np.zeros(()))

    tested = permutation_test(
        tuple(ranks),
        together,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=draws,
        batch=1_000,
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)
