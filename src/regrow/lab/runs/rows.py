"""Whether rows are complete: every member, every task, once."""

from collections.abc import Collection
from typing import Any

import polars as pl

MEMBER = ("setting", "system", "config_id", "seed")
"""The columns that name a member of a stack."""

Key = tuple[str, str, str, int]


def complete_tasks(rows: pl.DataFrame, members: Collection[Key], *, of_stack: bool = True) -> int:
    """How many tasks a table holds, from 0.

    Args:
        rows: of any table.
        members: whose rows they must be.
        of_stack: whether it is of one stack, so that all of the members must be there, with equally many tasks.

    Returns:
        T, where every member has a row (or rows of the same epochs) of each of the tasks 0 to T - 1, and no other.

    Raises:
        ValueError: where a member has no rows, or some twice, or not those of tasks 0 to T - 1; or for rows of others.

    Example:
        >>> rows = pl.DataFrame({"setting": "small", "system": "swr", "config_id": "a", "seed": 0, "task": [0, 1]})
        >>> complete_tasks(rows, {("small", "swr", "a", 0)})
        2
    """
    keys = [*MEMBER, "task"]
    if missing := [name for name in keys if name not in rows.columns]:
        raise ValueError(f"it has no column {', '.join(missing)}")
    if odd := [name for name in ("seed", "task") if not rows.schema[name].is_integer()]:
        raise ValueError(f"its column {odd[0]} is of type {rows.schema[odd[0]]}")
    if not len(rows):
        return 0
    each = rows.group_by(MEMBER).agg(
        low=pl.col("task").min(), high=pl.col("task").max(), tasks=pl.col("task").n_unique(), rows=pl.len()
    )
    keyed: dict[Any, dict[str, Any]] = {tuple(row[name] for name in MEMBER): row for row in each.to_dicts()}
    if foreign := sorted(set(keyed) - set(members)):
        raise ValueError(f"it holds rows of {_text(foreign[0])}, which is not in the packing")
    if of_stack and (absent := sorted(set(members) - set(keyed))):
        raise ValueError(f"it holds no rows of {_text(absent[0])}")
    tasks = max(row["high"] for row in keyed.values()) + 1
    for member, row in keyed.items():
        own = tasks if of_stack else row["high"] + 1
        if row["low"] != 0 or row["tasks"] != own:
            raise ValueError(f"it lacks tasks of {_text(member)}: {row['tasks']} of {own}")
    _check_once(rows, keys, sum(row["tasks"] for row in keyed.values()))
    return tasks


def _check_once(rows: pl.DataFrame, keys: list[str], count: int) -> None:
    if "epoch" in rows.columns:
        of_task = rows.group_by(keys).agg(pl.col("epoch").sort())
        if of_task["epoch"].n_unique() != 1 or of_task["epoch"][0].to_list() != list(range(len(of_task["epoch"][0]))):
            raise ValueError("its tasks do not all have the same epochs, once each")
    elif len(rows) != count:
        raise ValueError(f"it holds rows twice: {len(rows):,} for {count:,} tasks")


def _text(member: Any) -> str:
    return f"setting {member[0]}, system {member[1]}, config {member[2]}, seed {member[3]}"
