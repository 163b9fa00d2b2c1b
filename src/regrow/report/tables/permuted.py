"""The tables: values tested and chosen, how well every system learns, what it renews, and the claims."""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from ...lab.runs.text import duration
from ...lab.studies import System
from ..claims import Verdict
from ..claims.quantities import against_fresh
from ..claims.quantity import label
from ..format import DASH, chance, count, footnotes, interval, number
from ..margins import LAST
from ..published import THESIS, level
from ..results import Folder
from ..runs import FRESH, Comparison, Runs, entries, frames, papers_id
from ..stats import Effect, average, contrast, slope
from .hyperparameters import VALUE_TABLES, values
from .table import Table

DIVERGED = "A diverged run stays in the means, at chance (10 %) where it has no accuracy."


def tables(
    results: pl.DataFrame | Runs,
    verdicts: Sequence[Verdict] = (),
    cost: Mapping[tuple[str, str], float] | None = None,
) -> list[Table]:
    """Every table of the report: summary, renewals, tables 1 to 4, and the claims where there are verdicts.

    Args:
        results: rows as `regrow.load` returns them; may be empty.
        verdicts: as `regrow.report.claims.evaluate` returns them.
        cost: as for `renewals`.
    """
    runs = Runs.of(results)
    listed = [summary(runs), renewals(runs, cost), *(values(runs, number) for number in VALUE_TABLES)]
    return [*listed, claims(verdicts)] if verdicts else listed


def summary(results: pl.DataFrame | Runs) -> Table:
    """How well each system learns in each setting, beside the published level and a fresh network.

    Where runs are of unequal length a system has two rows: its longest runs, and all of its seeds.

    Args:
        results: rows as `regrow.load` returns them; may be empty.
    """
    runs, rows, only_swept = Runs.of(results), [], 0
    for setting in runs.settings:
        for system in runs.systems(setting):
            main = runs.main(setting, system)
            only_swept += not main
            ends = against_fresh(setting, system).measure(runs).effects if system != FRESH else ()
            for over in frames({system: main}):
                ahead = next((e for e in ends if e.tasks == over.tasks), None)
                rows.append(_summed(setting, system, over, ahead))
    caption = (
        "Online accuracy in percent with 95 % intervals: mean over all tasks, mean of the last 100 tasks, slope over "
        "the last half of the tasks in points per 100 tasks, and the last 100 tasks against a fresh network."
    )
    columns = (
        "Setting",
        "System",
        "Mean",
        f"Last {LAST}",
        "Slope",
        "Against fresh",
        "Published",
        "Seeds × tasks",
        "Diverged",
    )
    notes = footnotes(rows) + (
        f"Published: {THESIS}; ≈ read off a chart; beside the paper's values on MNIST. {DIVERGED}",
    )
    if only_swept:
        notes += (f"{only_swept} systems with sweeps only are left out: tables 1 to 4 have them.",)
    return Table(
        "summary", "How well each system learns", caption, columns, tuple(rows), notes, 2, frozenset({2, 3, 4, 5})
    )


def _summed(setting: str, system: str, over: Comparison, ahead: Effect | None) -> tuple[str, ...]:
    accuracy = over.series(system)
    tasks, half = over.tasks, accuracy[:, over.tasks // 2 :]
    late = np.repeat([0.0, 1 / LAST], [max(0, tasks - LAST), LAST]) if tasks >= LAST else None
    papers = over.groups[system][0].config_id == papers_id(setting, system)
    published = level(setting, system) if papers else None
    return (
        setting,
        label(system),
        interval(average(accuracy)),
        interval(contrast(accuracy, late)) if late is not None and system != FRESH else DASH,
        interval(slope(half).times(100), sign=True) if half.shape[1] >= 16 else DASH,
        interval(ahead, sign=True),
        published.text if published else DASH,
        count(over),
        f"{over.diverged(system)} of {len(over.seeds)}",
    )


def renewals(
    results: pl.DataFrame | Runs, cost: Mapping[tuple[str, str], float] | None = None, pixels: int = 784
) -> Table:
    """What each system renews, mean over tasks and seeds.

    Args:
        results: rows as `regrow.load` returns them; may be empty.
        cost: {(setting, system): milliseconds for one update of one network}; None leaves the column out.
        pixels: of an image, for the number of entries that a network has.
    """
    runs, rows = Runs.of(results), []
    for setting in runs.settings:
        for system in runs.systems(setting):
            for over in frames({system: runs.main(setting, system)})[-1:]:
                row = _renewed(setting, system, over, entries(setting, pixels))
                if cost is not None:
                    spent = cost.get((setting, system))
                    row += (f"{spent:.3g}" if spent is not None else DASH,)
                if System.of(system).renews or cost is not None:  # one that never fires must be seen
                    rows.append(row)
    columns = (
        ("Setting", "System", "Renewals a task", "Renewed a task (% of all entries)", "Units a task")
        + ("Of them utility 0 (%)", "As the time before (%)", "Loss jump", "Seeds × tasks")
        + (("ms an update",) if cost is not None else ())
    )
    caption = (
        "What is renewed: updates a task at which something was, entries a task as a share of all, whole units, the "
        "share whose utility was exactly 0 (of entries for weights, of units for unit methods), the share that the "
        "renewal before had renewed too, and how much higher the next batch's loss was."
    )
    notes = ("Published for the large network: SWR renews 48.6 % of all weights a task, 56.9 % of them again.",)
    return Table("renewals", "What each system renews", caption, columns, tuple(rows), notes, 2, frozenset(range(2, 8)))


def _renewed(setting: str, system: str, over: Comparison, size: int) -> tuple[str, ...]:
    def total(name: str) -> float:
        values = over.series(system, name)
        return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan

    fired, entries_, units, zero = (total(name) for name in ("renewals", "renewed", "renewed_units", "renewed_zero"))
    of = units if System.of(system).by_unit else entries_
    if not System.of(system).renews:
        return setting, label(system), *([DASH] * 6), count(over)
    return (
        setting,
        label(system),
        number(fired, 2),
        f"{100 * entries_ / size:.3g}" if math.isfinite(entries_) else DASH,
        number(units, 1) if units else DASH,
        number(100 * zero / of, 1) if of else DASH,
        number(100 * total("overlap"), 1),
        number(total("loss_jump"), 3, sign=True),
        count(over),
    )


def claims(verdicts: Sequence[Verdict]) -> Table:
    """The verdict on every statement, with the number that decides."""
    rows = []
    for verdict in verdicts:
        effect = verdict.effect
        rows.append(
            (
                verdict.id,
                verdict.text,
                verdict.place,
                verdict.grade,
                f"{interval(effect, sign=True)} {verdict.unit}" if effect else DASH,
                f"{effect.seeds} × {effect.tasks}" if effect else DASH,
                chance(verdict.p_holm),
                "" if verdict.decided else ": ".join(filter(None, ["" if effect else verdict.reason, verdict.command])),
            )
        )
    caption = (
        "Each statement with the effect of the part on which it hangs, its 95 % interval, seeds × tasks, and its "
        "p-value after Holm's correction over the statements of its claim; one or two seeds have none."
    )
    columns = ("Id", "Statement", "In the paper", "Grade", "Effect", "Seeds × tasks", "p (Holm)", "Missing")
    return Table("claims", "The paper's claims in our runs", caption, columns, tuple(rows), footnotes(rows), 2)


def runs_table(folders: Iterable[Folder], options: Callable[[Folder], str] = lambda folder: folder.option) -> Table:
    """What was run, a row for each folder; `options` says how it differs from a usual run."""
    columns = ("Study", "Settings", "Seeds × tasks", "Images", "Options", "Machine", "Version", "Begun", "Command")
    rows = tuple(_run_row(folder, options(folder)) for folder in folders)
    caption = "One row for each folder of results; how far each run has come stands with the figures."
    return Table("runs", "What was run", caption, columns, rows)


def _run_row(folder: Folder, option: str) -> tuple[str, ...]:
    config, content = folder.config, folder.manifest
    asked = f"{config.get('seeds', '?')} × {config.get('tasks', '?')}" if config else DASH
    commit = str(content.get("commit") or "")
    machine = ", ".join(str(content[key]) for key in ("machine", "cpu", "device") if content.get(key))
    torch = f", torch {content['torch']}" if content.get("torch") else ""
    command = content.get("command") or ()
    started = str(content.get("started") or DASH)[:16].replace("T", " ")
    took = content.get("seconds")
    return (
        str(content.get("study", DASH)) + (", sweep" if config.get("sweep") else ""),
        ", ".join(map(str, config.get("settings") or ())) or DASH,
        asked + ("" if folder.complete else " (not finished)"),
        str(config.get("data", DASH)),
        option or "usual",
        machine or DASH,
        f"{content.get('version', '?')}{f', commit {commit[:10]}' if commit else ''}{commit[40:]}{torch}",
        started + (f", took {duration(took)}" if isinstance(took, int | float) else ""),
        shlex.join(["regrow", *map(str, command)]) if isinstance(command, list) and command else DASH,
    )
