"""Tables of numbers and texts: stored with a digest of each column, and compared."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STRICT, LOOSE, WORDS = "strict", "loose", "words"
"""Kinds of tables: a column that AFTER lacks is a difference; only a note; differences of texts are notes as well."""

EDITION = "1"
"""Counts up when a job makes other tables of the same numbers: what was kept of it is then computed again."""

Columns = Mapping[str, np.ndarray]


class Table(NamedTuple):
    """Columns of any lengths by name, and how they are compared."""

    columns: Columns
    kind: str = STRICT


class Found(NamedTuple):
    """What came of comparing one table."""

    name: str
    rows: int
    columns: int
    differences: list[str]
    notes: list[str]


def machine() -> list[str]:
    """What rounding depends on, beside the code."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line for line in lines if line.startswith("model name")), platform.processor())
    return [cpu, platform.python_version(), *(f"{name} {version(name)}" for name in ("torch", "numpy", "numba"))]


def array(value: Any) -> np.ndarray:
    """A number, text, list or tensor as an array that can be stored; None becomes a text."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    found = np.asarray("None" if value is None else value)
    return (found.astype(str) if found.dtype == object else found).reshape(-1)


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings and lists, with the path to each; a list of scalars is one leaf."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from flat(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(part, Mapping | list | tuple) for part in value):
        for i, part in enumerate(value):
            yield from flat(part, f"{name}.{i}")
    else:
        yield name, value


def from_flat(value: Any, kind: str = LOOSE) -> Table:
    return Table({name: array(part) for name, part in flat(value)}, kind)


def digest(column: np.ndarray) -> str:
    """Of type and values; all NaN count as one."""
    if column.dtype.kind in "US":
        return "text " + hashlib.sha256("\0".join(column.tolist()).encode()).hexdigest()[:24]
    if column.dtype.kind == "f":
        column = np.where(np.isnan(column), column.dtype.type(np.nan), column)
    return f"{column.dtype} {hashlib.sha256(np.ascontiguousarray(column).tobytes()).hexdigest()[:24]}"


def store(path: Path, tables: Mapping[str, Table], processor_seconds: float) -> None:
    """Digests of all columns as JSON, and beside them the values, to say by how much they differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {}
    values: dict[str, np.ndarray] = {}
    for name, table in tables.items():
        index[name] = {"kind": table.kind, "columns": {}}
        for column, data in table.columns.items():
            index[name]["columns"][column] = [len(data), digest(data), str(len(values))]
            values[str(len(values))] = data
    with open(path, "wb") as file:
        np.savez_compressed(file, **values)  # type: ignore[arg-type]
    content = {"tables": index, "seconds": round(processor_seconds, 1)}
    path.with_suffix(".json").write_text(json.dumps(content, indent=1))


class Kept:
    """What one job of one commit computed; `fingerprint` is of what else decides it."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint, self.failure = path, fingerprint, ""
        self._values: Any = None

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.path.with_suffix(".json").read_text())

    def good(self) -> bool:
        """Whether it is there, finished, and of this job and machine."""
        return self.path.with_suffix(".json").exists() and self.content.get("fingerprint") == self.fingerprint

    def finish(self, failure: str) -> None:
        """Mark it as finished, unless it failed."""
        self.failure = failure
        if not failure:
            content = self.content | {"fingerprint": self.fingerprint}
            self.path.with_suffix(".json").write_text(json.dumps(content, indent=1))

    @property
    def seconds(self) -> float:
        """Of the processor."""
        return 0.0 if self.failure else self.content["seconds"]

    def values(self, key: str) -> np.ndarray:
        self._values = self._values or np.load(self.path)
        return self._values[key]


def compare(one: Kept, other: Kept) -> list[Found]:
    """Every table of both."""
    before, after = one.content["tables"], other.content["tables"]
    found = []
    for name in (*before, *(name for name in after if name not in before)):
        if name not in before or name not in after:
            where = "BEFORE" if name in before else "AFTER"
            only = [f"only in {where}"]
            found.append(Found(name, 0, 0, only if name in before else [], [] if name in before else only))
        else:
            found.append(_compare(name, before[name], after[name], one, other))
    return found


def _compare(name: str, before: Any, after: Any, one: Kept, other: Kept) -> Found:
    kind, a, b = before["kind"], before["columns"], after["columns"]
    differences, notes = [], []
    for side, own, others in (("BEFORE", a, b), ("AFTER", b, a)):
        if lacking := [column for column in own if column not in others]:
            shown = ", ".join(lacking[:6]) + f" and {len(lacking) - 6} more" * (len(lacking) > 6)
            is_note = kind != STRICT or side == "AFTER"
            (notes if is_note else differences).append(f"only in {side}: {shown}")
    for column in a:
        if column in b and a[column][1] != b[column][1]:
            what = difference(one.values(a[column][2]), other.values(b[column][2]))
            (notes if kind == WORDS else differences).append(f"{column} ({what})")
    return Found(name, max([0, *(size for size, *_ in a.values())]), len(a), differences, notes)


def difference(a: np.ndarray, b: np.ndarray) -> str:
    """By how much two columns differ, in words."""
    if len(a) != len(b):
        return f"{len(a):,} -> {len(b):,} rows"
    texts = a.dtype.kind in "US" or b.dtype.kind in "US"
    if texts:
        where = np.flatnonzero(a.astype(str) != b.astype(str))
        first = f", first {str(a[where[0]])[:60]!r} -> {str(b[where[0]])[:60]!r}" if len(where) else ", in type only"
        return f"{len(where):,} of {len(a):,}{first}"
    said = f"{a.dtype} -> {b.dtype}, " * (a.dtype != b.dtype)
    lost = np.isnan(a) != np.isnan(b)
    unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
    if not unequal.any():
        return f"{said}values equal" if said else "in signs of zero only"
    said += f"{unequal.sum():,} of {len(a):,}"
    if lost.any():
        said += f", NaN in one only: {lost.sum():,}"
    x, y = (column[unequal & ~lost].astype(float) for column in (a, b))
    if len(x):
        finite = np.isfinite(x) & np.isfinite(y)
        share = np.abs(x - y)[finite] / np.maximum(np.abs(x), np.abs(y))[finite]
        said += f", by up to {np.abs(x - y).max():.3g}, {share.max(initial=0.0):.2g} relative"
    return said
