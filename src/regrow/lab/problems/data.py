"""Images to learn from: scikit-learn's embedded digits, and MNIST as its four original files."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_REMEDY = "put MNIST's four IDX .gz files there, or name the folder above it with --data"
_COUNTS = {"train": 60_000, "t10k": 10_000}
_SIDE = 28


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
    """MNIST from its four original files, in their order.

    Args:
        folder: holds `mnist/train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz` and the two of `t10k-`.

    Returns:
        60,000 training and 10,000 test `Images` with 784 pixels of value 0 to 255.

    Raises:
        FileNotFoundError: where a file is missing.
        ValueError: where one is damaged, or is something else than its name says.
    """
    train, test = (_load_split(Path(folder) / "mnist", split) for split in ("train", "t10k"))
    return train, test


def _load_split(folder: Path, split: str) -> Images:
    count = _COUNTS[split]
    pixels = _read_idx(folder / f"{split}-images-idx3-ubyte.gz", (count, _SIDE, _SIDE))
    labels_file = folder / f"{split}-labels-idx1-ubyte.gz"
    labels = _read_idx(labels_file, (count,)).long()
    if labels.max() > 9:
        raise ValueError(f"{labels_file}: labels must be digits 0 to 9; got {int(labels.max())}: {_REMEDY}")
    return Images(pixels.view(count, _SIDE * _SIDE), labels, white=255)


def _read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The uint8 array of an IDX file: two zero bytes, type 8, rank, big-endian sizes, then the values."""
    header, size = 4 + 4 * len(shape), math.prod(shape)
    try:
        with gzip.open(path) as file:
            content = file.read(header + size + 1)  # to the end, where the checksum is
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: {_REMEDY}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: truncated or no gzip file ({error}): {_REMEDY}") from None
    magic = bytes((0, 0, 8, len(shape)))
    if content[:4] != magic:
        raise ValueError(f"{path}: must start with bytes {magic.hex()}; got {content[:4].hex() or 'none'}: {_REMEDY}")
    found = struct.unpack(f">{len(shape)}I", content[4:header]) if len(content) >= header else ()
    if found != shape:
        raise ValueError(f"{path}: must hold an array of {shape}; its header says {found}: {_REMEDY}")
    if len(content) != header + size:
        least = "more than " if len(content) > header + size else ""
        got = min(len(content) - header, size)
        raise ValueError(f"{path}: must hold {size:,} values; got {least}{got:,}: {_REMEDY}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
