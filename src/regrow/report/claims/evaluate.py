"""From statements and runs to verdicts: holds, fails, or not enough data, and then what would be enough."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import polars as pl

from ...lab.runs.text import counted
from ..format import number
from ..margins import ALPHA, MARGINS, PAPER_TASKS, RECOMMENDED_SEEDS, SWEEP_TASKS, Margin
from ..runs import Runs
from ..stats import SEEDS, Effect, holm
from .permuted import STATEMENTS
from .quantity import Measured, Quantity
from .statement import Statement, Test

HOLDS, FAILS, UNDECIDED = "holds", "fails", "not enough data"


@dataclass(frozen=True)
class Outcome:
    """One test of a statement and what the runs say.

    effect: the quantity in the runs that decide; None where runs are missing.
    other: in the other choice of runs (the longest, or those of most seeds), where there is one.
    lacks: what is missing; empty if nothing is.
    """

    test: Test
    effect: Effect | None
    other: Effect | None
    lacks: str

    def in_words(self) -> str:
        """One line: the quantity, its interval, the bound, n."""
        quantity, effect = self.test.quantity, self.effect
        if effect is None:
            return f"{quantity.name}, {quantity.setting}: {self.lacks}"
        return f"{quantity.name}, {quantity.setting}: {in_words(effect, quantity.unit)}; asked {self._asked()}"

    def _asked(self) -> str:
        return f"{self.test.side} {self.test.bound:g}".replace("-", "−")


@dataclass(frozen=True)
class Verdict:
    """What our runs say of one statement.

    effect, unit: of the test that decides: the weakest where the statement holds or is open, else the strongest
        against it.
    p: two-sided, of the whole statement against its contrary; p_holm: adjusted over all statements judged. Both None
        where runs are missing.
    reason: one line, plain.
    command: makes what is missing; empty where nothing is.
    second: what the other choice of runs says, one line, not corrected; empty where there is no other.
    beside: numbers that are shown and not judged, in lines.
    notes: lines.
    """

    id: str
    text: str
    place: str
    statistic: str
    settings: tuple[str, ...]
    systems: tuple[str, ...]
    verdict: str
    reason: str
    effect: Effect | None = None
    unit: str = ""
    p: float | None = None
    p_holm: float | None = None
    command: str = ""
    second: str = ""
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parts: tuple[Outcome, ...] = ()

    @property
    def claim(self) -> int:
        """Number of the paper's claim that it is part of."""
        return int(self.id.rstrip("abcdefghij"))


def in_words(effect: Effect, unit: str) -> str:
    """An effect in words: +1.20 points [1.00, 1.40] (5 seeds x 200 tasks)."""
    within = "" if effect.basis == "seeds" else ", within these runs only"
    ends = f"[{number(effect.low, 2)}, {number(effect.high, 2)}]"
    n = f"{counted(effect.seeds, 'seed')} × {effect.tasks} tasks"
    return f"{number(effect.value, 2, sign=True)} {unit} {ends} ({n}{within})"


def evaluate(
    results: pl.DataFrame | Runs, statements: Sequence[Statement] = STATEMENTS, options: str = ""
) -> list[Verdict]:
    """A verdict on every statement, from a table of results.

    A statement is a number of tests "this quantity lies above (below) that bound"; all of them must be true, or at
    least so many. Its p-value is that of the weakest test needed, for and against (the partial conjunction of Benjamini
    and Heller), two-sided; Holm's correction runs over all statements that can be judged. Below 0.05 it holds or fails;
    above, the data leave it open.

    Args:
        results: rows as `regrow.load` returns them, of any runs, together; may lack systems, seeds, tasks, or be empty.
        statements: to judge; default claims 1 to 12.
        options: more words for the commands that make what is missing.

    Returns:
        A `Verdict` for each statement, in their order.

    Raises:
        ValueError: if the frame lacks a column that results have.

    Example:
        >>> verdicts = evaluate(pl.DataFrame())
        >>> verdicts[0].verdict, verdicts[0].reason
        ('not enough data', 'missing: base in large: no run at its chosen values')

    Reference:
        Benjamini & Heller 2008, Screening for partial conjunction hypotheses.
    """
    runs = Runs.of(results)
    cache: dict[tuple, Measured] = {}

    def look(quantity: Quantity) -> Measured:
        key = quantity.name, quantity.settings, quantity.systems
        if key not in cache:
            cache[key] = quantity.measure(runs)
        return cache[key]

    parts = [[_outcome_of(test, look(test.quantity), each.prefer) for test in each.tests] for each in statements]
    sides = [_sides(outcomes, each.needed) for each, outcomes in zip(statements, parts, strict=True)]
    judged = [side for side in sides if side]
    adjusted = iter(holm(np.array([_two_sided(*side) for side in judged])).tolist())
    verdicts = []
    for statement, outcomes, side in zip(statements, parts, sides, strict=True):
        base = _undecided(statement, outcomes, look)
        verdict = _lacking(base, statement) if side is None else _judge(base, statement, *side, next(adjusted))
        if verdict.command and options:
            verdict = replace(verdict, command=f"{verdict.command} {options}")
        verdicts.append(verdict)
    return verdicts


def _outcome_of(test: Test, measured: Measured, prefer: str) -> Outcome:
    effects = measured.effects[::-1] if prefer == "seeds" else measured.effects
    return Outcome(test, *(*effects, None, None)[:2], lacks=measured.lacks)


def _chances(test: Test, effect: Effect) -> tuple[float, float]:
    """One-sided p-values for and against the test."""
    above, below = effect.above(test.bound), effect.below(test.bound)
    return (above, below) if test.side == ">" else (below, above)


def _sides(parts: Sequence[Outcome], needed: int, other: bool = False) -> tuple[float, float] | None:
    """P-values for and against "at least `needed` of the tests are true"; None where a test lacks its runs."""
    effects = [part.other or part.effect if other else part.effect for part in parts]
    chances = [_chances(part.test, effect) for part, effect in zip(parts, effects, strict=True) if effect]
    if len(chances) < len(parts):
        return None
    for_, against = zip(*chances, strict=True)
    return partial_conjunction(for_, needed), partial_conjunction(against, len(parts) - needed + 1)


def partial_conjunction(p_values: Iterable[float], needed: int) -> float:
    """P-value of "at least `needed` of n are true", whatever they share: (n - needed + 1) * p_(needed), at most 1.

    Example:
        >>> partial_conjunction([0.01, 0.2, 0.03], 2), partial_conjunction([0.01, 0.2, 0.03], 3)
        (0.06, 0.2)
    """
    ordered = sorted(p_values)
    return min(1.0, (len(ordered) - needed + 1) * ordered[needed - 1])


def _two_sided(for_: float, against: float) -> float:
    return min(1.0, 2 * min(for_, against))


def _undecided(statement: Statement, parts: list[Outcome], look: Callable[[Quantity], Measured]) -> Verdict:
    """A verdict that says what every verdict on this statement would."""
    quantities = [test.quantity for test in statement.tests]
    beside = []
    for quantity in statement.beside:
        effects = look(quantity).effects[:1]
        beside += [f"{quantity.name}, {quantity.setting}: {in_words(e, quantity.unit)}" for e in effects]
    notes = [note for quantity in quantities for note in look(quantity).notes]
    tasks = min((part.effect.tasks for part in parts if part.effect), default=statement.tasks)
    if tasks < statement.tasks and quantities[0].sweep:
        notes.append(f"judged over {tasks} tasks; how many the paper's sweeps had is not known")
    elif tasks < statement.tasks:
        notes.append(f"judged over {tasks} tasks; the paper's statement is of {statement.tasks:,}")
    if any(part.effect and part.effect.basis == "tasks" for part in parts):
        notes.append(f"fewer than {SEEDS} seeds: it says what these runs did, not what other seeds would do")
    return Verdict(
        id=statement.id,
        text=statement.text,
        place=statement.place,
        statistic=statement.statistic,
        settings=tuple(dict.fromkeys(setting for quantity in quantities for setting in quantity.settings)),
        systems=tuple(dict.fromkeys(system for quantity in quantities for system in quantity.systems)),
        verdict=UNDECIDED,
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
    reason = f"missing: {lacks[0]}{more}"
    return replace(base, reason=reason, notes=notes, command=command(statement, missing))


def _against(parts: Sequence[Outcome]) -> list[Outcome]:
    """The tests that have their runs and fail on their own."""
    return [part for part in parts if part.effect and 2 * _chances(part.test, part.effect)[1] < ALPHA]


def _judge(base: Verdict, statement: Statement, for_: float, against: float, adjusted: float) -> Verdict:
    """The verdict where no runs are missing."""
    chances = [_chances(part.test, part.effect) for part in base.parts if part.effect]
    if adjusted < ALPHA:
        verdict = HOLDS if for_ < against else FAILS
    else:
        verdict = UNDECIDED
    ranked = sorted(range(len(chances)), key=lambda i: chances[i][0])
    # The test that decides: the last of those needed, or the one most clearly against.
    part = base.parts[ranked[-1] if verdict == FAILS else ranked[statement.needed - 1]]
    assert part.effect is not None
    seeds = part.effect.seeds
    return replace(
        base,
        verdict=verdict,
        reason=("open: " if verdict == UNDECIDED else "") + part.in_words(),
        effect=part.effect,
        unit=part.test.quantity.unit,
        p=_two_sided(for_, against),
        p_holm=adjusted,
        command=_more_seeds(statement, seeds, part.effect.tasks) if verdict == UNDECIDED else "",
        second=_second(base.parts, statement.needed),
    )


def _more_seeds(statement: Statement, seeds: int, tasks: int) -> str:
    """What would decide: more seeds, and more tasks where time decides and the runs are shorter than the paper's."""
    quantities = [test.quantity for test in statement.tests]
    if statement.prefer == "tasks":
        tasks = max(tasks, min(statement.tasks, 2 * tasks))
    return command(statement, quantities, max(RECOMMENDED_SEEDS, 2 * seeds), tasks)


def _second(parts: Sequence[Outcome], needed: int) -> str:
    """What the other choice of runs says, where any test has one."""
    others = [part.other for part in parts if part.other]
    sides = _sides(parts, needed, other=True)
    if not others or sides is None:
        return ""
    for_, against = sides
    verdict = UNDECIDED if _two_sided(for_, against) >= ALPHA else HOLDS if for_ < against else FAILS
    seeds, tasks = min(effect.seeds for effect in others), min(effect.tasks for effect in others)
    p_value = f"p = {_two_sided(for_, against):.2g}, not corrected"
    return f"over {tasks} tasks of {counted(seeds, 'seed')}: {verdict} ({p_value})"


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
    tasks = tasks or (SWEEP_TASKS + 10 if swept else statement.asks)
    return (
        f"regrow run {statement.study} --settings {' '.join(settings)} --systems {' '.join(systems)} "
        f"--tasks {tasks} --seeds {seeds}{' --sweep' if swept else ''} --out results/claim-{statement.id}"
    )


FORMAT = 1


def to_json(verdicts: Sequence[Verdict], margins: Mapping[str, Margin] = MARGINS) -> str:
    """The content of `claims.json`.

    `{"format": 1, "alpha": …, "paper_tasks": …, "margins": {name: {value, unit, reason}}, "claims": [claim, …]}`.
    A claim has `id` ("2a"), `claim` (2), `text`, `place`, `statistic`, `settings`, `systems`, `verdict` ("holds",
    "fails", "not enough data"), `reason`, `effect`, `unit`, `p`, `p_holm`, `command`, `second`, `beside`, `notes`, and
    `parts`: each `quantity`, `setting`, `systems`, `side` (">" or "<"), `bound`, `unit`, `effect`, `other`, `lacks`.
    An effect is null or `value`, `low`, `high` (95 %), `error`, `freedom`, `basis` ("seeds", "tasks": within these runs
    only), `seeds`, `tasks`, `standardised`. Every number is finite; one that is not is null.

    Args:
        verdicts: as `evaluate` returns them.
        margins: the constants behind them.

    Returns:
        JSON text, indented, with a line end.

    Example:
        >>> import polars as pl
        >>> json.loads(to_json(evaluate(pl.DataFrame())))["claims"][0]["verdict"]
        'not enough data'
    """
    content = {
        "format": FORMAT,
        "alpha": ALPHA,
        "paper_tasks": PAPER_TASKS,
        "margins": {name: margin._asdict() for name, margin in margins.items()},
        "claims": [_claim(verdict) for verdict in verdicts],
    }
    return json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _claim(verdict: Verdict) -> dict[str, Any]:
    content = {"id": verdict.id, "claim": verdict.claim} | vars(verdict)
    return content | {"effect": _effect(verdict.effect), "parts": [_outcome(part) for part in verdict.parts]}


def _outcome(part: Outcome) -> dict[str, Any]:
    quantity, test = part.test.quantity, part.test
    content = {"quantity": quantity.name, "setting": quantity.setting, "systems": quantity.systems}
    content |= {"side": test.side, "bound": test.bound, "unit": quantity.unit}
    return content | {"effect": _effect(part.effect), "other": _effect(part.other), "lacks": part.lacks}


def _effect(effect: Effect | None) -> dict[str, Any] | None:
    if not effect:
        return None
    ends = {"value": effect.value, "low": effect.low, "high": effect.high}
    return ends | {field.name: getattr(effect, field.name) for field in fields(Effect)}


def _finite(value: Any) -> Any:
    """The same with null for every number that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
