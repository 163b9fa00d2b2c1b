"""Check which data sets are present and intact, and download them, verified by checksum."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .cifar import find_cifar100, load_cifar100
from .mnist import MNIST_FILES, load_digits_images, load_mnist

Name = Literal["mnist", "cifar100"]

BASES: Mapping[Name, str] = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "cifar100": "https://www.cs.toronto.edu/~kriz/",
}
"""Where each data set is published."""

_FILES: Mapping[Name, Mapping[str, str]] = {
    "mnist": dict(
        zip(
            MNIST_FILES,
            (
                "sha256:71524e2cd1ad2968737f7f2f2ff69cbfc32df8ccddff51593f7cb2d4e0eb5b64",
                "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
            strict=True,
        )
    ),
    "cifar100": {"cifar-100-python.tar.gz": "md5:eb9058c3a382ffc7106e4002c42a8d85"},
}


@dataclass(frozen=True)
class Presence:
    """Whether a data set is present."""

    name: str
    place: str
    """where it was looked for"""
    state: Literal["whole", "damaged", "missing"]
    detail: str
    """counts, or what is wrong and the remedy"""


def check(folder: Path, which: Sequence[Name] = tuple(BASES)) -> list[Presence]:
    """Look for data sets, and read them completely.

    Args:
        folder: holds `mnist/` and CIFAR-100's archive or folder.
        which: names of those to look for there.

    Returns:
        First scikit-learn's digits, then one entry per name.
    """
    digits = load_digits_images()
    detail = f"{len(digits.labels):,} images of 8 x 8, always there"
    return [Presence("digits", "scikit-learn", "whole", detail), *(_look(folder, name) for name in which)]


def _look(folder: Path, name: Name) -> Presence:
    if name == "mnist":
        place, load, size = folder / "mnist", load_mnist, "28 x 28"
        there = any((folder / file).exists() for file in MNIST_FILES)
    else:
        source = find_cifar100(folder)
        place, load, size, there = source or folder, load_cifar100, "3 x 32 x 32", source is not None
    try:
        train, test = load(folder)
    except (OSError, ValueError) as error:
        return Presence(name, str(place), "damaged" if there else "missing", str(error))
    return Presence(
        name, str(place), "whole", f"{len(train.labels):,} training and {len(test.labels):,} test images of {size}"
    )


def fetch(
    folder: Path,
    which: Sequence[Name] = tuple(BASES),
    *,
    bases: Mapping[Name, str] = BASES,
    follow: Callable[[str, int, int], None] | None = None,
) -> list[Presence]:
    """Download what is missing or damaged; what is intact stays as it is.

    A file appears complete and verified by its checksum, or not at all.

    Args:
        folder: where to put the data sets; created if missing.
        which: their names.
        bases: addresses to download from, by name, each ending in a slash.
        follow: called with a file's name, the bytes done and the total.

    Returns:
        One entry per data set, as it is afterwards.

    Raises:
        OSError: where a file cannot be downloaded or written.
        ValueError: where a download has another checksum.
    """
    entries = []
    for name in which:
        presence = _look(folder, name)
        if presence.state != "whole":
            for file, checksum in _FILES[name].items():
                path = folder / file
                download(bases[name] + path.name, checksum, path, follow)
            presence = _look(folder, name)
        entries.append(presence)
    return entries


def download(url: str, checksum: str, path: Path, follow: Callable[[str, int, int], None] | None = None) -> None:
    """Download a file, unless it is present with the right checksum.

    Args:
        url: its address.
        checksum: "sha256:" or "md5:" and the hexadecimal digits.
        path: where to put it; a file with another checksum is replaced.
        follow: as for `fetch`.

    Raises:
        OSError: where it cannot be downloaded or written.
        ValueError: where the download has another checksum.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would print progress messages
    bar: Any = _Bar(path.name, follow) if follow else False
    by_hand = f"retry on a network that reaches it, or put the original at {path} yourself"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        downloader: Any = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 18)
        # An absolute path: pooch would expand ~.
        pooch.retrieve(url, checksum, path.name, path.parent.absolute(), downloader=downloader)
    except OSError as error:
        if (response := getattr(error, "response", None)) is not None:
            response.close()  # pooch leaves the connection open where the server refuses
        raise OSError(f"{url} cannot be downloaded to {path} ({_root(error)}): {by_hand}") from None
    except ValueError:
        raise ValueError(
            f"{url} is not the original, whose checksum is {checksum}; the download was discarded: {by_hand}"
        ) from None


class _Bar:
    """The progress bar interface of pooch."""

    total = 0

    def __init__(self, name: str, follow: Callable[[str, int, int], None]) -> None:
        self._name, self._follow, self._done = name, follow, 0

    def update(self, size: int) -> None:
        self._done = min(self._done + size, self.total or self._done + size)
        self._follow(self._name, self._done, self.total)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


def _root(error: BaseException) -> Any:
    """The message of the system error at the bottom of a chain of exceptions."""
    while error.__context__:
        error = error.__context__
    return getattr(error, "strerror", None) or error
