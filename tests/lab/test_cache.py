"""What is decoded is decoded once, kept whole or not at all, and never trusted when it is not as it was written."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from regrow.lab.data.cache import cache_folder, decoded

VALUES = np.arange(240, dtype=np.uint8).reshape(4, 60)
SHAPES = {"values": VALUES.shape}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "regrow" / "decoded"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"as it was published")
    return path


def make() -> dict[str, np.ndarray]:
    return {"values": VALUES}


def never() -> dict[str, np.ndarray]:
    raise AssertionError("decoded again")


def only_file(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/regrow")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification: to be ignored
    assert cache_folder() == Path("/home/someone/.cache/regrow")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/someone/.cache/regrow")
    monkeypatch.setenv("HOME", "nowhere")
    assert cache_folder() is None


def test_without_a_home_it_goes_on(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "nowhere")
    assert (decoded([source], SHAPES, make)["values"] == VALUES).all()


def test_decoded_once_and_mapped(source: Path, cache: Path) -> None:
    first = decoded([source], SHAPES, make)["values"]
    second = decoded([source], SHAPES, never)["values"]
    for array in (first, second):
        assert isinstance(array, np.memmap) and (array == VALUES).all()
    assert (np.load(only_file(cache)) == VALUES).all()  # an ordinary .npy file


def test_a_tensor_of_it_may_be_written_to_without_changing_the_file(source: Path, cache: Path) -> None:
    tensor = torch.from_numpy(decoded([source], SHAPES, make)["values"])  # a warning would be an error
    tensor.zero_()
    assert (np.load(only_file(cache)) == VALUES).all()
    assert (decoded([source], SHAPES, never)["values"] == VALUES).all()


def test_another_source_is_decoded_anew(source: Path, cache: Path) -> None:
    decoded([source], SHAPES, make)
    source.write_bytes(b"as it was changed")
    found = decoded([source], SHAPES, lambda: {"values": VALUES + 1})["values"]
    assert (found == VALUES + 1).all() and len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:60],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"\0" * 128 + content[128:],
        lambda content: content.replace(b"'|u1'", b"'|i1'"),
        lambda content: content.replace(b"(4, 60)", b"(60, 4)"),
    ],
    ids="empty header cut long bit digest zeros type shape".split(),
)
def test_a_damaged_file_is_made_again(source: Path, cache: Path, damage: Callable[[bytes], bytes]) -> None:
    decoded([source], SHAPES, make)
    path = only_file(cache)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    assert (decoded([source], SHAPES, make)["values"] == VALUES).all()
    assert path.read_bytes() == whole


def test_one_array_missing_of_two(source: Path, cache: Path) -> None:
    shapes, both = SHAPES | {"more": (3,)}, lambda: make() | {"more": np.array([1, 2, 3], np.uint8)}
    decoded([source], shapes, both)
    next(path for path in cache.iterdir() if path.name.startswith("more")).unlink()
    assert decoded([source], shapes, both)["more"].tolist() == [1, 2, 3]
    assert decoded([source], shapes, never)["more"].tolist() == [1, 2, 3]


def test_without_a_cache_folder_it_goes_on(source: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where the folder would have to be")
    fixed = np.frombuffer(VALUES.tobytes(), np.uint8).reshape(VALUES.shape)  # read-only, as bytes are
    found = decoded([source], SHAPES, lambda: {"values": fixed})["values"]
    assert torch.equal(torch.from_numpy(found), torch.from_numpy(VALUES))


def test_a_full_disk_leaves_nothing_behind(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert (decoded([source], SHAPES, make)["values"] == VALUES).all()
    assert list(cache.iterdir()) == []


def test_a_file_appears_once_it_is_on_the_disk(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, before = os.fsync, []

    def note(file: int) -> None:
        before.append((os.fstat(file).st_size, [path.name for path in cache.glob("values*")]))
        sync(file)

    monkeypatch.setattr(os, "fsync", note)
    decoded([source], SHAPES, make)
    assert before == [(only_file(cache).stat().st_size, [])]


def test_several_processes_at_once(source: Path, cache: Path) -> None:
    program = """
import pathlib, sys
import numpy as np
from regrow.lab.data.cache import decoded

source, cache = map(pathlib.Path, sys.argv[1:])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    for path in cache.glob("values*"):
        path.unlink(missing_ok=True)
    found = decoded([source], {"values": (1000, 1000)}, lambda: {"values": np.full((1000, 1000), 3, np.uint8)})
    assert (found["values"] == 3).all()
print("right")
"""
    command = [sys.executable, "-c", program, str(source), str(cache)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 2
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert [worker.communicate()[0] for worker in workers] == ["right\n"] * 2
    assert np.load(only_file(cache)).shape == (1000, 1000)
