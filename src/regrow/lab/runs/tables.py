"""Reads the stored tables, each file verified and checked against the manifest."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from ... import check
from ..studies import StackPlan
from . import digests, manifest_file
from .columns import with_scratch_difference
from .rows import Key, complete_tasks

TABLES = ("results", "epochs")
_ORDER = ("setting", "system", "config_id", "seed", "task", "epoch")


def member_keys(plan: StackPlan) -> set[Key]:
    """Setting, system, config_id and seed of the members of a stack."""
    return {(plan.setting.name, member.system, member.config_id, member.seed) for member in plan.members}


def read_table(path: Path) -> tuple[pl.DataFrame, bool]:
    """A stored table, and whether it was verified. The path is taken literally: it is no pattern and no address.

    Raises:
        FileNotFoundError: where it is missing.
        regrow.lab.runs.digests.Damaged: where it is damaged.
    """
    return digests.open_table(path.read_bytes())


def damaged(path: Path, why: str) -> ValueError:
    """The error to raise for a damaged file, with the remedy."""
    return ValueError(
        f"{path} is damaged ({why}): rerun the command of the run, which sets it aside and retrains its stack"
    )


def check_complete(path: Path, rows: pl.DataFrame, members: set[Key], *, of_stack: bool = True) -> int:
    """The complete tasks of a table.

    Raises:
        ValueError: where it is not of these members, or rows are missing or double; one line with the remedy.
    """
    try:
        return complete_tasks(rows, members, of_stack=of_stack)
    except ValueError as error:
        raise ValueError(f"{path} is incomplete or not of this run: {error}: move it away, or put it back") from None


def load(folder: Path | str, table: str = "results") -> pl.DataFrame:
    """The rows that a run has stored so far; works during the run, and on a read-only copy.

    Args:
        folder: what `regrow run` wrote (`--out`).
        table: "results", one row per network and task, or "epochs", where a study has them.

    Returns:
        A polars table, sorted by setting, system, config_id, seed and task.

    Raises:
        FileNotFoundError: where there is no such folder or it is not of a run.
        ValueError: where there are no rows yet, for an unknown table, for a file that is damaged or not of the run.

    Example:
        >>> import tempfile
        >>> from regrow.lab.studies import packing
        >>> from regrow.lab.runs import manifest
        >>> from regrow.lab.runs.store import Store
        >>> folder, plans = Path(tempfile.mkdtemp()), packing.pack("optimizers", ["large"], ["base"])
        >>> manifest.write(folder, manifest.describe("optimizers", {"tasks": 1, "seeds": 1}, plans, "cpu", []))
        >>> store = Store(folder, "optimizers")
        >>> store.prepare()
        >>> base = plans[0].members[0]
        >>> row = {"setting": "large", "system": "base", "config_id": base.config_id, "seed": 0, "task": 0, "loss": 0.5}
        >>> store.save(plans[0], 1, {}, {"results": store.frame("results", [row])})
        >>> load(folder).select("study", "system", "task", "loss").rows()
        [('optimizers', 'base', 0, 0.5)]
    """
    check.choice("table", table, TABLES)
    folder = Path(folder)
    members = manifest_file.members(manifest_file.read(folder)["packing"])
    frames = [frame for path in table_files(folder, table) if len(frame := _load(path, members))]
    if not frames:
        raise ValueError(f"{folder} holds no rows of `{table}` yet: a run stores its first after about 20 seconds")
    try:
        rows = pl.concat(frames)
    except pl.exceptions.PolarsError as error:
        what = " ".join(str(error).split())[:80]
        raise ValueError(
            f"{folder / table} holds tables of different columns ({what}): move away what is not of it"
        ) from None
    if "scratch_difference" in rows.columns:  # of other stacks: only here are they together
        rows = with_scratch_difference(rows)
    return rows.sort([column for column in _ORDER if column in rows.columns], maintain_order=True)


def table_files(folder: Path, table: str = "results") -> list[Path]:
    """The files of a table, sorted."""
    place = folder / table
    return sorted(place.glob("*.parquet")) if place.is_dir() else []


def _load(path: Path, members: Mapping[str, set[Key]]) -> pl.DataFrame:
    try:
        rows, _ = read_table(path)
    except digests.Damaged as error:
        raise damaged(path, str(error)) from None
    of_stack = path.stem in members  # rows that are published may be in one file
    wanted = members[path.stem] if of_stack else {key for keys in members.values() for key in keys}
    check_complete(path, rows, wanted, of_stack=of_stack)
    return rows
