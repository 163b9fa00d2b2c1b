"""From statements and runs to verdicts: what is decided, what is open, and then what would be enough."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ...lab.runs.text import counted
from ..format import p_is
from ..margins import ALPHA, RECOMMENDED_SEEDS, SMALLEST_P
from ..runs import Runs
from ..stats import SEEDS, Effect, holm
from . import grades
from .before import verdicts_before
from .grades import Sides
from .permuted import STATEMENTS
from .quantity import Measured, Quantity
from .seen import is_new
from .statement import Statement, Test
from .verdict import CONFIRMATORY, EXPLORATORY, NOT_RUN, UNDECIDED, Outcome, Verdict, in_words

Look = Callable[[Quantity], Measured]


def evaluate(
    results: pl.DataFrame | Runs, statements: Sequence[Statement] = STATEMENTS, options: str = ""
) -> list[Verdict]:
    """A verdict on every statement, from a table of results.

    A statement is a number of tests "this quantity lies above (below) that bound"; all of them must be true, or at
    least so many. Its p-value is that of the weakest test needed, for and against (the partial conjunction of Benjamini
    and Heller), two-sided; Holm's correction runs over the statements of one numbered claim that at least three seeds
    can judge. Below 0.05 a statement is confirmed or contradicted. One or two seeds have no p-value: their statement
    agrees or disagrees where their own 95 % interval says so.

    Args:
        results: rows as `regrow.load` returns them, of any runs, together; may lack systems, seeds, tasks, or be empty.
        statements: to judge; default claims 1 to 12.
        options: more words for the commands that make the runs.

    Returns:
        A `Verdict` for each statement, in their order.

    Raises:
        ValueError: if the frame lacks a column that results have.

    Example:
        >>> verdicts = evaluate(pl.DataFrame())
        >>> verdicts[0].grade, verdicts[0].reason
        ('not run', 'missing: base in large: no run at its chosen values')
    """
    runs = Runs.of(results)
    verdicts = [
        replace(verdict, command=f"{verdict.command} {options}".rstrip()) for verdict in _verdicts(runs, statements)
    ]
    unknown = runs.only(is_new)
    alone = _verdicts(unknown, statements) if unknown.settings else verdicts
    return [_with_evidence(*pair) for pair in zip(verdicts, alone, strict=True)]


def _verdicts(runs: Runs, statements: Sequence[Statement]) -> list[Verdict]:
    """A verdict on every statement from these runs."""
    cache: dict[tuple, Measured] = {}

    def look(quantity: Quantity) -> Measured:
        key = quantity.name, quantity.settings, quantity.systems
        if key not in cache:
            cache[key] = quantity.measure(runs)
        return cache[key]

    parts = [[_outcome(test, look(test.quantity)) for test in each.tests] for each in statements]
    sides = [_sides(statement, outcomes) for statement, outcomes in zip(statements, parts, strict=True)]
    before = verdicts_before(statements, look)
    verdicts = []
    for i, adjusted in enumerate(_corrected(statements, parts, sides)):
        base = replace(_base(statements[i], parts[i], look), old_verdict=before[i])
        side = sides[i]
        verdicts.append(_lacking(base, statements[i]) if side is None else _judge(base, statements[i], side, adjusted))
    return verdicts


def _with_evidence(verdict: Verdict, alone: Verdict) -> Verdict:
    """Confirmatory where the runs that were not known when the rules were made give the same grade on their own."""
    if alone is verdict or not (verdict.effect and alone.effect):
        return replace(verdict, evidence=EXPLORATORY if verdict.effect else "")
    seeds, tasks = alone.size
    note = f"the seeds alone that were not known when the rules were made, {seeds} × {tasks} tasks: {alone.grade}"
    notes = verdict.notes + (note,) * (alone.size != verdict.size)
    same = alone.decided and alone.grade == verdict.grade
    return replace(verdict, evidence=CONFIRMATORY if same else EXPLORATORY, notes=notes)


def _outcome(test: Test, measured: Measured) -> Outcome:
    return Outcome(test, *(*measured.effects, None, None)[:2], lacks=measured.lacks)


def _effects(parts: Sequence[Outcome], longest: bool = False) -> list[Effect]:
    """The effects of all tests that have their runs."""
    effects = [(part.other or part.effect) if longest else part.effect for part in parts]
    return [effect for effect in effects if effect]


def _sides(statement: Statement, parts: Sequence[Outcome], longest: bool = False) -> Sides | None:
    """For and against a statement; None where a test lacks its runs."""
    effects = _effects(parts, longest)
    return grades.of_statement(statement, effects) if len(effects) == len(parts) else None


def _corrected(
    statements: Sequence[Statement], parts: Sequence[Sequence[Outcome]], sides: Sequence[Sides | None]
) -> list[float]:
    """Two-sided p-values; after Holm's correction, by claim, where the runs decide; NaN where they are missing."""
    p_values = np.array([side.p if side else np.nan for side in sides])
    judged = [
        bool(side) and grades.decides(s, _effects(p)) for s, p, side in zip(statements, parts, sides, strict=True)
    ]
    for claim in {statement.claim for statement in statements}:
        family = np.array([statement.claim == claim for statement in statements]) & np.array(judged, dtype=bool)
        p_values[family] = holm(p_values[family])
    return p_values.tolist()


def _base(statement: Statement, parts: list[Outcome], look: Look) -> Verdict:
    """A verdict that says what every verdict on this statement would."""
    quantities = [test.quantity for test in statement.tests]
    beside = []
    for quantity in statement.beside:
        effects = look(quantity).effects[:1]
        beside += [f"{quantity.name}, {quantity.setting}: {in_words(e, quantity.unit)}" for e in effects]
    notes = [note for quantity in quantities for note in look(quantity).notes]
    effects = _effects(parts)
    seeds, tasks = grades.size(effects) if effects else (SEEDS, statement.tasks)
    if tasks < statement.tasks:
        notes.append(f"judged over {tasks} tasks; the paper's statement is of {statement.tasks:,}")
    if seeds < SEEDS:
        notes.append(f"fewer than {SEEDS} seeds: it says what these runs did, not what other seeds would do")
    return Verdict(
        id=statement.id,
        text=statement.text,
        place=statement.place,
        criterion=statement.criterion,
        settings=tuple(dict.fromkeys(setting for quantity in quantities for setting in quantity.settings)),
        systems=tuple(dict.fromkeys(system for quantity in quantities for system in quantity.systems)),
        grade=NOT_RUN,
        reason="",
        parts=tuple(parts),
        beside=tuple(beside),
        notes=tuple(dict.fromkeys(notes)),
    )


def _lacking(base: Verdict, statement: Statement) -> Verdict:
    lacks = list(dict.fromkeys(part.lacks for part in base.parts if part.lacks))
    more = f" (and {len(lacks) - 1} more)" if len(lacks) > 1 else ""
    missing = [part.test.quantity for part in base.parts if part.lacks]
    notes = base.notes + tuple(f"against it already, not corrected: {part.in_words()}" for part in _against(base.parts))
    return replace(base, reason=f"missing: {lacks[0]}{more}", notes=notes, command=command(statement, missing))


def _against(parts: Sequence[Outcome]) -> list[Outcome]:
    """The tests that have their runs and fail on their own."""
    return [part for part in parts if part.effect and 2 * grades.chances(part.test, part.effect).contra < ALPHA]


def _judge(base: Verdict, statement: Statement, sides: Sides, p: float) -> Verdict:
    """The verdict where no runs are missing; p after correction where the runs decide."""
    effects = _effects(base.parts)
    grade, decides = grades.grade(statement, effects, sides, p), grades.decides(statement, effects)
    part = _hinge(base.parts, statement, sides, grade)
    assert part.effect is not None
    return replace(
        base,
        grade=grade,
        reason=_open(statement, effects, sides, p) * (grade == UNDECIDED) + part.in_words(),
        effect=part.effect,
        unit=part.test.quantity.unit,
        p=max(sides.p, SMALLEST_P) if decides else None,
        p_holm=max(p, SMALLEST_P) if decides else None,
        command=_rerun(statement, effects, sides, grade),
        second=_second(base.parts, statement),
    )


def _hinge(parts: Sequence[Outcome], statement: Statement, sides: Sides, grade: str) -> Outcome:
    """The test on which it hangs: the weakest of the last case needed, or the one most clearly against."""
    effects = _effects(parts)
    sides_of_tests = [grades.chances(*pair) for pair in zip(statement.tests, effects, strict=True)]
    tests = [each.pro for each in sides_of_tests]
    if grade != UNDECIDED and not sides.true:
        return parts[int(np.argmax(tests))]
    ranked = np.argsort([case.pro for case in grades.cases(statement, sides_of_tests)], kind="stable")
    first = int(ranked[statement.needed - 1]) * statement.each
    return parts[first + int(np.argmax(tests[first : first + statement.each]))]


def _open(statement: Statement, effects: Sequence[Effect], sides: Sides, p: float) -> str:
    """Why nothing is decided."""
    _, tasks = grades.size(effects)
    if tasks < statement.least:
        return f"{tasks} of the {statement.least} tasks without which nothing is decided: "
    if p < ALPHA and grades.may_still_come(statement, sides, effects):
        return f"no change in {tasks} tasks, but before {statement.long} one may still come: "
    return "open: "


def _rerun(statement: Statement, effects: Sequence[Effect], sides: Sides, grade: str) -> str:
    """What makes the runs again; of an open statement, more of them: seeds, or tasks where those are too few."""
    seeds, tasks = grades.size(effects)
    short, waits = tasks < statement.least, grades.may_still_come(statement, sides, effects)
    if grade == UNDECIDED and not short and not waits:
        seeds *= 2
    if short or (grade == UNDECIDED and waits):
        tasks = statement.least if short else statement.tasks
    seeds = seeds if SEEDS <= seeds and grade != UNDECIDED else max(seeds, RECOMMENDED_SEEDS)
    return command(statement, [test.quantity for test in statement.tests], seeds, tasks)


def _second(parts: Sequence[Outcome], statement: Statement) -> str:
    """What the longest runs say, where any test has others than those that decide."""
    sides, effects = _sides(statement, parts, longest=True), _effects(parts, longest=True)
    if sides is None or not any(part.other for part in parts):
        return ""
    p = f" ({p_is(sides.p)}, not corrected)" if grades.size(effects)[0] >= SEEDS else ""
    sizes = dict.fromkeys(f"{counted(effect.seeds, 'seed')} × {effect.tasks} tasks" for effect in effects)
    grade = grades.grade(statement, effects, sides, sides.p)
    return f"{' and '.join(sizes)}: {'would be ' * bool(p)}{grade}{p}"


def command(
    statement: Statement, quantities: Iterable[Quantity], seeds: int = RECOMMENDED_SEEDS, tasks: int | None = None
) -> str:
    """The command that makes the runs for some of a statement's quantities.

    It writes to a folder of its own: a folder of runs takes no other systems.

    Example:
        >>> command(STATEMENTS[0], [test.quantity for test in STATEMENTS[0].tests])
        'regrow run weights-vs-units --settings large --systems base --tasks 200 --seeds 5 --out results/claim-1a'
    """
    quantities = list(quantities)
    settings = dict.fromkeys(setting for quantity in quantities for setting in quantity.settings)
    systems = dict.fromkeys(system for quantity in quantities for system in quantity.systems)
    swept = quantities[0].sweep
    return (
        f"regrow run {statement.study} --settings {' '.join(settings)} --systems {' '.join(systems)} "
        f"--tasks {tasks or statement.asks} --seeds {seeds}{' --sweep' * swept} --out results/claim-{statement.id}"
    )
