"""What a run stores is whole at any moment, goes on exactly, and tells in one line what is wrong with it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from run_folders import CONFIG, begin, says
from walks import MakeWalk, plans, train_here

import regrow
from regrow.lab.runs import engine, lock, manifest
from regrow.lab.runs.columns import RESULTS
from regrow.lab.runs.store import Store

DESIGN = (
    "study setting system config_id config seed task online_accuracy loss dead_units stable_rank rank99 "
    "weight_magnitude gradient_magnitude ln_scale renewals renewed renewed_units renewed_zero overlap mature loss_jump "
    "diverged"
).split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two stacks and three tasks."""
    train_here(begin(tmp_path / "run"), plans(2), 3)
    return tmp_path / "run"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, place: float = 0.5, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= bit
    path.write_bytes(content)


# What comes back.


def test_rows_come_back_in_order_and_of_the_right_types(folder: Path) -> None:
    rows = regrow.load(folder)
    assert rows.columns == DESIGN and rows.schema == pl.Schema(dict(RESULTS))
    keys = rows.select("system", "seed", "task").rows()
    assert keys == [(system, seed, task) for system in ("base", "swr") for seed in (0, 1) for task in range(3)]
    assert rows["study"].unique().to_list() == ["weights-vs-units"]
    assert rows["overlap"].null_count() == len(rows) and rows["loss"].n_unique() == len(rows)


def test_a_table_without_rows_has_the_same_types(tmp_path: Path) -> None:
    store = begin(tmp_path / "run")
    store.save(plans(1)[0], 0, {}, {"results": store.frame("results", [])})
    stored = store.restore(plans(1)[0])
    assert (stored.task, stored.state) == (0, {}) and stored.tables["results"].schema == pl.Schema(dict(RESULTS))
    with pytest.raises(ValueError, match="holds no rows of `results` yet"):
        regrow.load(tmp_path / "run")


def test_an_unknown_column_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="`results` has no column los: it has study, setting"):
        Store(folder, "s").frame("results", [{"los": 1.0}])


def test_a_second_table(folder: Path) -> None:
    columns = dict.fromkeys(("study", "setting", "system", "config_id"), pl.String)
    columns |= dict.fromkeys(("seed", "task", "epoch"), pl.Int64)
    store = Store(folder, "vit", schemas={"results": RESULTS, "epochs": columns})
    store.prepare()
    members = [
        {"setting": "small", "system": m.system, "config_id": m.config_id, "seed": 0, "task": 0}
        for m in plans(1)[0].members
    ]
    rows = [member | {"epoch": epoch} for member in members for epoch in (1, 0)]
    store.save(plans(1)[0], 1, {}, {"epochs": store.frame("epochs", rows)})
    assert regrow.load(folder, "epochs")["epoch"].to_list() == [0, 1, 0, 1]


def test_load_needs_no_right_to_write_and_no_lock(folder: Path, tmp_path: Path) -> None:
    whole = regrow.load(folder)
    (folder / "lock").unlink(missing_ok=True)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(folder.rglob("*"))
    with lock_held(tmp_path / "elsewhere"):
        assert_frame_equal(regrow.load(str(folder)), whole)
    assert sorted(folder.rglob("*")) == before
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)


def lock_held(folder: Path) -> Any:
    folder.mkdir()
    return lock.sole_run(folder)


@pytest.mark.parametrize(
    ("spoil", "table", "message"),
    [
        (lambda f: f.rename(f.with_name("gone")), "results", "is no folder: give a folder that `regrow run` wrote"),
        (lambda f: (f / "manifest.json").unlink(), "results", "holds no manifest.json: give a folder"),
        (lambda f: (f / "manifest.json").write_text("{"), "results", "manifest.json is damaged"),
        (lambda f: flip(f / "manifest.json"), "results", "manifest.json is damaged"),
        (lambda f: (f / "manifest.json").write_text("[]"), "results", "is no manifest of a run"),
        (lambda f: None, "result", "`table` must be one of 'results', 'epochs'; got 'result'"),
        (lambda f: None, "epochs", "holds no rows of `epochs` yet"),
        (lambda f: cut(f / "results/small.seed1.0.parquet"), "results", "small.seed1.0.parquet is damaged"),
        (lambda f: flip(f / "results/small.seed1.0.parquet"), "results", "small.seed1.0.parquet is damaged"),
    ],
    ids="folder manifest cut bit list table epochs rows flipped".split(),
)
def test_load_names_what_is_wrong(folder: Path, spoil: Any, table: str, message: str) -> None:
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        regrow.load(folder, table)
    assert message in says(caught)


def test_import_does_without_polars() -> None:
    code = "import sys, regrow; assert 'polars' not in sys.modules; regrow.load; assert 'polars' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Going on.


def test_going_on_is_as_if_never_stopped(folder: Path, tmp_path: Path) -> None:
    train_here(begin(folder, config={"tasks": 7}), plans(2), 5)
    train_here(begin(folder, config={"tasks": 7}), plans(2), 7)
    train_here(begin(tmp_path / "whole"), plans(2), 7)
    assert_frame_equal(regrow.load(folder), regrow.load(tmp_path / "whole"), check_exact=True)
    assert len(regrow.load(folder)) == 2 * 2 * 7


def test_rows_beyond_the_checkpoint_are_dropped(folder: Path, tmp_path: Path) -> None:
    """As after a crash between the two files."""
    kept = (folder / "checkpoints/small.seed0.0.pt").read_bytes()
    train_here(begin(folder, config={"tasks": 6}), plans(2), 6)
    (folder / "checkpoints/small.seed0.0.pt").write_bytes(kept)
    (folder / "checkpoints/small.seed1.0.pt").unlink()
    store = begin(folder, config={"tasks": 6})
    assert (store.task("small.seed0.0"), store.task("small.seed1.0")) == (3, 0)
    train_here(store, plans(2), 6)
    train_here(begin(tmp_path / "whole"), plans(2), 6)
    assert_frame_equal(regrow.load(folder), regrow.load(tmp_path / "whole"), check_exact=True)


def test_without_checkpoints_a_stack_is_done_where_its_rows_are_whole(folder: Path) -> None:
    """As in a folder that was published: its checkpoints are large, and nobody goes on with them."""
    store, (plan, *_), other = begin(folder), plans(2), plans(10)[9]
    assert store.done(plan, 3) == 3 and store.done(plan, 2) == 2
    (folder / "checkpoints/small.seed0.0.pt").unlink()
    assert store.done(plan, 3) == 3
    assert store.done(plan, 4) == 0 == store.done(other, 3)  # there is nothing to go on from
    before = (folder / "results/small.seed0.0.parquet").stat().st_mtime_ns
    engine.run(plans(2), MakeWalk(), store, tasks=3)
    assert (folder / "results/small.seed0.0.parquet").stat().st_mtime_ns == before
    cut(folder / "results/small.seed0.0.parquet")
    with pytest.raises(ValueError, match="small.seed0.0.parquet is damaged"):
        store.done(plan, 3)


# Another run's folder.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "0.0.1"}, f'`version` "{regrow.__version__}"; got "0.0.1"'),
        ({"study": "optimizers"}, '`study` "weights-vs-units"; got "optimizers"'),
        ({"device": "cuda"}, '`device` "cpu"; got "cuda"'),
        ({"config": {"measure_every": 1}}, "`measure_every` 20; got 1"),
        ({"config": {"systems": ["base"]}}, "`systems` base swr; got base"),
        ({"config": {"sweep": True}}, "`sweep` null; got true"),
    ],
    ids="version study device measure systems new".split(),
)
def test_another_config_is_refused_by_key_and_values(folder: Path, changes: dict[str, Any], message: str) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError) as caught:
        begin(folder, **changes)
    assert says(caught) == f"{folder} was begun with {message}: give the same, or choose another --out"
    assert (folder / "manifest.json").read_bytes() == before


def test_another_packing_is_refused(folder: Path) -> None:
    new = manifest.describe("weights-vs-units", CONFIG, plans(2, ("base",)), "cpu", [])
    with pytest.raises(ValueError, match="was begun with another `packing` of stack small.seed0.0: choose another"):
        manifest.begin(folder, new)


def test_tasks_and_seeds_grow_and_never_shrink(folder: Path) -> None:
    begin(folder, seeds=3, config={"tasks": 9})
    begin(folder, seeds=1, config={"tasks": 1})
    stored = manifest.read(folder)
    assert (stored["config"]["tasks"], stored["config"]["seeds"]) == (9, 3)
    assert [stack["id"] for stack in stored["packing"]["stacks"]] == [f"small.seed{i}.0" for i in range(3)]
    assert len(stored["continued"]) == 2 and stored["continued"][0]["torch"] == torch.__version__
    train_here(begin(folder, seeds=1, config={"tasks": 1}), plans(1), 1)
    assert len(regrow.load(folder)) == 12  # nothing to do, nothing lost


def test_the_manifest_says_what_was_run(folder: Path) -> None:
    stored = manifest.read(folder)
    assert set(stored) == set(
        "study config version arithmetic device commit torch machine cpu started command packing".split()
    )
    assert stored["command"] == ["run", "weights-vs-units"] and stored["version"] == regrow.__version__
    if (Path(regrow.__file__).parents[2] / ".git").exists():
        assert len(stored["commit"].removesuffix("-dirty")) == 40


def test_a_commit_is_marked_where_the_code_differs_not_where_results_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, results = tmp_path / "src/regrow/__init__.py", tmp_path / "results/table"
    for path in (package, results):
        path.parent.mkdir(parents=True)
        path.write_text("as it was")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(regrow, "__file__", str(package))

    def commit() -> str:
        return manifest.describe("weights-vs-units", CONFIG, plans(1), "cpu", [])["commit"]

    clean = commit()
    assert len(clean) == 40
    results.write_text("more of them")
    assert commit() == clean
    package.write_text("changed")
    assert commit() == clean + "-dirty"


def test_the_manifest_adds_up_how_long_it_took(folder: Path) -> None:
    with manifest.timed(folder):
        time.sleep(0.2)
    first = manifest.read(folder)["seconds"]
    with pytest.raises(KeyboardInterrupt), manifest.timed(folder):
        time.sleep(0.2)
        raise KeyboardInterrupt
    assert 0.2 <= first < manifest.read(folder)["seconds"]
    (folder / "manifest.json").write_text("half")
    with pytest.raises(KeyboardInterrupt), manifest.timed(folder):  # what went wrong is told, not this
        raise KeyboardInterrupt


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OSError) as caught:
        manifest.open_folder(tmp_path)
    assert says(caught) == f"{tmp_path} holds files but no manifest.json, so it is not of a run: choose another --out"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_killed_writers_left_is_cleared_away(folder: Path) -> None:
    for name in (".manifest.json.77.tmp", "results/.a.parquet.77.tmp", "checkpoints/.a.pt.77.tmp"):
        (folder / name).write_bytes(b"half")
    begin(folder)
    assert not list(folder.rglob("*.tmp")) and len(regrow.load(folder)) == 12


# One run at a time.


def test_a_second_run_is_refused(folder: Path) -> None:
    with lock.sole_run(folder):
        assert lock.is_running(folder)
        with pytest.raises(OSError) as caught, lock.sole_run(folder):
            raise AssertionError("two runs in one folder")
        assert len(regrow.load(folder)) == 12
    assert f"{folder} is in use by another run (process {os.getpid()} on " in says(caught)
    assert not lock.is_running(folder)
    with lock.sole_run(folder):
        pass


def test_a_run_waits_for_workers_of_a_killed_one(folder: Path) -> None:
    """Workers hold the folder too: while one that lost its run is still writing, the next does not begin."""
    code = (
        "import sys, time; from pathlib import Path; from regrow.lab.runs import lock\n"
        "with lock.one_writer(Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(1); print('gone', flush=True)"
    )
    with lock.sole_run(folder):
        pass
    (folder / "lock").write_text("nowhere 1\n")  # the run that is dead
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout and worker.stdout.readline() == "held\n"
        with lock.sole_run(folder):
            assert worker.stdout.readline() == "gone\n"
