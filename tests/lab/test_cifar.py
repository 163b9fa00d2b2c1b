"""CIFAR-100 is read whole and in order from archive or folder; whatever else lies there is named, and never run."""

import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from regrow.lab.data import cifar
from regrow.lab.data.cifar import load_cifar100
from regrow.lab.data.errors import checksums, verify
from regrow.lab.runs.problems import ViTJob

NAME = "cifar-100-python"


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def pickled(value: object) -> bytes:
    """As Python 2 wrote it, protocol 2, without the stop: its text is bytes to Python 3."""
    match value:
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case None:
            return b"N"
        case list():
            return b"](" + b"".join(map(pickled, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(pickled, value)) + b"t"
        case dict():
            return b"}(" + b"".join(pickled(k) + pickled(v) for k, v in value.items()) + b"u"
        case np.ndarray():
            kind = value.dtype.str[1:].encode()
            dtype = b"cnumpy\ndtype\n" + pickled((kind, 0, 1)) + b"R" + pickled((3, b"|", None, None, None, -1, -1, 0))
            made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + pickled((0,)) + pickled(b"b") + b"tR"
            fortran = not value.flags.c_contiguous
            content = value.tobytes("F" if fortran else "C")
            state = pickled(1) + pickled(value.shape) + dtype + b"b" + pickled(fortran) + pickled(content)
            return made + b"(" + state + b"tb"
    raise TypeError(type(value))


def split(data: object, labels: object, **more: object) -> bytes:
    found = {b"filenames": [b"a.png"], b"fine_labels": labels, b"coarse_labels": [0], b"data": data, **more}
    return b"\x80\x02" + pickled(found) + b"."


def tarred(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, values in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(values)
            tar.addfile(member, io.BytesIO(values))
    return content.getvalue()


COUNTS = {"train": 500, "test": 100}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of a hundredth of CIFAR-100, one in rows and one in columns, and the loader set to that size.

    Image i has label i % 100; all is black but one pixel of the last: row 1, column 2, green, 200.
    """
    monkeypatch.setattr(cifar, "_PER_CLASS", {name: count // 100 for name, count in COUNTS.items()})
    files = {f"{NAME}/meta": b"never read"}
    for (name, count), order in zip(COUNTS.items(), "CF"):
        pixels = np.zeros((count, 3, 32, 32), np.uint8)
        pixels[-1, 1, 1, 2] = 200
        rows = np.array(pixels.reshape(count, -1), order=order)  # type: ignore[call-overload]
        files[f"{NAME}/{name}"] = split(rows, [i % 100 for i in range(count)])
    return files


@pytest.mark.parametrize("kind", ["folder", "gz", "xz"])
def test_it_is_read_in_order(small: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    (tmp_path / NAME).mkdir()
    for name, content in small.items():
        (tmp_path / name).write_bytes(content)
    if kind != "folder":
        for name in COUNTS:  # an archive comes before what lies unpacked beside it
            (tmp_path / NAME / name).write_bytes(b"damaged")
        (tmp_path / f"{NAME}.tar.{kind}").write_bytes({"gz": gzip, "xz": lzma}[kind].compress(tarred(small)))
    for images, count in zip(load_cifar100(tmp_path), COUNTS.values()):
        assert images.pixels.shape == (count, 3, 32, 32) and images.pixels.dtype == torch.uint8
        assert images.pixels.nonzero().tolist() == [[count - 1, 1, 1, 2]] and images.pixels[-1, 1, 1, 2] == 200
        assert images.labels.dtype == torch.int64 and torch.equal(images.labels, torch.arange(count) % 100)


def test_real_cifar100(real_cifar100: Path) -> None:
    train, test = load_cifar100(real_cifar100)
    for images, each in ((train, 500), (test, 100)):
        assert images.labels.bincount().tolist() == [each] * 100
    # The published mean of red, green and blue over the training set.
    mean = torch.stack([channel.float().mean() for channel in train.pixels.unbind(1)]) / 255
    assert torch.allclose(mean, torch.tensor([0.5071, 0.4865, 0.4409]), atol=5e-5)
    again, _ = load_cifar100(real_cifar100)  # from what was kept
    assert torch.equal(again.labels, train.labels) and torch.equal(again.pixels[-1], train.pixels[-1])


@pytest.fixture
def real_cifar100() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (folder / f"{NAME}.tar.xz").exists():
        pytest.skip(f"needs {NAME}.tar.xz in {folder}")
    return folder


def complaint(folder: Path, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        load_cifar100(folder)
    message = str(caught.value)
    assert str(folder) in message and "`regrow data fetch --only cifar100 --data " in message and "\n" not in message
    return message


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    message = complaint(tmp_path, FileNotFoundError)
    assert message.startswith(f"{tmp_path / NAME}.tar.gz (or .tar.xz, or unpacked) is missing: ")
    (tmp_path / NAME).mkdir()
    assert complaint(tmp_path, FileNotFoundError).startswith(f"{tmp_path / NAME / 'train'} is missing: ")


SMALL = {f"{NAME}/train": b"x" * 5000, f"{NAME}/test": b"y"}


@pytest.mark.parametrize(
    ("suffix", "content", "says"),
    [
        ("gz", lambda: b"no archive", "truncated or no valid archive"),
        ("xz", lambda: b"no archive", "truncated or no valid archive"),
        ("gz", lambda: gzip.compress(b"no archive"), "truncated or no valid archive"),
        ("gz", lambda: gzip.compress(os.urandom(2000)), "truncated or no valid archive"),
        ("gz", lambda: gzip.compress(tarred(SMALL))[:-20], "truncated or no valid archive"),
        (
            "gz",
            lambda: gzip.compress(tarred(SMALL) + bytes(1 << 22))[:-8] + bytes(8),
            r"archive \(CRC check failed",
        ),
        ("xz", lambda: lzma.compress(tarred(SMALL))[:-20], "truncated or no valid archive"),
        ("gz", lambda: gzip.compress(tarred(SMALL)[:2000]), "truncated or no valid archive"),
        (
            "gz",
            lambda: gzip.compress(tarred({"cifar-10-batches-py/data_batch_1": b"", "cifar-10-batches-py/test": b""})),
            f"must hold {NAME}/train and {NAME}/test; got cifar-10-batches-py/data_batch_1, cifar-10-batches-py/test: ",
        ),
        ("gz", lambda: gzip.compress(tarred({})), "must hold .* got nothing: "),
        ("gz", lambda: gzip.compress(tarred({f"../{NAME}/train": b"", f"{NAME}/test": b""})), "must hold "),
    ],
    ids="text-gz text-xz text-in noise cut checksum cut-xz cut-tar cifar-10 empty outside".split(),
)
def test_a_damaged_or_wrong_archive_is_named(
    tmp_path: Path, suffix: str, content: Callable[[], bytes], says: str
) -> None:
    path = tmp_path / f"{NAME}.tar.{suffix}"
    path.write_bytes(content())
    message = complaint(tmp_path)
    assert message.startswith(str(path))
    with pytest.raises(ValueError, match=says):
        load_cifar100(tmp_path)


DATA, LABELS = np.zeros((10, 3072), np.uint8), [i % 100 for i in range(50_000)]


class Runs:
    """Pickled, it is a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: b"", "truncated or no valid pickle"),
        (lambda: split(DATA[:9], LABELS)[:-1], "truncated or no valid pickle"),
        (lambda: b"\x80\x02]q\x00.", "must hold 'data' and 'fine_labels'; got list"),
        (lambda: b"\x80\x02" + pickled({b"data": 1, b"labels": 2}) + b".", r"got \[b'data', b'labels'\]"),
        (lambda: split(DATA, LABELS), r"must hold 50,000 x 3,072 uint8 values; got an array of \(10, 3072\)"),
        (lambda: split(DATA.reshape(-1, 3), LABELS), r"got an array of \(10240, 3\)"),
        (lambda: split(np.zeros(4), LABELS), "uint8 values; got none"),
        (lambda: split([1, 2], LABELS), "uint8 values; got none"),
        (lambda: split(DATA, LABELS[:-1]), "must hold 500 images of each class; got 499 of 99"),
        (lambda: split(DATA, [0, *LABELS[:-1]]), "must hold 500 images of each class; got 501 of 0"),
        (lambda: split(DATA, [100, *LABELS[1:]]), "fine labels must be whole numbers from 0 to 99"),
        (lambda: split(DATA, LABELS[0]), "fine labels must be whole numbers from 0 to 99"),
    ],
    ids="empty cut list cifar-10 few shape float list-data short uneven high no-list".split(),
)
def test_wrong_contents_are_named(tmp_path: Path, content: Callable[[], bytes], says: str) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "train").write_bytes(content())
    (tmp_path / NAME / "test").write_bytes(b"")
    assert complaint(tmp_path).startswith(f"{tmp_path / NAME}, train: ")
    with pytest.raises(ValueError, match=says):
        load_cifar100(tmp_path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, protocol: int) -> None:
    (tmp_path / NAME).mkdir()
    attack = pickle.dumps({"data": Runs(os.mkdir, str(tmp_path / "ran"))}, protocol)
    (tmp_path / NAME / "train").write_bytes(attack)
    (tmp_path / NAME / "test").write_bytes(attack)
    assert "the pickle asks for 'posix.mkdir', which images do not need: " in complaint(tmp_path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(attack)
    assert (tmp_path / "ran").exists()  # it would have


def test_nothing_is_kept_of_what_is_refused(_own_cache: Path, small: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "train").write_bytes(small[f"{NAME}/train"])
    (tmp_path / NAME / "test").write_bytes(split(DATA, LABELS[:99]))
    before = set(_own_cache.rglob("*"))
    assert "must hold 1 images of each class; got 0 of 99" in complaint(tmp_path)
    assert set(_own_cache.rglob("*")) == before


@pytest.mark.parametrize("keys", [bytes, str])
def test_protocol_2_as_python_3_writes_it(small: dict[str, bytes], tmp_path: Path, keys: type) -> None:
    (tmp_path / NAME).mkdir()
    for name, count in COUNTS.items():
        content = {"data": np.full((count, 3072), 7, np.uint8), "fine_labels": [i % 100 for i in range(count)]}
        batch = {key.encode() if keys is bytes else key: value for key, value in content.items()}
        (tmp_path / NAME / name).write_bytes(pickle.dumps(batch, protocol=2))
    train, test = load_cifar100(tmp_path)
    assert (train.pixels == 7).all() and len(test.pixels) == 100


@pytest.mark.parametrize("inside", ["train", "else"])
def test_an_archive_that_unpacks_to_anything_is_refused(
    small: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    """Gigabytes of zeros take a few megabytes: they are not read to their end."""
    monkeypatch.setattr(cifar, "_MOST", 20_000_000)
    bomb = small | {f"{NAME}/{inside}": bytes(100_000_000)}
    (tmp_path / f"{NAME}.tar.gz").write_bytes(gzip.compress(tarred(bomb), 1))
    with pytest.raises(ValueError, match=r"unpacks to more than 20,000,000 bytes: `regrow data fetch") as caught:
        load_cifar100(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_manifest_s_checksums_are_of_all_that_is_read(small: dict[str, bytes], tmp_path: Path) -> None:
    """Of the images and the labels, for training and for evaluation: one that differs is named, and only that."""
    (tmp_path / NAME).mkdir()
    for name, content in small.items():
        (tmp_path / name).write_bytes(content)
    sums = ViTJob(folder=tmp_path).data()
    assert sums.keys() - {"data"} == {f"{s}{w}_checksum" for s in ("", "test_") for w in ("data", "labels")}
    train, test = load_cifar100(tmp_path)
    changed = test.labels.clone()
    changed[[3, 4]] = changed[[4, 3]]
    assert checksums(test.pixels, changed, "test_")["test_data_checksum"] == sums["test_data_checksum"]
    verify(sums, *train, tmp_path)
    verify(sums, *test, tmp_path, "test_")
    with pytest.raises(ValueError, match="have `test_labels_checksum` .*: put the same data on every machine"):
        verify(sums, test.pixels, changed, tmp_path, "test_")
