"""Digests that stand in the files themselves: a flipped bit is noticed before a file is decoded.

A table carries two: of its bytes, verified before the parquet reader sees them, and of its decoded values, which any
later encoding of the same rows keeps. A JSON file carries one of its content. Files without (of older versions) are
read, and count as unverified.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

_BYTES, _VALUES, _KEY = "regrow.bytes", "regrow.values", "digest"
_STORED = re.compile(rb"regrow\.bytes\x18\x40([0-9a-f]{64})")  # as the footer of a parquet file holds key and value

_LAST = re.compile(rb'": "[0-9a-f]{64}"\s*}\s*$')  # how a JSON file with a digest ends


class Damaged(ValueError):
    """The content of a file is not what was written."""


def seal_table(frame: pl.DataFrame) -> bytes:
    """A table as a parquet file with its digests.

    Example:
        >>> frame, verified = open_table(seal_table(pl.DataFrame({"task": [0, 1]})))
        >>> frame["task"].to_list(), verified
        ([0, 1], True)
    """
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, metadata={_VALUES: values_digest(frame), _BYTES: "0" * 64})
    content = bytearray(buffer.getvalue())
    span = _span(content)
    assert span, "the parquet writer stores metadata in another form"
    content[span] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def open_table(content: bytes) -> tuple[pl.DataFrame, bool]:
    """A table, and whether it was verified.

    Raises:
        Damaged: where a digest differs, or it is no table.
    """
    verified = _verify_bytes(content)
    try:
        frame = pl.read_parquet(io.BytesIO(content))
        stored = pl.read_parquet_metadata(io.BytesIO(content)).get(_VALUES) if verified else None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise Damaged(" ".join(str(error).split())[:60]) from error
    if verified and stored != values_digest(frame):
        raise Damaged("its values have another digest")
    return frame, verified


def _verify_bytes(content: bytes) -> bool:
    """Whether there is a digest of the bytes; raises where it differs."""
    span = _span(content)
    if span is None:
        if b"regrow." in content[-65536:]:
            raise Damaged("its digest is damaged")
        return False
    zeroed = bytearray(content)
    zeroed[span] = b"0" * 64
    if hashlib.sha256(zeroed).hexdigest().encode() != content[span]:
        raise Damaged("its bytes have another digest")
    return True


def _span(content: bytes | bytearray) -> slice | None:
    """Where the digest of the bytes stands: the last match, for a value could look like one."""
    matches = list(_STORED.finditer(content))
    return slice(*matches[-1].span(1)) if matches else None


def values_digest(frame: pl.DataFrame) -> str:
    """SHA-256 of columns' names, types, null masks and values as little-endian bytes; equal for equal tables.

    Example:
        >>> one, other = (pl.DataFrame({"loss": [0.5, x]}) for x in (None, 0.0))
        >>> values_digest(one) == values_digest(one.clone()), values_digest(one) == values_digest(other)
        (True, False)
    """
    total = hashlib.sha256()
    for series in frame:
        total.update(f"{series.name}\0{series.dtype}\0{len(series)}\0".encode())
        _update(total, series)
    return total.hexdigest()


def _update(total: Any, series: pl.Series) -> None:
    total.update(np.packbits(series.is_null().to_numpy()).tobytes())
    if isinstance(series.dtype, pl.List):
        total.update(_little_endian(series.list.len().fill_null(0)))
        _update(total, series.explode())
    elif series.dtype == pl.String:
        texts = series.fill_null("")
        total.update(_little_endian(texts.str.len_bytes()))
        total.update("".join(texts.to_list()).encode())
    else:
        total.update(_little_endian(series.fill_null(False if series.dtype == pl.Boolean else 0)))


def _little_endian(series: pl.Series) -> bytes:
    values = series.to_numpy()
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def seal_json(content: Mapping[str, Any]) -> bytes:
    """A JSON object as text, with its digest.

    Example:
        >>> open_json(seal_json({"tasks": 3}))
        ({'tasks': 3}, True)
    """
    bare = {key: value for key, value in content.items() if key != _KEY}
    return (json.dumps(bare | {_KEY: _json_digest(bare)}, indent=1) + "\n").encode()


def open_json(content: bytes) -> tuple[Any, bool]:
    """A JSON value without its digest, and whether it was verified.

    Raises:
        Damaged: where it is no JSON, or the digest differs.
    """
    try:
        value = json.loads(content.decode())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Damaged(str(error)) from None
    if not isinstance(value, dict) or _KEY not in value:
        if _LAST.search(content):
            raise Damaged("the name of its digest is damaged")
        return value, False
    stored = value.pop(_KEY)
    if stored != _json_digest(value):
        raise Damaged("it was changed: its content has another digest")
    return value, True


def _json_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
