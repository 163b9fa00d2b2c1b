"""Verdicts as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..stats import Effect
from .margins import ALPHA, MARGINS, PAPER_TASKS, Margin
from .verdict import Part, Verdict

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
        >>> from .verdict import evaluate
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
    return {
        "id": verdict.id,
        "claim": verdict.claim,
        "text": verdict.text,
        "place": verdict.place,
        "statistic": verdict.statistic,
        "settings": verdict.settings,
        "systems": verdict.systems,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "effect": _effect(verdict.effect),
        "unit": verdict.unit,
        "p": verdict.p,
        "p_holm": verdict.holm,
        "command": verdict.command,
        "second": verdict.second,
        "beside": verdict.beside,
        "notes": verdict.notes,
        "parts": [_part(part) for part in verdict.parts],
    }


def _part(part: Part) -> dict[str, Any]:
    quantity = part.test.quantity
    return {
        "quantity": quantity.name,
        "setting": quantity.setting,
        "systems": quantity.systems,
        "side": part.test.side,
        "bound": part.test.bound,
        "unit": quantity.unit,
        "effect": _effect(part.effect),
        "other": _effect(part.other),
        "lacks": part.lacks,
    }


def _effect(effect: Effect | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    return {
        "value": effect.value,
        "low": effect.low,
        "high": effect.high,
        "error": effect.error,
        "freedom": effect.freedom,
        "basis": effect.basis,
        "seeds": effect.seeds,
        "tasks": effect.tasks,
        "standardised": effect.standardised,
    }


def _finite(value: Any) -> Any:
    """The same with null for every number that is none."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
