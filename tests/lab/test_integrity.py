"""Files are verified when they are read: what is damaged, missing or of another run is never taken for results."""

import errno
import fcntl
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from run_folders import begin, says
from walks import MakeWalk, plans, train_here

import regrow
from regrow.cli import main
from regrow.lab.mlp.arithmetic import ARITHMETIC
from regrow.lab.runs import best_of_sweep, checkpoint, digests, engine, lock, manifest
from regrow.lab.runs.store import Store
from regrow.lab.runs.tables import read_table
from regrow.lab.runs.training import train_stack

ROWS, STATE = "results/small.seed0.0.parquet", "checkpoints/small.seed0.0.pt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two stacks and six tasks."""
    train_here(begin(tmp_path / "run", config={"tasks": 6}), plans(2), 6)
    return tmp_path / "run"


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def run_again(folder: Path, tasks: int = 6) -> list[str]:
    """What the command does: survey, then train; returns the lines on what was set aside."""
    store = begin(folder, config={"tasks": tasks})
    _, lines = store.survey(plans(2), tasks)
    train_here(store, plans(2), tasks)
    return lines


def unsealed(folder: Path) -> None:
    """As an older version wrote it: without digests."""
    for path in folder.rglob("*.parquet"):
        read_table(path)[0].write_parquet(path)
    bare, _ = digests.open_json((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(bare))


# A flipped bit.


@pytest.mark.parametrize("name", [ROWS, STATE, "manifest.json"])
def test_a_flipped_bit_anywhere_is_noticed(folder: Path, name: str) -> None:
    path, bits = folder / name, random.Random(0)
    whole = path.read_bytes()
    reads: dict[str, Callable[[], Any]] = {
        ROWS: lambda: read_table(path),
        STATE: lambda: checkpoint.load(path),
        "manifest.json": lambda: manifest.read(folder),
    }
    expected = reads[name]()
    for bit in bits.sample(range(8 * len(whole)), 150):
        flip(path, bit)
        try:
            got = reads[name]()
        except ValueError:
            pass
        else:
            assert name == "manifest.json" and got == expected, bit  # a bit of white space
        path.write_bytes(whole)


def test_damaged_files_are_set_aside_and_computed_again(folder: Path) -> None:
    before = regrow.load(folder)
    for name in (ROWS, STATE):
        flip(folder / name, 4000)
        with pytest.raises(ValueError, match="is damaged .*rerun the command of the run"):
            Store(folder, "weights-vs-units").restore(plans(1)[0])
        lines = run_again(folder)
        assert f"{folder / name} is damaged" in lines[0] and "moved to" in lines[0]
        assert_frame_equal(regrow.load(folder), before, check_exact=True)
    assert len(list((folder / "damaged").iterdir())) == 2
    assert not list((folder / "checkpoints").glob("*.expected"))


def test_status_verifies_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = manifest.read(folder)
    manifest.write(folder, content | {"config": content["config"] | {"data": "digits"}})
    assert main(["status", str(folder), "--verify"]) == 0
    assert "Verified: every file is as it was written." in capsys.readouterr().out
    flip(folder / STATE, 8 * ((folder / STATE).stat().st_size - 500))
    assert main(["status", str(folder)]) == 0  # reads no states
    assert main(["status", str(folder), "--verify"]) == 1
    said = capsys.readouterr()
    assert f"{folder / STATE} is damaged" in said.out and "1 file damaged" in said.err
    best_of_sweep.write(folder, regrow.load(folder))
    flip(folder / best_of_sweep.NAME, 4000)
    assert main(["status", str(folder), "--verify"]) == 1
    assert "selected.json is damaged" in capsys.readouterr().out


def test_files_without_a_digest_are_read_and_said_to_be_unverified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = regrow.load(folder)
    content = manifest.read(folder)
    manifest.write(folder, content | {"config": content["config"] | {"data": "digits"}})
    unsealed(folder)
    shutil.rmtree(folder / "checkpoints")
    assert_frame_equal(regrow.load(folder), before, check_exact=True)
    assert main(["status", str(folder), "--verify"]) == 0
    said = capsys.readouterr().out
    assert "Unverified, since written without a digest: 3 files." in said and ROWS in said and "Finished" in said


# Rows that are lost.


@pytest.mark.parametrize("keep", [0, 3])
def test_a_finished_run_that_lost_rows_is_computed_again(folder: Path, keep: int) -> None:
    whole = regrow.load(folder)
    if keep:
        rows = read_table(folder / ROWS)[0].filter(pl.col("task") < keep)
        (folder / ROWS).write_bytes(digests.seal_table(rows))
    else:
        (folder / ROWS).unlink()
    assert Store(folder, "weights-vs-units").done(plans(1)[0], 6) == 0
    assert "lacks rows" in run_again(folder)[0]
    assert_frame_equal(regrow.load(folder), whole, check_exact=True)


def test_published_results_are_extended_only_where_they_come_out_again(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "checkpoints")
    run_again(folder, 8)
    train_here(begin(tmp_path / "whole", config={"tasks": 8}), plans(2), 8)
    assert_frame_equal(regrow.load(folder), regrow.load(tmp_path / "whole"), check_exact=True)

    shutil.rmtree(folder / "checkpoints")
    rows = read_table(folder / ROWS)[0]
    other = rows.with_columns(loss=pl.col("loss") + pl.when(pl.col("task") == 4).then(1e-9).otherwise(0.0))
    (folder / ROWS).write_bytes(digests.seal_table(other))
    with pytest.raises(ValueError) as caught:
        run_again(folder, 9)
    assert f"{folder / ROWS} holds another `loss` of task 4 than is computed now" in says(caught)
    assert_frame_equal(read_table(folder / ROWS)[0], other, check_exact=True)  # and stays


def test_what_is_expected_stays_so_after_a_stop(folder: Path) -> None:
    """Published rows are compared also where the run that computes them again is stopped in between."""
    whole = regrow.load(folder)
    shutil.rmtree(folder / "checkpoints")
    store = begin(folder, config={"tasks": 7})
    train_stack(plans(1)[0], MakeWalk(), store, 2)
    assert_frame_equal(regrow.load(folder), whole, check_exact=True)  # nothing is lost meanwhile
    found = store.restore(plans(1)[0])
    assert found.task == 2 and found.expected["results"]["task"].unique().sort().to_list() == [2, 3, 4, 5]
    train_stack(plans(1)[0], MakeWalk(), store, 7)
    assert_frame_equal(regrow.load(folder).filter(pl.col("task") < 6), whole, check_exact=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.filter(pl.col("task") != 2), "it lacks tasks of setting small, system"),
        (lambda rows: pl.concat([rows, rows.head(1)]), "it holds rows twice: 13 for 12 tasks"),
        (lambda rows: rows.with_columns(seed=pl.lit(5, pl.Int64)), "seed 5, which is not in the packing"),
        (lambda rows: rows.filter(pl.col("system") == "swr"), "it holds no rows of setting small, system base"),
        (lambda rows: rows.drop("system"), "it has no column system"),
        (lambda rows: rows.with_columns(pl.col("task").cast(pl.String)), "its column task is of type String"),
    ],
    ids="hole double seed member column type".split(),
)
def test_rows_that_are_not_those_of_the_stack_are_refused(folder: Path, spoil: Any, message: str) -> None:
    (folder / ROWS).write_bytes(digests.seal_table(spoil(read_table(folder / ROWS)[0])))
    for refuse in (
        lambda: regrow.load(folder),
        lambda: engine.run(plans(2), MakeWalk(), Store(folder, "weights-vs-units"), tasks=9),
    ):
        with pytest.raises(ValueError) as caught:
            refuse()
        assert str(folder / ROWS) in says(caught) and message in says(caught)


# Whose it is.


def test_another_stacks_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    store, plan = Store(folder, "weights-vs-units"), plans(1)[0]
    shutil.copy(folder / "checkpoints/small.seed1.0.pt", folder / STATE)
    with pytest.raises(ValueError) as caught:
        store.restore(plan)
    assert f"{folder / STATE} is of another run: its `stack` is 'small.seed1.0', not 'small.seed0.0'" in says(caught)
    for other in (Store(folder, "optimizers"), Store(folder, "weights-vs-units", data={"data": "mnist"})):
        store = Store(folder, "weights-vs-units", data={"data": "digits"})
        other.save(plan, 6, {}, {})
        with pytest.raises(ValueError, match=r"is of another run: its `(study|data)` is '(optimizers|mnist)'"):
            store.inspect(plan)


def test_the_task_in_a_checkpoint_is_not_trusted(folder: Path) -> None:
    header, state = checkpoint.load(folder / STATE)
    checkpoint.save(folder / STATE, header._replace(task=4), state)
    with pytest.raises(ValueError, match="holds task 6, and names task 4"):
        train_here(begin(folder, config={"tasks": 9}), plans(1), 9)


def test_an_older_checkpoint_goes_on(folder: Path, tmp_path: Path) -> None:
    """Written by torch.save alone."""
    header, state = checkpoint.load(folder / STATE)
    torch.save({"task": header.task, "state": state}, folder / STATE)
    unverified = Store(folder, "weights-vs-units").inspect(plans(1)[0]).unverified
    assert list(unverified) == [folder / STATE]
    train_here(begin(folder, config={"tasks": 8}), plans(2), 8)
    train_here(begin(tmp_path / "whole", config={"tasks": 8}), plans(2), 8)
    assert_frame_equal(regrow.load(folder), regrow.load(tmp_path / "whole"), check_exact=True)


# Names.


@pytest.mark.parametrize("name", ["gl[1]", "br[0]", "~", "s3:", "*", "a b", "-x"])
def test_no_path_is_a_pattern(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_here(begin(Path("gl1"), config={"tasks": 2}), plans(2), 2)
    beside = (tmp_path / "gl1" / ROWS).read_bytes()
    train_here(begin(Path(name), config={"tasks": 3}), plans(2), 3)
    assert regrow.load(Path(name))["task"].max() == 2 == regrow.load(tmp_path / name)["task"].max()
    assert (tmp_path / "gl1" / ROWS).read_bytes() == beside and regrow.load("gl1")["task"].max() == 1


# The manifest.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {}}, "its config has `tasks` None"),
        ({"config": {"tasks": "many", "seeds": 1}}, "its config has `tasks` 'many'"),
        ({"packing": {"stacks": [{}], "configs": {}}}, "its packing is damaged, KeyError 'id'"),
        ({"packing": []}, "its `packing` is []"),
        ({"continued": 3}, "its `continued` is 3"),
        ({"surprise": 3}, "its key 'surprise' is unknown"),
    ],
)
def test_a_manifest_of_other_content_is_refused(
    folder: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest.write(folder, {**manifest.read(folder), **changes})
    for words in (["status"], ["report"], ["run", "optimizers", "--systems", "base", "--out"]):
        assert main([*words, str(folder)]) == 1
        said = capsys.readouterr().err.replace("--tasks", "tasks")
        assert said.count("\n") == 1 and f"manifest.json is no manifest of a run ({message}" in said


def test_a_manifest_of_a_later_version_is_refused(folder: Path) -> None:
    manifest.write(folder, manifest.read(folder) | {"version": "99.0"})
    with pytest.raises(ValueError, match=r"was written by regrow 99.0, and this is .*: pip install --upgrade regrow"):
        regrow.load(folder)


def test_another_arithmetic_is_not_extended(folder: Path) -> None:
    content = manifest.read(folder)
    assert content.get("arithmetic") == ARITHMETIC > 1
    manifest.write(folder, content | {"arithmetic": 7})
    with pytest.raises(
        ValueError, match=rf"was begun with arithmetic 7, and this is {ARITHMETIC}, .*choose another --out"
    ):
        begin(folder)
    manifest.write(folder, {key: value for key, value in content.items() if key != "arithmetic"})  # absent is 1
    with pytest.raises(
        ValueError, match=rf"was begun with arithmetic 1, and this is {ARITHMETIC}, .*choose another --out"
    ):
        begin(folder, config={"tasks": 6})


# One run at a time, or the shards of one.


def test_shards_hold_a_folder_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.3)
    with lock.sole_run(folder, lock.Shard(1, 3)), lock.sole_run(folder, lock.Shard(2, 3)):
        assert lock.is_running(folder)
        refused = {lock.Shard(2, 3): "in use by another run", lock.Shard(2, 4): "by shards of 3; got --shard 2/4"}
        for shard, message in refused.items():
            with pytest.raises(OSError, match=message), lock.sole_run(folder, shard):
                raise AssertionError("two writers")
        with pytest.raises(OSError, match="in use by another run"), lock.sole_run(folder):
            raise AssertionError("a run beside shards")
    with lock.sole_run(folder):
        with pytest.raises(OSError, match="in use by another run"), lock.sole_run(folder, lock.Shard(1, 3)):
            raise AssertionError("a shard beside a run")
    with lock.sole_run(folder, lock.Shard(1, 4)):
        pass
    assert not lock.is_running(folder)


def test_a_file_system_without_locks_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OSError) as caught, lock.sole_run(folder):
        raise AssertionError("without a lock")
    assert "lies on a file system without file locks (No locks available): choose an --out" in says(caught)
    assert not lock.is_running(folder)


def test_a_folder_of_before_a_checksum_was_stored_is_extended_and_takes_it(tmp_path: Path) -> None:
    """From then on it is verified, and the rows that are there count."""
    later = ("labels_checksum", "test_data_checksum", "test_labels_checksum")
    old = {"data": "cifar100", "data_checksum": "ac99dcfb"}
    new = old | dict.fromkeys(later, "01234567")
    train_here(begin(tmp_path / "run", config=old), plans(2), 2)
    store = begin(tmp_path / "run", config=new)
    assert {key: manifest.read(store.folder)["config"][key] for key in new} == new
    assert [store.done(plan, 3) for plan in plans(2)] == [2, 2]
    begin(tmp_path / "run", config=new)
    for key in later:
        with pytest.raises(ValueError, match=f'was begun with `{key}` "01234567"; got "89abcdef"'):
            begin(tmp_path / "run", config=new | {key: "89abcdef"})


def test_a_folder_that_is_deleted_in_mid_run(tmp_path: Path) -> None:
    """One line says so; nothing is made in its place."""
    out = tmp_path / "run"
    words = [
        "run",
        "weights-vs-units",
        "--settings",
        "small",
        "--systems",
        "base",
        "--tasks",
        "50000",
        "--workers",
        "1",
    ]
    command = [sys.executable, "-m", "regrow", *words, "--out", str(out), "--quiet"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 300
        while not list(out.glob("checkpoints/*.pt")) and run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        out.rename(tmp_path / "gone")
        shutil.rmtree(tmp_path / "gone")
        error = run.communicate(timeout=300)[1]
    finally:
        run.kill()
    assert run.returncode == 1 and not out.exists()
    (line,) = error.splitlines()
    assert line.startswith(f"regrow: {out} was deleted or moved during the run. To begin again: regrow run weights-vs")
