"""Source files of data sets: their checksum, and one-line errors with a remedy where they cannot be read."""

import contextlib
import gzip
import hashlib
import lzma
import shlex
import socket
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def checksum(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' checksums in their order, in hexadecimal digits."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def checksums(pixels: Any, labels: Any, split: str = "") -> dict[str, str]:
    """Checksums of decoded pixels and labels, for the manifest.

    Args:
        pixels, labels: tensors on the CPU.
        split: "test_" for images that are evaluated on, "" for those that are trained on.
    """
    return {
        f"{split}data_checksum": f"{zlib.crc32(pixels.contiguous().numpy().data):08x}",
        f"{split}labels_checksum": f"{zlib.crc32(labels.long().contiguous().numpy().astype('<i8').data):08x}",
    }


def verify(expected: Mapping[str, str], pixels: Any, labels: Any, source: object, split: str = "") -> None:
    """Refuse images that are not those that a run was begun with.

    Args:
        expected: of `checksums`; what is missing (in manifests of before it was stored) is not verified.
        pixels, labels, split: as read here, see `checksums`.
        source: where from.

    Raises:
        ValueError: where they differ; one line.
    """
    for key, value in checksums(pixels, labels, split).items():
        if value != expected.get(key, value):
            raise ValueError(
                f"the images from {source} on {socket.gethostname()} have `{key}` {value}, and the run has "
                f"{expected[key]}: put the same data on every machine"
            )


def remedy(folder: Path, name: str) -> str:
    """What to do where a data set is missing or damaged.

    Example:
        >>> remedy(Path("my data"), "mnist").partition(",")[0]
        "`regrow data fetch --only mnist --data 'my data'` downloads it"
    """
    command = f"regrow data fetch --only {name} --data {shlex.quote(str(folder))}"
    return f"`{command}` downloads it, or name another folder with --data or REGROW_DATA"


@contextlib.contextmanager
def reading(path: Path, kind: str, fix: str) -> Iterator[None]:
    """Turn the errors of reading a file into one line: the file, what is wrong, the remedy.

    Args:
        path: the file; of several, an error names the one at fault.
        kind: what the file should be.
        fix: the remedy.

    Raises:
        FileNotFoundError: where it is missing.
        ValueError: where it is damaged.
        OSError: where it cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error.filename or path} is missing: {fix}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise ValueError(f"{path}: truncated or no valid {kind} ({error}): {fix}") from None
    except OSError as error:
        raise OSError(f"{error.filename or path} cannot be read ({error.strerror or error}): {fix}") from None
