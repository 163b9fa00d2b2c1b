"""The tables and checkpoints of a run: whole at any moment, verified when they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ..mlp.arithmetic import ARITHMETIC
from ..studies import StackPlan
from . import checkpoint, digests, files, lock
from .columns import RESULTS, Schema
from .tables import check_complete, damaged, member_keys, read_table

_ASIDE = "damaged"

Tables = Mapping[str, pl.DataFrame]


class Stored(NamedTuple):
    """A stack as it is stored.

    task: the next one. state: None where training starts from task 0. tables: the rows before that task. expected: rows
    from that task on which must come out as they are; only where a stack with rows is retrained. expected_state: (task,
    state) that must come out too.
    """

    task: int
    state: dict[str, Any] | None
    tables: dict[str, pl.DataFrame]
    expected: dict[str, pl.DataFrame]
    expected_state: tuple[int, dict[str, Any]] | None = None


class Inspection(NamedTuple):
    """What the files of a stack hold.

    header: of its checkpoint, if any. tasks: complete ones in its tables. damaged: {file: why}. unverified: files
    without a digest.
    """

    header: checkpoint.Header | None
    tasks: int
    damaged: Mapping[Path, str] = {}
    unverified: Sequence[Path] = ()

    def done(self, tasks: int) -> int:
        """How many of so many tasks need no training.

        Those before its checkpoint, where its rows reach it; without a checkpoint all of them where its rows are
        complete: a run that was published without its checkpoints is finished.
        """
        if self.damaged:
            return 0
        if self.header:
            return min(self.header.task, tasks) if self.tasks >= self.header.task else 0
        return tasks if self.tasks >= tasks else 0


@dataclass(frozen=True)
class Store:
    """The stacks of one run in a folder.

    `DIR/results/<stack>.parquet` holds a stack's rows (so does any other table), `DIR/checkpoints/<stack>.pt` its
    state. Rows are written first; those beyond the checkpoint's task are dropped when the stack is resumed, unless they
    were there before the stack was retrained: then they are expected, and compared with the new ones.

    Args:
        folder: the run's, which has its manifest.
        study: goes into the rows.
        every: seconds between two stores of a stack.
        schemas: {table: {column: polars type}}, with one for `results`.
        data: what the networks learn from, as in the manifest's config.
        shard: the part of the run that writes here, if it is one.
    """

    folder: Path
    study: str
    every: float = 20.0
    schemas: Mapping[str, Schema] = field(default_factory=lambda: {"results": RESULTS})
    data: Mapping[str, Any] = field(default_factory=dict)
    shard: lock.Shard | None = None

    def prepare(self, stacks: Sequence[str] | None = None) -> None:
        """Make the folders, and remove what killed writers left; for the run that holds the lock.

        Args:
            stacks: those of a shard, the others may be being written; None: all.
        """
        for name in (*self.schemas, "checkpoints"):
            folder = self.folder / name
            ending = ".pt" if name == "checkpoints" else ".parquet"
            try:
                folder.mkdir(exist_ok=True)
                files.remove_temporary(folder, stacks and [f"{stack}{ending}" for stack in stacks])
            except OSError as error:
                raise files.cannot_write(folder, error) from error
        if stacks is None:
            files.remove_temporary(self.folder)
        files.sync_folder(self.folder)

    def frame(self, table: str, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
        """Rows as a table of the right columns; missing values are null."""
        schema = self.schemas[table]
        unknown = {key for row in rows for key in row} - set(schema)
        if unknown:
            raise ValueError(f"`{table}` has no column {', '.join(sorted(unknown))}: it has {', '.join(schema)}")
        return pl.DataFrame([row | {"study": self.study} for row in rows], schema=dict(schema))

    def save(
        self,
        plan: StackPlan,
        task: int,
        state: Mapping[str, Any],
        tables: Tables,
        *,
        expected: int = 0,
        within: bool = False,
    ) -> None:
        """Store a stack that has finished its tasks before `task`: first its rows, then its state.

        Args:
            plan, task, state, tables: of the stack.
            expected: tasks whose rows are expected, see `Stored`.
            within: whether the state is of the middle of a task.

        Raises:
            OSError: where it cannot be written; what was stored before stays.
        """
        for name, frame in tables.items():
            files.write_whole(self.table_path(name, plan.id), digests.seal_table(frame))
        header = checkpoint.Header(task, expected, within, self._owner(plan))
        checkpoint.save(self.checkpoint_path(plan.id), header, state)

    def restore(self, plan: StackPlan) -> Stored:
        """Read a stack back: the next task, its state and its rows; task 0, no state and no rows if nothing is stored.

        If the tables end before the checkpoint's task, the checkpoint is ignored, and the rows become expected ones.

        Raises:
            ValueError: if a file is damaged, belongs to another stack, or has different columns; the message says what
                to do.
        """
        inspection = self.inspect(plan)
        for path, why in inspection.damaged.items():
            raise damaged(path, why)
        resumed = inspection.header is not None and inspection.tasks >= inspection.header.task
        state, task = None, 0
        if resumed:
            header, state = self._load(self.checkpoint_path(plan.id))
            task, expected = header.task, header.expected
        else:
            expected = inspection.tasks
        tables, later = {}, {}
        for name, schema in self.schemas.items():
            rows = self.read(name, plan)
            tables[name] = rows.filter(pl.col("task") < task)
            later[name] = rows.filter(pl.col("task").is_between(task, expected, closed="left"))
            if state is not None and tables[name].schema != pl.Schema(dict(schema)):
                raise ValueError(
                    f"{self.table_path(name, plan.id)} has different columns from those that this version of regrow "
                    "writes: resume with the version in manifest.json, or choose another --out"
                )
        return Stored(task, state, tables, later, self._expected_state(plan, task))

    def inspect(self, plan: StackPlan, *, states: bool = False) -> Inspection:
        """Read and verify a stack's files; changes nothing.

        Args:
            plan: the stack.
            states: also verify the state in its checkpoint, which takes longer.

        Raises:
            ValueError: where a file is sound but of another stack, run or seed, or rows are missing or double.
        """
        header, bad, unverified = None, dict[Path, str](), []
        path = self.checkpoint_path(plan.id)
        try:
            header = checkpoint.load(path)[0] if states and path.exists() else checkpoint.read_header(path)
        except digests.Damaged as error:
            bad[path] = str(error)
        if header and header.owner is None:
            unverified.append(path)
        elif header:
            self._check_owner(path, header, plan)
        reached = []
        for name in self.schemas:
            path = self.table_path(name, plan.id)
            try:
                rows, verified = read_table(path)
                reached.append(check_complete(path, rows, member_keys(plan)))
                unverified += [] if verified else [path]
            except FileNotFoundError:
                reached.append(0)
            except digests.Damaged as error:
                bad[path] = str(error)
        return Inspection(header, min(reached, default=0), bad, unverified)

    def task(self, stack: str) -> int:
        """The next task of a stack's checkpoint; 0 where there is none."""
        header = self._header(self.checkpoint_path(stack))
        return header.task if header else 0

    def done(self, plan: StackPlan, tasks: int) -> int:
        """How many of so many tasks of a stack need no training, see `Inspection.done`.

        Raises:
            ValueError: where a file is damaged or of another stack, with the remedy.
        """
        inspection = self.inspect(plan)
        for path, why in inspection.damaged.items():
            raise damaged(path, why)
        return inspection.done(tasks)

    def survey(self, plans: Sequence[StackPlan], tasks: int) -> tuple[dict[str, int], list[str]]:
        """How many tasks of each stack need no training, {id: tasks}; and a line for each file that was set aside.

        Damaged files are moved to `DIR/damaged`, and so is a checkpoint that lost its rows: the stack is then
        retrained, and must reproduce what is left of it. For the run that holds the lock.

        Raises:
            ValueError: as `inspect` does.
        """
        done, lines = {}, []
        for plan in plans:
            inspection = self.inspect(plan, states=True)
            for path, why in inspection.damaged.items():
                lines.append(f"{path} is damaged ({why}): moved to {self._set_aside(path)}")
            if inspection.damaged:
                inspection = self.inspect(plan)
            if inspection.header and inspection.tasks < inspection.header.task:
                path = self.checkpoint_path(plan.id)
                if inspection.header.within:  # no state of this moment will come out again
                    self._set_aside(path)
                else:
                    path.replace(self.lost_path(plan.id))
                lines.append(f"{self.table_path('results', plan.id)} lacks rows: {plan.id} is retrained and compared")
            done[plan.id] = inspection.done(tasks)
        return done, lines

    def confirmed(self, plan: StackPlan) -> None:
        """The expected state came out again: forget it."""
        self.lost_path(plan.id).unlink(missing_ok=True)

    def table_path(self, name: str, stack: str) -> Path:
        return self.folder / name / f"{stack}.parquet"

    def checkpoint_path(self, stack: str) -> Path:
        return self.folder / "checkpoints" / f"{stack}.pt"

    def lost_path(self, stack: str) -> Path:
        """A checkpoint whose rows were lost, until its state has come out again."""
        return self.folder / "checkpoints" / f"{stack}.expected"

    def read(self, name: str, plan: StackPlan) -> pl.DataFrame:
        """The rows of a table of a stack; none where it is missing."""
        path = self.table_path(name, plan.id)
        if not path.exists():
            return pl.DataFrame(schema=dict(self.schemas[name]))
        try:
            return read_table(path)[0]
        except digests.Damaged as error:
            raise damaged(path, str(error)) from None

    def _header(self, path: Path) -> checkpoint.Header | None:
        try:
            return checkpoint.read_header(path)
        except digests.Damaged as error:
            raise damaged(path, str(error)) from None

    def _load(self, path: Path) -> tuple[checkpoint.Header, dict[str, Any]]:
        try:
            return checkpoint.load(path)
        except digests.Damaged as error:
            raise damaged(path, str(error)) from None

    def _expected_state(self, plan: StackPlan, task: int) -> tuple[int, dict[str, Any]] | None:
        path = self.lost_path(plan.id)
        if not path.exists():
            return None
        header, state = self._load(path)
        return None if header.within or header.task <= task else (header.task, state)

    def _owner(self, plan: StackPlan) -> dict[str, Any]:
        return {
            "study": self.study, "stack": plan.id, "seed": plan.seed, "data": dict(self.data), "arithmetic": ARITHMETIC,
            "members": [list(key) for key in sorted(member_keys(plan))],
        }  # fmt: skip

    def _check_owner(self, path: Path, header: checkpoint.Header, plan: StackPlan) -> None:
        owner, wanted = dict(header.owner or {}), self._owner(plan)
        data, known = owner.pop("data", {}), wanted.pop("data")
        owner |= {key: value for key, value in data.items() if key in known}
        wanted |= {key: value for key, value in known.items() if key in data}
        for key, value in wanted.items():
            if owner.get(key) != value:
                raise ValueError(
                    f"{path} is of another run: its `{key}` is {owner.get(key)!r:.60}, not {value!r:.60}: move it "
                    "away, or put back the right one"
                )

    def _set_aside(self, path: Path) -> Path:
        folder = self.folder / _ASIDE
        try:
            folder.mkdir(exist_ok=True)
            number = len(list(folder.iterdir()))
            aside = folder / f"{number}.{path.parent.name}.{path.name}"
            path.replace(aside)
        except OSError as error:
            raise files.cannot_write(folder, error) from error
        return aside
