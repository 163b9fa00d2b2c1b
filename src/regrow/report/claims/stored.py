"""The content of `claims.json`."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..margins import ALPHA, MARGINS, PAPER_TASKS, Margin
from ..stats import Effect
from .verdict import Outcome, Verdict

FORMAT = 2


def to_json(verdicts: Sequence[Verdict], margins: Mapping[str, Margin] = MARGINS) -> str:
    """The content of `claims.json`.

    `{"format": 2, "alpha": …, "paper_tasks": …, "margins": {name: {value, unit, reason, source}}, "claims": […]}`.
    A claim has `id` ("2a"), `text`, `grade` ("confirmed", "contradicted", "agrees", "disagrees", "undecided", "not
    run"), `effect` (a number), `low`, `high` (95 %), `unit`, `seeds`, `tasks` (the fewest of any part), `criterion`,
    `command`; `evidence` ("exploratory", "confirmatory"), `old_verdict` (what the rules before say of these runs:
    "holds", "fails", "not enough data"), `claim` (2), `place`, `reason`, `settings`, `systems`, `p`, `p_holm`,
    `second`, `beside`, `notes`, and `parts`: each `quantity`, `setting`, `systems`, `side` (">" or "<"), `bound`,
    `unit`, `effect`, `other`, `lacks`. An effect of a part is null or `value`, `low`, `high`, `error`, `freedom`,
    `basis` ("seeds", "tasks": within these runs only), `seeds`, `tasks`, `standardised`. Every number is finite; one
    that is not is null. For one more release: `verdict` (the grade in the old words), `statistic` (the criterion),
    `estimate` (what `effect` was).

    Args:
        verdicts: as `evaluate` returns them.
        margins: the constants behind them.

    Returns:
        JSON text, indented, with a line end.

    Example:
        >>> from regrow.report.claims import evaluate
        >>> import polars as pl
        >>> json.loads(to_json(evaluate(pl.DataFrame())))["claims"][0]["grade"]
        'not run'
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
    estimate = _effect(verdict.effect)
    number = estimate or {}
    first = {name: getattr(verdict, name) for name in ("id", "text", "grade")}
    first |= {"effect": number.get("value")} | {name: number.get(name) for name in ("low", "high")}
    first |= {"unit": verdict.unit} | dict(zip(("seeds", "tasks"), verdict.size, strict=True))
    first |= {"criterion": verdict.criterion, "command": verdict.command, "evidence": verdict.evidence}
    first |= {"old_verdict": verdict.old_verdict, "claim": verdict.claim}
    rest = {name: value for name, value in vars(verdict).items() if name not in first}
    kept = {"verdict": verdict.verdict, "statistic": verdict.criterion, "estimate": estimate}
    return first | rest | {"parts": [_outcome(part) for part in verdict.parts]} | kept


def _outcome(part: Outcome) -> dict[str, Any]:
    quantity, test = part.test.quantity, part.test
    content = {"quantity": quantity.name, "setting": quantity.setting, "systems": quantity.systems}
    content |= {"side": test.side, "bound": test.bound, "unit": quantity.unit}
    return content | {"effect": _effect(part.effect), "other": _effect(part.other), "lacks": part.lacks}


def _effect(effect: Effect | None) -> dict[str, Any] | None:
    if not effect:
        return None
    ends = {"value": effect.value, "low": effect.low, "high": effect.high}
    names = (field.name for field in fields(Effect) if field.name != "freedom_before")
    return ends | {name: getattr(effect, name) for name in names}


def _finite(value: Any) -> Any:
    """The same with null for every number that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
