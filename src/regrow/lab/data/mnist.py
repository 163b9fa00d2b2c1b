"""Where images are looked for; scikit-learn's embedded digits, and MNIST as its four original files."""

import gzip
import math
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .cache import cache_folder, decoded
from .errors import reading, remedy

_COUNTS = {"train": 60_000, "t10k": 10_000}
_SIDE = 28
MNIST_FILES = tuple(f"mnist/{split}-{kind}-ubyte.gz" for split in _COUNTS for kind in ("images-idx3", "labels-idx1"))


class Images(NamedTuple):
    """Labelled images, flattened.

    pixels: uint8 of shape (images, pixels), 0 black.
    labels: int64 of shape (images,), in [0, 10).
    white: the pixel value that stands for 1.
    """

    pixels: Tensor
    labels: Tensor
    white: int

    def scaled(self) -> Tensor:
        """The pixels as float32 in [0, 1], not centred."""
        return self.pixels.float() / self.white


def data_folder(option: Path | None = None) -> Path | None:
    """The folder of the data sets: that of `--data`, else of REGROW_DATA, else the user's own, if it is not empty.

    Args:
        option: the value of `--data`.

    Returns:
        The folder; an explicit one need not exist. None: only the embedded data are available.
    """
    if explicit := _explicit_folder(option):
        return explicit
    folder = default_folder()
    return folder if folder and folder.is_dir() and any(folder.iterdir()) else None


def default_folder() -> Path | None:
    """The user's own folder of data sets: `data` in the cache folder."""
    cache = cache_folder()
    return cache and cache / "data"


def _explicit_folder(option: Path | None) -> Path | None:
    variable = os.environ.get("REGROW_DATA")
    return option or (Path(variable) if variable else None)


def load_images(option: Path | None = None) -> tuple[str, Images]:
    """The training images of MNIST if present, else the embedded digits.

    Args:
        option: the value of `--data`.

    Returns:
        "mnist" or "digits", and the images.

    Raises:
        FileNotFoundError: where a file of MNIST is missing, in an explicit folder or beside the others.
        ValueError, OSError: as `load_mnist` does.
    """
    folder = mnist_folder(option)
    return ("digits", load_digits_images()) if folder is None else ("mnist", load_mnist(folder)[0])


def mnist_folder(option: Path | None = None) -> Path | None:
    """The folder that `load_images` reads MNIST from, absolute; None where it takes the embedded digits.

    Args:
        option: the value of `--data`.
    """
    folder = data_folder(option)
    if folder and (_explicit_folder(option) or any((folder / file).exists() for file in MNIST_FILES)):
        return folder.absolute()
    return None


def load_digits_images() -> Images:
    """The digits that come with scikit-learn: 1,797 images of 8 x 8 pixels; nothing is downloaded.

    Returns:
        `Images` with 64 pixels of value 0 to 16.

    Example:
        >>> digits = load_digits_images()
        >>> digits.scaled().shape, float(digits.scaled().max())
        (torch.Size([1797, 64]), 1.0)
    """
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return Images(torch.from_numpy(digits.data.astype(np.uint8)), torch.from_numpy(digits.target).long(), white=16)


def load_mnist(folder: Path | str) -> tuple[Images, Images]:
    """MNIST from its four original files, in their order; decoded once, then memory-mapped.

    Args:
        folder: holds `mnist/train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz` and the two of `t10k-`.

    Returns:
        60,000 training and 10,000 test `Images` with 784 pixels of value 0 to 255.

    Raises:
        FileNotFoundError: where a file is missing.
        ValueError: where one is damaged, or is not what its name says.
        OSError: where one cannot be read.
    """
    train, test = (_load_split(Path(folder), split) for split in _COUNTS)
    return train, test


def _load_split(folder: Path, split: str) -> Images:
    count = _COUNTS[split]
    pixels = _load_idx(folder, f"{split}-images-idx3-ubyte", (count, _SIDE, _SIDE))
    labels = _load_idx(folder, f"{split}-labels-idx1-ubyte", (count,)).long()
    return Images(pixels.view(count, _SIDE * _SIDE), labels, white=255)


def _load_idx(folder: Path, name: str, shape: tuple[int, ...]) -> Tensor:
    path, fix = folder / "mnist" / f"{name}.gz", remedy(folder, "mnist")
    with reading(path, "gzip file", fix):
        arrays = decoded([path], {f"mnist-{name}": shape}, lambda: {f"mnist-{name}": _decode_idx(path, shape, fix)})
    return torch.from_numpy(arrays[f"mnist-{name}"])


def _decode_idx(path: Path, shape: tuple[int, ...], fix: str) -> np.ndarray:
    """The uint8 array of an IDX file: two zero bytes, type 8, rank, big-endian sizes, then the values."""
    header, size = 4 + 4 * len(shape), math.prod(shape)
    with gzip.open(path) as file:
        content = file.read(header + size + 1)  # to the end, where the checksum is
    magic = bytes((0, 0, 8, len(shape)))
    if content[:4] != magic:
        raise ValueError(f"{path}: must start with bytes {magic.hex()}; got {content[:4].hex() or 'none'}: {fix}")
    sizes = struct.unpack(f">{len(shape)}I", content[4:header]) if len(content) >= header else ()
    if sizes != shape:
        raise ValueError(f"{path}: must hold an array of {shape}; its header has {sizes}: {fix}")
    if len(content) != header + size:
        least = "more than " if len(content) > header + size else ""
        got = min(len(content) - header, size)
        raise ValueError(f"{path}: must hold {size:,} values; got {least}{got:,}: {fix}")
    values = np.frombuffer(content, np.uint8, offset=header).reshape(shape)
    if len(shape) == 1 and values.max() > 9:
        raise ValueError(f"{path}: labels must be digits 0 to 9; got {values.max()}: {fix}")
    return values
