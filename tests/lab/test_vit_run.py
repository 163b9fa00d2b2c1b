"""`regrow run vit-cifar` on real images, in small: what it stores, what it refuses, how it goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from run_folders import trained_here
from vit_cases import plan, trainer

import regrow
from regrow.cli import main
from regrow.commands.run import Run, Size, prepare
from regrow.lab.data.cifar import find_cifar100
from regrow.lab.runs import best_of_sweep, manifest
from regrow.lab.runs.columns import VIT_SCHEMAS
from regrow.lab.runs.store import Store
from regrow.lab.runs.training import Stopped, StopSignal, train_stack
from regrow.lab.vit.job import ViTMaker

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
_SIZE = ["--epochs-per-task", "1", "--images-per-class", "18", "--width", "24", "--depth", "2"]
_ASKED = ["run", "vit-cifar", "--settings", "vit", "vit-reparam", "--systems", "base", "swr", "scratch", *_SIZE]

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def cifar() -> Path:
    if find_cifar100(_DATA) is None:
        pytest.skip(f"needs CIFAR-100 in {_DATA}")
    return _DATA


def test_a_run_stores_its_tables_and_goes_on(tmp_path: Path, cifar: Path, capfd: Capture) -> None:
    """Six networks: one task here and the other by the command are both at once."""
    out = tmp_path / "out"
    where = ["--data", str(cifar), "--device", "cpu", "--workers", "1", "--out", str(out)]
    size = Size(epochs_per_task=1, images_per_class=18, width=24, depth=2)
    common: dict[str, Any] = {"data": cifar, "device": "cpu", "vit": size}
    asked = "vit-cifar", ("vit", "vit-reparam"), ("base", "swr", "scratch")
    first = trained_here(Run(*asked, tasks=1, out=out, **common))
    assert main([*_ASKED, "--tasks", "2", *where]) == 0
    said = capfd.readouterr().out.splitlines()
    expected = "6 networks in 6 stacks, 2 tasks, 18 network-updates, on cpu."  # 1 of the first task, 2 of the second
    assert said[0] == f"vit-cifar on cifar100: {expected}"
    assert said[1].startswith("Expected time: for the remaining 50%, about ")
    rows, epochs = regrow.load(out), regrow.load(out, "epochs")
    at_once = trained_here(Run(*asked, tasks=2, out=tmp_path / "here", **common))
    assert_frame_equal(at_once, rows, check_exact=True)
    assert_frame_equal(regrow.load(tmp_path / "here", "epochs"), epochs, check_exact=True)
    assert_frame_equal(rows.filter(pl.col("task") < 1), first, check_exact=True)

    names = ["setting", "system", "task"]
    every = [(s, m, k) for s in ("vit", "vit-reparam") for m in ("base", "scratch", "swr") for k in (0, 1)]
    assert rows.select(names).rows() == every and epochs.select(*names, "epoch").rows() == [(*row, 0) for row in every]
    assert rows["classes"].to_list() == [5, 10] * 6 and rows["study"].unique().to_list() == ["vit-cifar"]
    best = {(s, k): a for s, m, k, a in rows.select(*names, "best_test_accuracy").rows() if m == "scratch"}
    for setting, _, task, accuracy, difference in rows.select(
        *names, "best_test_accuracy", "scratch_difference"
    ).rows():
        assert difference == accuracy - best[setting, task]
    config = json.loads((out / "manifest.json").read_text(), parse_constant=pytest.fail)["config"]
    assert config["clip_at"] is None and (config["optimizer"], config["width"], config["data"]) == (
        "authors", 24, "cifar100",
    )  # fmt: skip
    assert main(["status", str(out)]) == 0 and "Finished." in capfd.readouterr().out
    assert main([*_ASKED, "--tasks", "2", "--width", "32", *where]) == 1
    assert "was begun with `--width` 24; got 32" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("vit-cifar --systems l2", "`--systems` of study 'vit-cifar' lack 'l2'"),
        ("vit-cifar --precision tf32", "`--precision` 'tf32' needs a CUDA device; got cpu"),
        ("vit-cifar --graphs", "`--graphs` True needs a CUDA device"),
        ("vit-cifar --tasks 21", "`--tasks` must be at most 20, for each brings 5 of 100 classes; got 21"),
        ("vit-cifar --sweep --systems base --tasks 2", "`--tasks` must be at most 1"),
        ("vit-cifar --images-per-class 17", "`--images-per-class` must be at least 18"),
        ("vit-cifar --images-per-class 451", "`--images-per-class` must be at most 450; got 451"),
        ("vit-cifar --clip-at 0", "`--clip-at` must be above `--flush-below`"),
        ("vit-cifar --units-read after", "`--units-read` is an option of studies on permuted images; got it for vit"),
        ("optimizers --width 24", "`--width` is an option of study vit-cifar; got it for optimizers: leave it out"),
        ("optimizers --optimizer clean", "`--optimizer` is an option of study vit-cifar"),
        ("optimizers --clip-at 2", "`--clip-at` is an option of study vit-cifar"),
        ("vit-cifar", "cifar-100-python.tar.gz (or .tar.xz, or unpacked) is missing: `regrow data fetch"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    asked: str, message: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before images are asked for: here there are none."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", *asked.split(), "--data", "nowhere" if "vit" in asked else str(_DATA), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("regrow: ") and said.count("\n") == 1 and message in said
    assert not any(tmp_path.iterdir())


def test_a_sweep_of_the_base_is_one_task_of_all_classes(cifar: Path) -> None:
    job = prepare(
        Run("vit-cifar", ("vit",), ("base",), data=cifar, sweep=True, device="cpu", vit=Size(epochs_per_task=3))
    )
    assert job.tasks == 1 and len(job.plans) == 54 and isinstance(job.make, ViTMaker)
    assert job.updates == job.all_updates == 3 * 100 * 450 // 90


# Within a task.


class Stopping:
    """A trainer that is told to stop after the first of the two epochs of a task, when that is stored."""

    def __init__(self, stop: StopSignal, task: int) -> None:
        self.one, self.signal, self.last = trainer("swr"), stop, task
        self.load_state_dict, self.state_dict = self.one.load_state_dict, self.one.state_dict
        self.between: Callable[[], None] | None = None

    @property
    def task(self) -> int:
        return self.one.task

    def run_task(self) -> Any:
        self.one.between = self.stop
        return self.one.run_task()

    def stop(self) -> None:
        assert self.between
        self.between()
        if self.task == self.last:
            self.signal.request()


def store_in(folder: Path, every: float) -> Store:
    folder.mkdir()
    manifest.write(folder, manifest.describe("vit-cifar", {"tasks": 2, "seeds": 1}, [plan("swr")], "cpu", []))
    store = Store(folder, "vit-cifar", every, VIT_SCHEMAS)
    store.prepare()
    return store


def test_one_stopped_within_a_task_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    at_once, stopped = store_in(tmp_path / "at once", 60.0), store_in(tmp_path / "stopped", 0.0)
    train_stack(plan("swr"), lambda *_: trainer("swr"), at_once, 2)
    for task in (0, 1):
        stop = StopSignal()
        with pytest.raises(Stopped):
            train_stack(plan("swr"), lambda *_, b=stop, k=task: Stopping(b, k), stopped, 2, stop=stop)
        found = stopped.restore(plan("swr"))
        assert found.state and (found.task, found.state["epoch"], len(found.tables["results"])) == (task, 1, task)
    train_stack(plan("swr"), lambda *_: trainer("swr"), stopped, 2)
    for table in ("results", "epochs"):
        one, other = (regrow.load(tmp_path / name, table) for name in ("at once", "stopped"))
        assert_frame_equal(one, other, check_exact=True)


def test_a_stop_waits_until_the_file_is_whole() -> None:
    stop, written = StopSignal(), []
    with pytest.raises(Stopped), stop.interruptible():
        with stop.deferred():
            stop.request()
            written.append("whole")
        written.append("never")
    assert written == ["whole"]


# What is best.


def test_vision_transformers_are_ranked_by_validation() -> None:
    columns = ("setting", "config_id", "task", "best_validation_accuracy", "online_accuracy", "diverged")
    rows = [
        ("vit-reparam", "a", 0, 0.5, 0.9, False), ("vit-reparam", "a", 1, 0.6, 0.9, False),
        ("vit-reparam", "b", 0, 0.6, 0.1, False), ("vit-reparam", "b", 1, 0.7, 0.1, False),
        ("vit-reparam", "c", 0, 0.9, 0.9, False), ("vit-reparam", "c", 1, None, None, True),
        ("vit", "a", 0, 0.5, 0.5, False),
    ]  # fmt: skip
    table = pl.DataFrame(rows, schema=columns, orient="row")
    table = table.with_columns(pl.lit("swr").alias("system"), pl.lit("{}").alias("config"), pl.lit(0).alias("seed"))
    ranked = best_of_sweep.rank(table)
    assert list(ranked) == ["vit", "vit-reparam"]
    best = ranked["vit-reparam"]["swr"]
    assert [config["config_id"] for config in best] == ["b", "a", "c"]
    assert best[0]["mean"] == pytest.approx(0.65) and best[2]["mean"] is None and best[2]["diverged"] == 1


def test_studies_tells_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("regrow.commands.studies._SECONDS", 0.1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["studies"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "vit-cifar: Does it hold" in said and "as chosen 20 tasks, 36 networks, 18.9 million" in said
    assert "--sweep, base 1 task, " in said and "needs CIFAR-100: " in said
