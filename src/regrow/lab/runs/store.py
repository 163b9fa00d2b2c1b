"""Where a run keeps what it finds: tables of rows and a checkpoint for each stack, whole at any moment."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ... import check
from . import checkpoint, files
from .columns import RESULTS, Schema, with_scratch_difference

TABLES = ("results", "epochs")
_ORDER = ("setting", "system", "config_id", "seed", "task", "epoch")

Tables = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Store:
    """The stacks of one run in a folder.

    `DIR/results/<stack>.parquet` holds a stack's rows (so does any other table), `DIR/checkpoints/<stack>.pt` its
    state. Rows are written first; what they hold beyond the checkpoint's task is dropped when the stack goes on.

    Args:
        folder: the run's, which has its manifest.
        study: goes into the rows.
        every: seconds between one time that a stack is stored and the next.
        schemas: {table: {column: polars type}}, with one for `results`.
    """

    folder: Path
    study: str
    every: float = 20.0
    schemas: Mapping[str, Schema] = field(default_factory=lambda: {"results": RESULTS})

    def prepare(self) -> None:
        """Make the folders, and clear away what killed writers left; for the run that holds the lock."""
        for name in (*self.schemas, "checkpoints"):
            folder = self.folder / name
            try:
                folder.mkdir(exist_ok=True)
                files.remove_temporary(folder)
            except OSError as error:
                raise files.cannot_write(folder, error) from error
        files.remove_temporary(self.folder)
        files.sync_folder(self.folder)

    def frame(self, table: str, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
        """Rows as a table of the right columns; what a row lacks is null."""
        schema = self.schemas[table]
        unknown = {key for row in rows for key in row} - set(schema)
        if unknown:
            raise ValueError(f"`{table}` has no column {', '.join(sorted(unknown))}: it has {', '.join(schema)}")
        return pl.DataFrame([row | {"study": self.study} for row in rows], schema=dict(schema))

    def save(self, stack: str, task: int, state: Mapping[str, Any], tables: Tables) -> None:
        """Store a stack that has finished its tasks before `task`: first its rows, then its state.

        Raises:
            OSError: where it cannot be written; what was stored before stays.
        """
        for name, frame in tables.items():
            buffer = io.BytesIO()
            frame.rechunk().write_parquet(buffer)
            files.write_whole(self._table(name, stack), buffer.getvalue())
        checkpoint.save(self._checkpoint(stack), task, state)

    def restore(self, stack: str) -> tuple[int, dict[str, Any] | None, dict[str, pl.DataFrame]]:
        """The next task of a stack, its state and its rows so far: 0, None and no rows where it has no checkpoint.

        Raises:
            ValueError: where a file is damaged or one is missing, with the remedy.
        """
        empty = {name: pl.DataFrame(schema=dict(schema)) for name, schema in self.schemas.items()}
        path = self._checkpoint(stack)
        if not path.exists():
            return 0, None, empty
        task, state = checkpoint.load(path)
        tables = {}
        for name, table in empty.items():
            source = self._table(name, stack)
            if not source.exists():
                raise ValueError(f"{source} is missing: put it back, or delete {path} and run again to train it anew")
            tables[name] = table.vstack(_read(source).filter(pl.col("task") < task))
        last = tables["results"]["task"].max()
        if task > 0 and last != task - 1:
            raise ValueError(
                f"{self._table('results', stack)} must reach task {task - 1}, as its checkpoint does; it reaches "
                f"{last}: put it back, or delete {path} and run again to train it anew"
            )
        return task, state, tables

    def task(self, stack: str) -> int:
        """The task that a stack goes on with, from 0: that of its checkpoint."""
        return checkpoint.task_of(self._checkpoint(stack))

    def done(self, stack: str, tasks: int) -> int:
        """How many of a stack's tasks need no training.

        Those before its checkpoint; where it has none, all of them if its rows are whole: a run that is published
        without its checkpoints is finished, and is not trained over.

        Raises:
            ValueError: where a file is damaged, with the remedy.
        """
        if self._checkpoint(stack).exists():
            return min(self.task(stack), tasks)
        tables = [self._table(name, stack) for name in self.schemas]
        whole = all(table.exists() and _last_task(table) >= tasks - 1 for table in tables)
        return tasks if whole else 0

    def _table(self, name: str, stack: str) -> Path:
        return self.folder / name / f"{stack}.parquet"

    def _checkpoint(self, stack: str) -> Path:
        return self.folder / "checkpoints" / f"{stack}.pt"


def load(folder: Path | str, table: str = "results") -> pl.DataFrame:
    """The rows that a run has stored so far, also while it goes on, also from a copy that is read-only.

    Args:
        folder: what `regrow run` wrote (`--out`).
        table: "results", one row per network and task, or "epochs", where a study has them.

    Returns:
        A polars table, sorted by setting, system, config_id, seed and task.

    Raises:
        FileNotFoundError: where there is no such folder or it is not of a run.
        ValueError: where there are no rows yet, for an unknown table, for a damaged file.

    Example:
        >>> import tempfile
        >>> from regrow.lab.runs.manifest import write
        >>> folder = Path(tempfile.mkdtemp())
        >>> write(folder, {"study": "optimizers"})
        >>> store = Store(folder, "optimizers")
        >>> store.prepare()
        >>> rows = [{"setting": "large", "system": "swr", "config_id": "0", "seed": 0, "task": 0, "loss": 0.5}]
        >>> store.save("large.seed0.0", 1, {}, {"results": store.frame("results", rows)})
        >>> load(folder).select("study", "system", "task", "loss").rows()
        [('optimizers', 'swr', 0, 0.5)]
    """
    check.choice("table", table, TABLES)
    folder = Path(folder)
    files.read_manifest(folder)
    frames = [_read(path) for path in sorted((folder / table).glob("*.parquet"))]
    if not any(map(len, frames)):
        raise ValueError(f"{folder} holds no rows of `{table}` yet: a run stores its first after some 20 seconds")
    rows = pl.concat(frames)
    if "scratch_difference" in rows.columns:  # of other stacks: only here are they together
        rows = with_scratch_difference(rows)
    return rows.sort([column for column in _ORDER if column in rows.columns], maintain_order=True)


def _last_task(path: Path) -> int:
    """The last task that a table has a row of; -1 where it has none."""
    last = _read(path)["task"].max()
    return -1 if last is None else int(last)  # type: ignore[arg-type]


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        what = " ".join(str(error).split())[:60]
        state = path.parent.parent / "checkpoints" / f"{path.stem}.pt"
        raise ValueError(
            f"{path} is damaged ({what}): delete it and {state} and run again; their stack then starts anew"
        ) from error
