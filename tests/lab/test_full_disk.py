"""Where a run cannot write, it says so in one line; what is written stays readable, and with room it goes on."""

import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from run_folders import begin, says
from walks import MakeWalk, plans, train_here

import regrow
from regrow.lab.runs import engine, files, lock, manifest
from regrow.lab.runs.training import train_stack


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 KiB; only root may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk(tiny_disk: Path) -> None:
    store = begin(tiny_disk / "run")
    train_stack(plans(1)[0], MakeWalk(), store, 2)
    whole = regrow.load(tiny_disk / "run")
    (tiny_disk / "other").write_bytes(bytes(80 * 1024))
    with pytest.raises(OSError) as caught:
        train_stack(plans(1)[0], MakeWalk(), store, 2000)
    assert "cannot be written (No space left on device): free space" in says(caught)
    assert_frame_equal(regrow.load(tiny_disk / "run").filter(pl.col("task") < 2), whole, check_exact=True)
    assert not list(tiny_disk.rglob("*.tmp"))
    (tiny_disk / "other").unlink()
    reached = store.task("small.seed0.0")
    train_stack(plans(1)[0], MakeWalk(), store, reached + 1)
    assert regrow.load(tiny_disk / "run")["task"].max() == reached


def test_a_disk_that_gets_full_under_a_run(tiny_disk: Path) -> None:
    store = begin(tiny_disk / "run", 1)
    train_here(store, plans(1), 3)
    (tiny_disk / "other").write_bytes(bytes(80 * 1024))
    with lock.sole_run(store.folder), pytest.raises(OSError) as caught:
        engine.run(plans(1), MakeWalk(), store, tasks=10_000)
    assert says(caught).startswith("stack small.seed0.0: ") and "(No space left on device): free space" in says(caught)
    assert len(regrow.load(store.folder)) >= 6


def test_a_disk_that_may_only_be_read(tiny_disk: Path) -> None:
    store = begin(tiny_disk / "run")
    train_stack(plans(1)[0], MakeWalk(), store, 2)
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    assert len(regrow.load(tiny_disk / "run")) == 4 and not lock.is_running(tiny_disk / "run")
    with pytest.raises(OSError, match=r"checkpoints.*small.seed0.0|results.*small.seed0.0"):
        train_stack(plans(1)[0], MakeWalk(), store, 3)
    for folder in ("run", "new"):
        with pytest.raises(OSError, match=r"cannot be written \(Read-only file system\): free space or allow writing"):
            manifest.open_folder(tiny_disk / folder)
            with lock.sole_run(tiny_disk / folder):
                begin(tiny_disk / folder)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """A real fault that needs no rights: no file of this process may grow beyond 100 bytes."""
    files.write_whole(tmp_path / "file", b"before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            files.write_whole(tmp_path / "file", bytes(200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert says(caught).startswith(f"{tmp_path / 'file'} cannot be written (File too large): free space")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]
