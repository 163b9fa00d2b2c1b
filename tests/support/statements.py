"""Statements on permuted images by their ids, and what made-up runs say of one."""

from collections.abc import Mapping
from typing import Any

from results_frames import Kind, runs

from regrow.report.claims import STATEMENTS, Verdict, evaluate
from regrow.report.margins import LONG

BY_ID = {statement.id: statement for statement in STATEMENTS}
FLAT, FALLING = Kind(92.0), Kind(92.0, drop=6.0)


def only(statement: str, kinds: Mapping[tuple[str, str], Kind], tasks: int = LONG, **more: Any) -> Verdict:
    """The verdict on one statement from just the runs that it needs, long enough to say that nothing changes."""
    quantities = [test.quantity for test in BY_ID[statement].tests]
    needed = {(setting, system) for each in quantities for setting in each.settings for system in each.systems}
    (verdict,) = evaluate(runs({key: kinds[key] for key in needed}, tasks, **more), [BY_ID[statement]])
    return verdict
