"""`regrow run` refuses what makes no sense, stores what it trains, and goes on as if it had never stopped."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from run_folders import says, trained_here

import regrow
from regrow.cli import main
from regrow.commands.run import Run, prepare
from regrow.lab.runs import best_of_sweep, manifest, timing
from regrow.lab.runs.job import words
from regrow.lab.runs.problems import PermutedJob, PermutedMaker
from regrow.lab.runs.store import Store
from regrow.lab.studies import packing

STUDY = "weights-vs-units"
SMALL = ("run", STUDY, "--settings", "small", "--systems", "base", "cbp", "swr")


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of this on scikit-learn's digits."""
    monkeypatch.delenv("REGROW_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def small(out: Path, tasks: int, seeds: int = 1) -> Run:
    return Run(STUDY, ("small",), ("base", "cbp", "swr"), tasks, seeds, out=out)


def test_a_run_goes_on_and_grows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    first = trained_here(small(out, 1))
    assert first.select("system", "task").rows() == [(s, 0) for s in ("base", "cbp", "swr")]
    assert first["online_accuracy"].min() > 0.1 and not first["diverged"].any()  # type: ignore[operator]

    assert main([*SMALL, "--tasks", "2", "--seeds", "2", "--workers", "1", "--out", str(out)]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[0] == f"{STUDY} on digits: 6 networks in 2 stacks, 2 tasks, 2,688 network-updates, on cpu."
    assert said[1].startswith("Expected time: for the remaining 75%, about ")
    assert said[1].endswith(" with 1 worker.") and said[-1].startswith(f"Results: {out}. ")
    assert said[-1].endswith(f"verdicts: regrow report {out}")
    ends = [line.partition(" in ")[0] for line in said if line.endswith(" stacks done)")]
    assert ends == ["small.seed1.0: 2 tasks", "small.seed0.0: 1 task"]
    rows = regrow.load(out)
    assert_frame_equal(rows, trained_here(small(tmp_path / "here", 2, 2)), check_exact=True)
    assert_frame_equal(rows.filter(pl.col("seed") == 0, pl.col("task") < 1), first, check_exact=True)

    assert main([*SMALL, "--tasks", "1", "--out", str(out)]) == 0
    assert "Everything is stored" in capfd.readouterr().out
    assert main([*SMALL, "--tasks", "1", "--out", str(out), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert main([*SMALL, "--measure-every", "1", "--out", str(out)]) == 1
    assert "`--measure-every` 20; got 1" in capfd.readouterr().err
    assert_frame_equal(regrow.load(out), rows, check_exact=True)


def wait_for_task(folder: Path, run: subprocess.Popen[str]) -> None:
    """Until a plain line tells that a task is finished, which is not stored yet."""
    assert run.stdout
    for line in run.stdout:
        if "swr" in line:
            return
    raise AssertionError(f"the run ended: {run.wait()}")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_and_on(sent: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    asked = [*SMALL, "--tasks", "400", "--out", str(out)]
    code = "import signal, sys; from regrow.lab.runs import progress; progress.LINE_EVERY = 0.5\n"
    code += "from regrow.cli import main\n"
    code += "if __name__ == '__main__':\n"
    code += "    signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # ignored where the tests run under nohup
    code += "    sys.exit(main())"
    (tmp_path / "run.py").write_text(code)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, tmp_path / "run.py", *asked], start_new_session=True, **pipes) as run:
        wait_for_task(out, run)
        os.killpg(run.pid, sent)  # as a terminal does, or `timeout` and a cluster's scheduler
        _, error = run.communicate()
    assert run.returncode == 128 + sent
    assert error == (
        f"\nregrow: stopped; finished tasks are stored in {out}. To resume: regrow run {STUDY} --settings small "
        f"--systems base cbp swr --tasks 400 --out {out}\n"
    )
    tasks = Store(out, STUDY).task("small.seed0.0")
    assert 1 <= tasks < 400 and regrow.load(out)["task"].max() == tasks - 1
    assert main(["status", str(out)]) == 0
    assert "no run is in progress. To resume: regrow run weights-vs-units" in capfd.readouterr().out
    rows = trained_here(small(out, tasks + 2))
    assert_frame_equal(rows, trained_here(small(tmp_path / "here", tasks + 2)), check_exact=True)


KILLED = """
import sys; from pathlib import Path
from regrow.lab.runs import engine, lock, manifest; from regrow.commands.run import Run, prepare
from regrow.lab.runs.job import words
from regrow.lab.runs.problems import PermutedJob, PermutedMaker
from regrow.lab.runs.store import Store
if __name__ == "__main__":
    job = prepare(Run("weights-vs-units", ("small", "small-ln"), tasks=150, out=Path(sys.argv[1])))
    manifest.open_folder(job.folder)
    with lock.sole_run(job.folder):
        manifest.begin(job.folder, job.manifest)
        job.store.prepare()
        engine.run(job.plans, job.make, Store(job.folder, "weights-vs-units", every=0.5), tasks=150, workers=2)
"""


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    """All six systems; the run alone or with its workers, while it starts, trains or stores."""
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(KILLED)
    moments = random.Random(0)
    store = Store(out, STUDY)

    def reached() -> list[int]:
        return [store.task(f"{setting}.seed0.0") for setting in ("small", "small-ln")]

    for kill in range(10):
        before = reached()
        run = subprocess.Popen([sys.executable, script, out], start_new_session=True)
        while kill % 3 and reached() == before:  # the others are killed before they have stored anything
            assert run.poll() is None
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1.5))
        run.kill() if kill % 2 else os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert 0 < min(reached()) and max(reached()) < 150
    for folder in (out, tmp_path / "here"):
        subprocess.run([sys.executable, script, folder], check=True)
    rows = regrow.load(out)
    assert len(rows) == 2 * 6 * 150
    assert_frame_equal(rows, regrow.load(tmp_path / "here"), check_exact=True)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("optimisers", "`STUDY` must be one of 'initial-assessment', 'weights-vs-units', 'optimizers'"),
        ("optimizers --settings small", "must each be one of 'large', 'large-sgdw', 'large-adamw'"),
        ("optimizers --systems base srw", "must each be one of 'base', 'l2'"),
        ("optimizers --tasks 0", "`--tasks` must be at least 1"),
        ("optimizers --seeds 0", "`--seeds` must be at least 1"),
        ("optimizers --workers 0", "`--workers` must be at least 1"),
        ("optimizers --measure-every 0", "`--measure-every` must be at least 1"),
        ("optimizers --units-read after", "`--units-read` 'after' needs a setting with layer norm"),
        (
            "optimizers --from there",
            "`--from` takes the winners of sweeps into another, or with --best into a run; got no --sweep: add --sweep",
        ),
        (
            "optimizers --best 3",
            "`--best` trains the best configs of the sweeps in --from; give --from, and no --sweep",
        ),
        ("optimizers --from there --best 0", "`--best` must be at least 1"),
        ("vit-cifar --pixels standardized", "`--pixels` is an option of studies on permuted images"),
        ("optimizers --sweep --from there", "there is no folder: give a folder that `regrow run` wrote"),
        ("optimizers --data there", "train-images-idx3-ubyte.gz is missing"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    asked: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *asked.split()]) == 1
    said = capsys.readouterr().err
    assert said.startswith("regrow: ") and said.count("\n") == 1 and message in said
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_device_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "optimizers", "--device", "cuda"]) == 1
    assert "`--device cuda` needs a CUDA device" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").touch()
    assert main([*SMALL, "--out", str(tmp_path)]) == 1
    assert "holds files but no manifest.json" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"thesis.tex"}


# Sweeps.


def test_a_sweep_and_one_from_its_winners(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sweep"
    options = Run(STUDY, ("small",), ("base",), tasks=1, out=out, sweep=True)
    trained_here(options)
    assert main(words(options)) == 0
    assert f"Best of each grid: {out / 'selected.json'}" in capfd.readouterr().out
    stored = json.loads((out / "selected.json").read_text())
    base = stored["ranking"]["small"]["base"]
    means = (
        regrow.load(out)
        .group_by("config_id")
        .agg(pl.col("online_accuracy").mean())
        .sort("online_accuracy", descending=True)
    )
    assert [best["config_id"] for best in base] == means["config_id"].to_list() and len(base) == 6
    assert base[0]["mean"] == pytest.approx(means["online_accuracy"][0])
    assert base[0]["n"] == 1 and base[0]["standard_error"] is None  # one seed

    (sweep,) = prepare(Run(STUDY, ("small",), ("l2",), sweep=True, from_=(out,))).plans
    assert {member.config["step_size"] for member in sweep.members} == {base[0]["config"]["step_size"]}
    changed = manifest.read(out)
    manifest.write(out, changed | {"config": changed["config"] | {"data": "mnist"}})
    with pytest.raises(ValueError, match="has `data` mnist; got digits: sweep on the same data first"):
        prepare(Run(STUDY, sweep=True, from_=(out,)))


def test_the_best_of_sweeps_on_other_seeds(tmp_path: Path) -> None:
    """As study dense-inputs is run: tune the base, then a grid of everything, then the best on new seeds."""
    study, steps, grids = "dense-inputs", tmp_path / "steps", tmp_path / "grids"
    small = {"settings": ("small",), "tasks": 1, "sweep": True, "quiet": True}
    assert main(words(Run(study, systems=("base",), out=steps, **small))) == 0
    others = ("l2", "swr-silent-input")
    assert main(words(Run(study, systems=others, out=grids, from_=(steps,), **small))) == 0
    both = (steps, grids)
    (silent,) = prepare(Run(study, ("small",), ("swr-silent-input",), sweep=True, from_=both)).plans
    winner = best_of_sweep.read(steps).ranking["small"]["base"][0]
    assert {m.config["step_size"] for m in silent.members} == {winner["config"]["step_size"]}

    options = Run(study, ("small",), tasks=1, seeds=2, first_seed=1, best=2, from_=both, out=tmp_path / "best")
    job = prepare(options)
    for plan in job.plans:
        for system in ("base", "l2", "swr-silent-input"):
            ranked = best_of_sweep.read(steps if system == "base" else grids).ranking["small"][system]
            chosen = [m.config_id for m in plan.members if m.system == system]
            assert chosen == [each["config_id"] for each in ranked[:2]]
    assert [plan.seed for plan in job.plans] == [1, 2] and all(plan.standardized for plan in job.plans)
    config = job.manifest["config"]
    assert (config["first_seed"], config["pixels"]) == (1, "standardized") and len(config["best"]["small"]) == 6

    for changed, message in (
        ({"first_seed": 0}, "`--first-seed` must be at least 1, or the seeds that selected the best also judge them"),
        ({"settings": ("small-ln",)}, "`--from` has no ranking of small-ln"),
        ({"pixels": "raw"}, "has `pixels` standardized; got raw: sweep on the same data first"),
        ({"systems": ("redo",)}, "`best` has no config of redo in small"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(dataclasses.replace(options, **changed))


def test_variants_of_one_method_compete() -> None:
    def ranked(*means: float) -> list[dict]:
        return [{"mean": mean, "config_id": str(mean), "config": {"every": int(mean * 100)}} for mean in means]

    ranking = {"small": {"swr": ranked(0.9, 0.7), "swr-random-threshold-mean": ranked(0.8), "redo": ranked(0.5, 0.4)}}
    sweep = best_of_sweep.Sweep(Path("a"), ranking, 30, range(1))
    with pytest.raises(ValueError, match=r"sweeps over equally many tasks; got \[20, 30\]: extend the short"):
        best_of_sweep.best([sweep, sweep._replace(tasks=20)], ["small"], 2, range(1, 6))
    best = best_of_sweep.best([sweep], ["small"], 2, range(1, 6))["small"]
    assert [(system, config["every"]) for system, config in best] == [
        ("swr", 90), ("swr-random-threshold-mean", 80), ("redo", 50), ("redo", 40),
    ]  # fmt: skip


def test_options_that_are_not_used_leave_the_manifest_as_it_was() -> None:
    config = prepare(Run(STUDY, ("small",), ("base",))).manifest["config"]
    assert not config.keys() & {"pixels", "first_seed", "best", "equal_share"}


def test_winners_are_only_those_of_a_finished_sweep(tmp_path: Path) -> None:
    for sweep, message in ((False, "must name the folder of a sweep"), (True, "is missing, the sweep is not finished")):
        config = {"tasks": 1, "seeds": 1, "sweep": sweep}
        manifest.write(tmp_path, manifest.describe(STUDY, config, [], "cpu", []))
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            best_of_sweep.read_winners(tmp_path)
        assert message in says(caught)
    for content in ("{", "{}", '{"ranking": {"small": {"l2": [{"config": {"decay": 1}, "config_id": "00000000"}]}}}'):
        (tmp_path / "selected.json").write_text(content)
        with pytest.raises(ValueError, match="is damaged"):
            best_of_sweep.read_winners(tmp_path)


def test_what_diverged_comes_last() -> None:
    seeds = {"a": [0.5, 0.7], "b": [float("nan"), 0.9], "c": [0.8, 0.6]}
    rows = pl.DataFrame(
        [
            {"setting": "small", "system": "cbp", "config": "{}", "config_id": name, "seed": seed, "task": task,
             "online_accuracy": accuracy, "diverged": accuracy != accuracy}
            for name, values in seeds.items() for seed, accuracy in enumerate(values) for task in range(3)
        ]
    )  # fmt: skip
    ranked = best_of_sweep.rank(rows)["small"]["cbp"]
    assert [(r["config_id"], r["n"], r["diverged"]) for r in ranked] == [("c", 2, 0), ("a", 2, 0), ("b", 2, 1)]
    assert ranked[0]["mean"] == pytest.approx(0.7) and ranked[0]["standard_error"] == pytest.approx(0.1)
    assert ranked[2]["mean"] is None and ranked[2]["standard_error"] is None


# How long it takes.


def test_calibration_tells_structures_apart() -> None:
    plans = packing.pack(STUDY, ["small", "large"], ["base", "swr"], seeds=3)
    speeds = timing.calibrate(plans, PermutedMaker(None), seconds=0.2)
    assert set(speeds) == {(name, "after", ("base", "swr")) for name in ("small", "large")}
    assert {timing.estimate(plan, speeds) for plan in plans} == set(speeds.values())
    assert min(speeds.values()) > 0


def test_what_was_not_measured_is_derived() -> None:
    def plan(*systems: str) -> packing.StackPlan:
        (packed,) = packing.pack(STUDY, ["small"], systems)
        return packed

    speeds = {timing.structure(plan("base", "swr")): 2.0, timing.structure(plan("swr")): 5.0}
    assert timing.estimate(plan("base"), speeds) == 1.0  # as one of the two
    assert timing.estimate(plan("swr", "cbp"), speeds) == 3.0 + 3.0  # both as the mean of 1 and 5


def test_workers_read_the_data_that_the_run_was_begun_with(tmp_path: Path) -> None:
    """On a cluster every machine has its own: other images are refused, and never replaced by the embedded ones."""
    (plan,) = packing.pack(STUDY, ["small"], ["base"])
    make = PermutedJob().make
    assert make.folder is None and dict(make.checksums) == {
        key: value for key, value in PermutedJob().data().items() if key != "data"
    }
    assert make(plan).task == 0
    changed = dict(make.checksums) | {"labels_checksum": "00000000"}
    with pytest.raises(
        ValueError, match="have `labels_checksum` .*, and the run has 00000000: put the same data on every"
    ):
        PermutedMaker(None, checksums=tuple(changed.items()))(plan)
    with pytest.raises(FileNotFoundError, match="is missing"):
        PermutedMaker(tmp_path, checksums=make.checksums)(plan)


@pytest.mark.parametrize("name", ["--seeds", "--tasks", "--workers", "--measure-every", "--width"])
def test_numbers_of_any_length_are_refused_at_once(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", STUDY, name, "9" * 40, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert f"`{name}` must be at most 1,000,000; got 99999999999999999999…" in said and said.count("\n") == 1


def test_the_printed_command_works_for_every_path(tmp_path: Path) -> None:
    for name in ("a b", "-x", "it's", "$HOME", "ü\udcff"):
        options = Run(STUDY, ("small",), ("base",), tasks=1, out=Path(name))
        read = words(options)
        assert Path(read[read.index("--out") + 1]) == Path(name) and not read[-1].startswith("-")
