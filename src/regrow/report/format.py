"""Numbers as tables and verdicts write them: true minus signs, intervals, p-values."""

import math
from collections.abc import Iterable
from typing import Any

from .margins import LEAST_TASKS, RECOMMENDED_SEEDS, SWEEP_TASKS
from .runs import Comparison
from .stats import SEEDS, Effect

DASH = "–"
"""Stands for a missing number."""


def interval(effect: Effect | None, sign: bool = False) -> str:
    """A value with its 95 % interval, marked where it describes these runs alone.

    Example:
        >>> interval(Effect(-1.5, 0.25, 1e9, "tasks", 1, 200))
        '−1.50 [−1.99, −1.01]†'
    """
    if effect is None or not math.isfinite(effect.value):
        return DASH
    if not math.isfinite(effect.half_width):
        return number(effect.value, 2, sign)
    ends = f"[{number(effect.low, 2)}, {number(effect.high, 2)}]"
    return f"{number(effect.value, 2, sign)} {ends}{'†' if effect.basis == 'tasks' else ''}"


def number(value: float, digits: int, sign: bool = False) -> str:
    """A number with so many decimals and a true minus; a dash where it is not finite.

    Example:
        >>> number(-0.004, 2), number(1.0, 1, sign=True), number(float("nan"), 1)
        ('0.00', '+1.0', '–')
    """
    if not math.isfinite(value):
        return DASH
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def value(knob: Any) -> str:
    """A knob's value, as short as possible.

    Example:
        >>> value(1e-05), value(0.05), value(2048), value("after")
        ('1e-5', '0.05', '2048', 'after')
    """
    if not isinstance(knob, float):
        return str(knob)
    text = f"{knob:g}" if 1e-2 <= abs(knob) < 1e5 or knob == 0 else f"{knob:.3g}" if abs(knob) >= 1e5 else f"{knob:e}"
    if "e" not in text:
        return text
    mantissa, power = text.split("e")
    return f"{float(mantissa):g}e{int(power)}"


def chance(p: float | None) -> str:
    """A p-value.

    Example:
        >>> chance(0.0123), chance(1e-9), chance(None)
        ('0.012', '< 0.0001', '–')
    """
    if p is None or not math.isfinite(p):
        return DASH
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def p_is(p: float) -> str:
    """A p-value in a sentence.

    Example:
        >>> p_is(0.0123), p_is(1e-9)
        ('p = 0.012', 'p < 0.0001')
    """
    return f"p {'' if p < 1e-4 else '= '}{chance(p)}"


def count(runs: Comparison) -> str:
    """Seeds × tasks."""
    return f"{len(runs.seeds)} × {runs.tasks}"


def footnotes(rows: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """What the marks in cells mean."""
    if not any("†" in cell for row in rows for cell in row):
        return ()
    return (f"† fewer than {SEEDS} seeds: the interval is of these runs alone (moving-block bootstrap over tasks).",)


def run_command(
    study: str,
    settings: Iterable[str],
    systems: Iterable[str],
    sweep: bool = False,
    tasks: int | None = None,
    options: str = "",
) -> str:
    """The command that makes runs for a figure.

    Args:
        study, settings, systems, sweep: as for `regrow run`.
        tasks: of each network; default: as many as the figures on permuted images need.
        options: more words, such as the size of the networks.

    Example:
        >>> run_command("optimizers", ["large"], ["base", "swr"])
        'regrow run optimizers --settings large --systems base swr --tasks 200 --seeds 5'
    """
    least, seeds = (SWEEP_TASKS + 10, 1) if sweep else (LEAST_TASKS, RECOMMENDED_SEEDS)
    which = f"--settings {' '.join(dict.fromkeys(settings))} --systems {' '.join(dict.fromkeys(systems))}"
    more = f"{' --sweep' * sweep}{f' {options}' * bool(options)}"
    return f"regrow run {study} {which} --tasks {least if tasks is None else tasks} --seeds {seeds}{more}"
