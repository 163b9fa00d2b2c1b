"""The user's cache folder, and arrays decoded once into memory-mapped files in it."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from .errors import checksum

_EDITION = "2"  # counts up when the same files are decoded or kept in another way
_DIGEST = 32  # bytes


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
    """The arrays that `decode` makes of the source files, kept as .npy files named after the sources' checksum.

    A kept file is verified when it is opened, and made again if it is not as it was written. Several processes may call
    this at once. Where the cache folder cannot be written, the arrays stay in memory.

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


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array of a file that is as it was written; else None."""
    try:
        # Copy on write: torch takes no array that is read-only without a warning.
        array = np.load(path, mmap_mode="c")
        with path.open("rb") as file:
            file.seek(-_DIGEST, os.SEEK_END)
            stored, size = file.read(), file.tell()
    except (OSError, ValueError, EOFError):
        return None
    whole = array.dtype == np.uint8 and array.shape == shape and size == array.offset + array.nbytes + _DIGEST
    return array if whole and stored == _digest(array) else None


def _digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(array.data).digest()


def _store(path: Path, array: np.ndarray) -> None:
    """Write an .npy file that ends with the SHA-256 of its values, atomically: by way of a temporary file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    array = np.ascontiguousarray(array)
    try:
        with part.open("xb") as file:
            np.save(file, array)
            file.write(_digest(array))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
