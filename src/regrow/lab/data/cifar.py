"""CIFAR-100 from its official archive, or from the folder it unpacks to, without running code from its pickles.

Shapes: N images.
"""

import gzip
import io
import lzma
import math
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .cache import decoded
from .errors import reading, remedy

_NAME = "cifar-100-python"
_OPEN: dict[str, Callable[[Path], Any]] = {f"{_NAME}.tar.gz": gzip.open, f"{_NAME}.tar.xz": lzma.open}
_CLASSES = 100
_PER_CLASS = {"train": 500, "test": 100}
_IMAGE = (3, 32, 32)
_MOST = 250_000_000
"""Bytes that the files of an archive take together at most; they are 186 million."""


class LabelledImages(NamedTuple):
    """Colour images and their classes.

    pixels: uint8 of shape (N, 3, 32, 32): red, green, blue.
    labels: int64 of shape (N,), the fine labels, in [0, 100).
    """

    pixels: Tensor
    labels: Tensor


def find_cifar100(folder: Path) -> Path | None:
    """The archive in a folder, .tar.gz before .tar.xz, else the unpacked folder; None where there is neither."""
    archive = next((path for name in _OPEN if (path := folder / name).is_file()), None)
    return archive or (folder / _NAME if (folder / _NAME).is_dir() else None)


def load_cifar100(folder: Path | str) -> tuple[LabelledImages, LabelledImages]:
    """CIFAR-100, training and test, in the order of its files; decoded once, then memory-mapped.

    The content of the files is checked, not their checksum.

    Args:
        folder: holds `cifar-100-python.tar.gz`, `cifar-100-python.tar.xz` or `cifar-100-python/`.

    Returns:
        50,000 training images, 500 of each class, and 10,000 test images, 100 of each.

    Raises:
        FileNotFoundError: where it is missing.
        ValueError: where it is damaged or something else, or a pickle asks for more than arrays.
        OSError: where it cannot be read.
    """
    folder = Path(folder)
    fix = remedy(folder, "cifar100")
    source = find_cifar100(folder)
    if source is None:
        raise FileNotFoundError(f"{folder / _NAME}.tar.gz (or .tar.xz, or unpacked) is missing: {fix}")
    files = [source / split for split in _PER_CLASS] if source.is_dir() else [source]
    shapes = {}
    for split, per_class in _PER_CLASS.items():
        count = _CLASSES * per_class
        shapes |= {f"{_NAME}-{split}-images": (count, *_IMAGE), f"{_NAME}-{split}-labels": (count,)}
    with reading(source, "archive", fix):
        arrays = decoded(files, shapes, lambda: _decode(source, fix))
    train, test = (
        LabelledImages(*(torch.from_numpy(arrays[f"{_NAME}-{split}-{part}"]) for part in ("images", "labels")))
        for split in _PER_CLASS
    )
    return train._replace(labels=train.labels.long()), test._replace(labels=test.labels.long())


def _decode(source: Path, fix: str) -> dict[str, np.ndarray]:
    """The four arrays, by name."""
    if source.is_dir():
        contents = {split: _read(source / split, fix) for split in _PER_CLASS}
    else:
        contents = _archived(source, fix)
    arrays = {}
    for split, content in contents.items():
        images, labels = _split(content, f"{source}, {split}", _PER_CLASS[split], fix)
        arrays |= {f"{_NAME}-{split}-images": images, f"{_NAME}-{split}-labels": labels}
    return arrays


class _Bounded:
    """A file that ends a read, with an error, once it has given too much: an archive may unpack to any size."""

    def __init__(self, file: Any, error: str) -> None:
        self._file, self._error, self._left = file, error, _MOST

    def read(self, size: int) -> bytes:
        content = self._file.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(self._error)
        return content


def _read(path: Path, fix: str) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise ValueError(f"{path}: must hold at most {_MOST:,} bytes: {fix}")
    return content


def _archived(source: Path, fix: str) -> dict[str, bytes]:
    """Both pickles of an archive, read in one pass; nothing is extracted to disk."""
    names, contents = [], {}
    with _OPEN[source.name](source) as opened:
        file: Any = _Bounded(opened, f"{source}: unpacks to more than {_MOST:,} bytes: {fix}")
        with tarfile.open(fileobj=file, mode="r|", bufsize=1 << 20) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                names.append(str(path))
                wanted = member.isfile() and path.parent.as_posix() == _NAME and path.name in _PER_CLASS
                if wanted and (content := tar.extractfile(member)):
                    contents[path.name] = content.read()
        while file.read(1 << 20):  # to the end, where the checksum is
            pass
    if len(contents) < len(_PER_CLASS):
        got = ascii(", ".join(names[:4]))[1:-1] or "nothing"
        raise ValueError(f"{source}: must hold {_NAME}/train and {_NAME}/test; got {got}: {fix}")
    return contents


def _split(content: bytes, where: str, per_class: int, fix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels (N,) of a pickled split, both uint8, checked."""
    count = _CLASSES * per_class
    batch = _unpickle(content, where, fix)
    if isinstance(batch, dict):  # keys are text where Python 3 wrote them
        batch = {key.encode() if isinstance(key, str) else key: value for key, value in batch.items()}
    if not (isinstance(batch, dict) and {b"data", b"fine_labels"} <= batch.keys()):
        got = ascii(list(batch)) if isinstance(batch, dict) else type(batch).__name__
        raise ValueError(f"{where}: must hold 'data' and 'fine_labels'; got {got[:100]}: {fix}")
    labels = batch[b"fine_labels"]
    if not (isinstance(labels, list) and all(type(label) is int and 0 <= label < _CLASSES for label in labels)):
        raise ValueError(f"{where}: fine labels must be whole numbers from 0 to {_CLASSES - 1}: {fix}")
    counts = np.bincount(np.array(labels, np.int64), minlength=_CLASSES)
    if (counts != per_class).any():
        odd = int((counts != per_class).argmax())
        raise ValueError(f"{where}: must hold {per_class} images of each class; got {counts[odd]} of {odd}: {fix}")
    pixels = _uint8_array(batch[b"data"])
    if pixels is None or pixels.shape != (count, math.prod(_IMAGE)):
        got = "none" if pixels is None else f"an array of {pixels.shape}"
        raise ValueError(f"{where}: must hold {count:,} x {math.prod(_IMAGE):,} uint8 values; got {got}: {fix}")
    return pixels.reshape(count, *_IMAGE), np.array(labels, np.uint8)


class _Inert:
    """Stands for NumPy's array, its dtype and their constructor: keeps the pickle's arguments, does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments, self.state = arguments, None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Forbidden(pickle.UnpicklingError):
    pass


class _Unpickler(pickle.Unpickler):
    """Builds containers, numbers, bytes and text as usual, arrays as `_Inert`, and nothing else."""

    allowed = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
    allowed += ("numpy.ndarray", "numpy.dtype")

    def find_class(self, module: str, name: str, /) -> Any:
        """Called for every name that a pickle refers to."""
        if f"{module}.{name}" in self.allowed:
            return _Inert
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in protocol 2
            return _latin_bytes
        raise _Forbidden(ascii(f"{module}.{name}"))


def _latin_bytes(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise _Forbidden("_codecs.encode")
    return text.encode("latin1")


def _unpickle(content: bytes, where: str, fix: str) -> object:
    try:
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _Forbidden as error:
        raise ValueError(f"{where}: the pickle asks for {error}, which images do not need: {fix}") from None
    except Exception as error:  # damaged bytes can misuse any object in any way
        reason = " ".join(str(error).split())
        raise ValueError(f"{where}: truncated or no valid pickle ({reason}): {fix}") from None


def _uint8_array(value: object) -> np.ndarray | None:
    """A pickled uint8 array; None for anything else."""
    match value:
        case _Inert(state=(_, tuple() as shape, _Inert(arguments=("u1" | b"u1", *_)), fortran, bytes() as values)):
            if all(type(size) is int and size >= 0 for size in shape) and math.prod(shape) == len(values):
                return np.frombuffer(values, np.uint8).reshape(shape, order="F" if fortran else "C")
    return None
