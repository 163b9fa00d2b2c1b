"""The images are the right ones, and a file that is missing, damaged or something else is named with a remedy."""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from regrow.lab.data.mnist import data_folder, load_digits_images, load_images, load_mnist

SHAPES = {
    "train-images-idx3-ubyte.gz": (60_000, 28, 28),
    "train-labels-idx1-ubyte.gz": (60_000,),
    "t10k-images-idx3-ubyte.gz": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte.gz": (10_000,),
}


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No file of the user's is read or written; what is decoded once serves all these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("REGROW_DATA", raising=False)
        yield


def idx(shape: tuple[int, ...], values: bytes) -> bytes:
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + values


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole MNIST, all black, all zeros, but for the last image (all white) and its label (7)."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "mnist").mkdir()
    for name, shape in SHAPES.items():
        values = bytearray(torch.Size(shape).numel())
        last = 784 if len(shape) == 3 else 1
        values[-last:] = (b"\xff" if len(shape) == 3 else b"\x07") * last
        (folder / "mnist" / name).write_bytes(gzip.compress(idx(shape, bytes(values)), 1))
    return folder


@pytest.fixture
def broken(blank: Path, tmp_path: Path) -> Path:
    """A copy of it by links, to replace files in."""
    (tmp_path / "mnist").mkdir()
    for name in SHAPES:
        (tmp_path / "mnist" / name).symlink_to(blank / "mnist" / name)
    return tmp_path


def replace(folder: Path, name: str, content: bytes) -> Path:
    path = folder / "mnist" / name
    path.unlink()
    path.write_bytes(content)
    return path


def test_digits_are_the_embedded_set() -> None:
    digits = load_digits_images()
    assert digits.pixels.shape == (1797, 64) and digits.pixels.dtype == torch.uint8
    assert digits.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    scaled = digits.scaled()
    assert scaled.dtype == torch.float32 and scaled.min() == 0 and scaled.max() == 1
    assert scaled[0, 2] == 5 / 16  # the first image of the published set begins 0, 0, 5, 13


def test_mnist_is_read_in_order(blank: Path) -> None:
    train, test = load_mnist(blank)
    assert train.pixels.shape == (60_000, 784) and test.pixels.shape == (10_000, 784)
    for images in (train, test):
        assert images.pixels.dtype == torch.uint8 and images.labels.dtype == torch.int64
        assert images.pixels[:-1].count_nonzero() == 0 and (images.scaled()[-1] == 1).all()
        assert images.labels[-1] == 7 and images.labels[:-1].count_nonzero() == 0


def test_real_mnist(real_mnist: Path) -> None:
    train, test = load_mnist(real_mnist)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # The published mean pixel of the training set.
    assert abs(float(train.scaled().mean()) - 0.1307) < 5e-5


def test_a_missing_file_is_named(broken: Path) -> None:
    path = broken / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(broken)
    assert str(caught.value) == (
        f"{path} is missing: `regrow data fetch --only mnist --data {broken}` downloads it, "
        "or name another folder with --data or REGROW_DATA"
    )


def test_a_file_that_cannot_be_read_is_named(broken: Path) -> None:
    path = broken / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError) as caught:
        load_mnist(broken)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be read (Is a directory): `regrow data fetch") and "\n" not in message


def test_pixels_may_be_written_to_and_the_next_reader_does_not_see_it(blank: Path) -> None:
    train, _ = load_mnist(blank)
    train.pixels[0] = 7
    again, _ = load_mnist(blank)
    assert again.pixels[0].count_nonzero() == 0 and (train.pixels[0] == 7).all()


TRAIN, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (LABELS, b"no gzip", r"truncated or no valid gzip file"),
        (LABELS, gzip.compress(idx((60_000,), bytes(60_000)))[:-9], r"truncated or no valid gzip file"),
        (LABELS, gzip.compress(idx((60_000,), bytes(60_000)))[:-4] + b"\1\1\1\1", r"truncated or no valid gzip file"),
        (LABELS, gzip.compress(b""), r"must start with bytes 00000801; got none"),
        (LABELS, gzip.compress(bytes((0, 0, 8, 1))), r"must hold an array of \(60000,\); its header has \(\)"),
        (TRAIN, gzip.compress(idx((60_000,), b"")), r"must start with bytes 00000803; got 00000801"),
        (TRAIN, gzip.compress(idx((60_000, 32, 32), b"")), r"must hold an array of \(60000, 28, 28\); its header has"),
        (LABELS, gzip.compress(idx((60_000,), bytes(59_999))), r"must hold 60,000 values; got 59,999"),
        (LABELS, gzip.compress(idx((60_000,), bytes(60_005))), r"must hold 60,000 values; got more than 60,000"),
        (LABELS, gzip.compress(idx((60_000,), b"\x0a" * 60_000)), r"labels must be digits 0 to 9; got 10"),
    ],
    ids="text cut checksum empty header magic shape short long label".split(),
)
def test_a_damaged_file_is_named_with_a_remedy(broken: Path, name: str, content: bytes, says: str) -> None:
    path = replace(broken, name, content)
    with pytest.raises(ValueError, match=says) as caught:
        load_mnist(broken)
    message = str(caught.value)
    assert message.startswith(str(path)) and "--data" in message and "\n" not in message


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder for data, with nothing in it yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "regrow" / "data"


def test_the_option_comes_before_the_variable_before_the_own_folder(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_folder(None) is None
    own_folder.mkdir(parents=True)
    assert data_folder(None) is None
    (own_folder / "cifar-100-python").mkdir()
    assert data_folder(None) == own_folder
    monkeypatch.setenv("REGROW_DATA", str(tmp_path / "variable"))
    assert data_folder(None) == tmp_path / "variable"
    assert data_folder(tmp_path / "option") == tmp_path / "option"
    monkeypatch.setenv("REGROW_DATA", "")
    assert data_folder(None) == own_folder


def test_mnist_where_it_is_found_else_the_digits(
    own_folder: Path, blank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, images = load_images(None)
    assert name == "digits" and images.pixels.shape == (1797, 64)
    name, images = load_images(blank)
    assert name == "mnist" and images.pixels.shape == (60_000, 784) and images.labels[-1] == 7
    monkeypatch.setenv("REGROW_DATA", str(blank))
    assert load_images(None)[0] == "mnist"
    monkeypatch.delenv("REGROW_DATA")
    (own_folder / "cifar-100-python").mkdir(parents=True)
    assert load_images(None)[0] == "digits"
    (own_folder / "mnist").symlink_to(blank / "mnist")
    assert load_images(None)[0] == "mnist"


def test_a_folder_that_is_named_must_hold_mnist(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte.gz is missing: `regrow data fetch"):
        load_images(tmp_path)
    monkeypatch.setenv("REGROW_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere/mnist/train-images-idx3-ubyte.gz is missing"):
        load_images(None)


def test_part_of_mnist_in_the_own_folder_is_not_passed_over(own_folder: Path, blank: Path) -> None:
    (own_folder / "mnist").mkdir(parents=True)
    (own_folder / "mnist" / TRAIN).symlink_to(blank / "mnist" / TRAIN)
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte.gz is missing"):
        load_images(None)
