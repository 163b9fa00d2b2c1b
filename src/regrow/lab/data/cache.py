"""The user's cache folder, and arrays decoded once into memory-mapped files in it."""

import contextlib
import io
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from .errors import checksum

_EDITION = "1"  # counts up when decoding makes something else of the same files


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/regrow`, or `~/.cache/regrow`; None for a user without a home.

    Reference:
        XDG Base Directory Specification, which ignores a relative XDG_CACHE_HOME.
    """
    for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(base):
            return Path(base) / "regrow"
    return None


def decoded(
    sources: Sequence[Path],
    shapes: Mapping[str, tuple[int, ...]],
    decode: Callable[[], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """What `decode` makes of the source files, kept as memory-mapped .npy files named after the sources' checksum.

    A kept file that is not as it was written is made anew. Several processes may call this at once. Where the cache
    folder cannot be written, the arrays stay in memory.

    Args:
        sources: the files that `decode` reads.
        shapes: {name: shape} of the uint8 arrays that it makes.
        decode: called where an array is not kept.

    Returns:
        {name: uint8 array}; one may be written to, which changes neither its file nor what others see.

    Raises:
        OSError: where a source cannot be read.
    """
    key = checksum(sources)[:32]
    folder = cache_folder()
    if folder is None:
        return {name: np.require(array, requirements=["C", "W"]) for name, array in decode().items()}
    paths = {name: folder / "decoded" / f"{name}-{_EDITION}-{key}.npy" for name in shapes}
    kept = {name: array for name, path in paths.items() if (array := _open(path, shapes[name])) is not None}
    if len(kept) < len(paths):
        for name, array in decode().items():
            with contextlib.suppress(OSError):
                _store(paths[name], array)
            mapped = _open(paths[name], array.shape)
            kept[name] = np.require(array, requirements=["C", "W"]) if mapped is None else mapped
    return kept


def _header(shape: tuple[int, ...]) -> bytes:
    """How a .npy file of uint8 values begins."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array of a file that begins as it must and has the right size; else None."""
    header = _header(shape)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(header)) != header or size != len(header) + math.prod(shape):
                return None
            # Copy on write: torch takes no array that is read-only without a warning.
            return np.memmap(file, np.uint8, "c", len(header), shape)
    except OSError:
        return None


def _store(path: Path, array: np.ndarray) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with part.open("xb") as file:
            file.write(_header(array.shape))
            file.write(np.ascontiguousarray(array).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
