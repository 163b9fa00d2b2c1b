"""What is shown of a run: while it goes on, and by `regrow status`."""

import io
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from run_folders import begin
from walks import UPDATES, MakeWalk, plans, train_here

from regrow.cli import main
from regrow.lab.runs import lock, progress
from regrow.lab.runs.progress import Progress, showing
from regrow.lab.runs.training import Report, train_stack

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three stacks: finished, half, not begun."""
    config = {"tasks": 12, "data": "digits", "sweep": False}
    store = begin(tmp_path / "run", 3, config=config)
    train_here(store, plans(1), 12)
    train_stack(plans(2)[1], MakeWalk(), store, 6)
    return store.folder


def test_status_says_what_is_done_and_how_to_go_on(folder: Path, capsys: Capture) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    assert main(["status", str(folder)]) == 0
    said = capsys.readouterr().out
    lines = [" ".join(line.replace("│", " ").split()) for line in said.splitlines()]
    assert lines[0].startswith("weights-vs-units on digits: 12 tasks, 3 seeds; started 20")
    assert "small.seed0.0 12 12 100%" in lines
    assert "small.seed1.0 6 12 50%" in lines
    assert "small.seed2.0 0 12 0%" in lines
    assert any(line.startswith("small swr 2 6 to 12 ") for line in lines)
    end = f"1 of 3 stacks are finished; no run is in progress. To resume: regrow run weights-vs-units --out {folder}"
    assert lines[-1] == end
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


def test_status_sees_a_run_that_goes_on_and_one_that_is_finished(folder: Path, capsys: Capture) -> None:
    with lock.sole_run(folder):
        assert main(["status", str(folder)]) == 0
    assert "1 of 3 stacks are finished; a run is in progress." in capsys.readouterr().out
    config = {"tasks": 12, "data": "digits", "sweep": False}
    train_here(begin(folder, 3, config=config), plans(3), 12)
    assert main(["status", str(folder)]) == 0
    assert f'Finished. In Python: regrow.load("{folder}")' in capsys.readouterr().out


def test_status_of_a_run_that_was_published_without_its_checkpoints(folder: Path, capsys: Capture) -> None:
    shutil.rmtree(folder / "checkpoints")
    assert main(["status", str(folder)]) == 0
    said = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "small.seed0.0 12 12 100%" in said
    assert "small.seed1.0 0 12 0%" in said  # half of its rows are there, and nothing to go on from


def test_status_before_the_first_rows_and_of_nothing(tmp_path: Path, capsys: Capture) -> None:
    begin(tmp_path / "run", config={"data": "digits", "sweep": False})
    assert main(["status", str(tmp_path / "run")]) == 0
    assert "0 of 2 stacks are finished" in capsys.readouterr().out
    assert main(["status", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"regrow: {tmp_path} holds no manifest.json: give a folder that `regrow run` wrote (its --out)\n"
    )


# While it goes on.


class Clock:
    """Time that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def two_stacks(workers: int = 2, done: int = 0) -> Progress:
    """Two stacks of two networks, four tasks, ten seconds a task expected."""
    stacks = plans(2)
    ten = {plan.id: 10.0 for plan in stacks}
    return Progress(stacks, 4, UPDATES, ten, {stacks[0].id: done, stacks[1].id: 0}, workers)


def test_speed_and_time_left_follow_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, shown = Clock(monkeypatch), two_stacks(workers=1, done=2)
    assert shown.total() == "25.0% · 0 network-updates/s · 1 min left"  # 6 of 8 tasks at ten seconds
    shown.report(0, Report("small.seed0.0", 2))
    clock.now += 40
    shown.report(0, Report("small.seed0.0", 3, 20))  # a task took four times as long as expected
    assert shown.total() == "37.5% · 0 network-updates/s · 3 min 20 s left"  # four times 50 s


def test_a_stack_counts_by_its_updates_within_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, shown = Clock(monkeypatch), two_stacks()
    shown.report(0, Report("small.seed0.0", 0))
    shown.report(1, Report("small.seed1.0", 0))
    for _ in range(4):
        clock.now += 2.5
        shown.report(0, Report("small.seed0.0", 0, 5))  # 20 in ten seconds: a whole task, as expected
        shown.report(1, Report("small.seed1.0", 0, 5))
    assert shown.total() == "24.8% · 4 network-updates/s · 30 s left"  # a task is whole when it is reported
    shown.report(0, Report("small.seed0.0", 1))
    shown.report(1, Report("small.seed1.0", 1))
    clock.now += 10  # nothing came for ten seconds: half the speed
    assert shown.total() == "25.0% · 0 network-updates/s · 1 min left"
    assert shown.workers()[0] == ("worker 0", "small.seed0.0", "task 2 of 4", "0 network-updates/s")


def test_accuracy_is_that_of_the_last_ten_tasks_of_all_networks() -> None:
    shown = two_stacks()
    shown.report(0, Report("small.seed0.0", 12, 0, {"swr": [0.0] * 2 + [0.9] * 10, "base": [0.5]}))
    shown.report(1, Report("small.seed1.0", 1, 0, {"swr": [0.7]}))
    assert shown.accuracy() == "base 50.0%  swr 80.0%"
    shown.done(0, "small.seed0.0")
    shown.report(0, Report("small.seed1.0", 2, 0, {"swr": [0.5]}))
    assert shown.accuracy() == "base 50.0%  swr 75.0%"


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    shown, out = two_stacks(), io.StringIO()
    with showing(shown, Console(file=out, width=40)):
        shown.report(0, Report("small.seed0.0", 1, 20, {"swr": [0.5]}))
        while "swr 50.0%" not in out.getvalue():
            time.sleep(0.01)
        shown.done(0, "small.seed0.0")
    lines = out.getvalue().splitlines()
    assert all("left · swr 50.0%" in line or "0 network-updates/s" in line for line in lines[:-1])
    assert lines[-1] == "small.seed0.0: 4 tasks in 0 s (1 of 2 stacks done)"
    assert "\x1b" not in out.getvalue()


def test_a_live_line_for_each_worker_on_a_terminal() -> None:
    shown, out = two_stacks(), io.StringIO()
    with showing(shown, Console(file=out, force_terminal=True, width=100)):
        shown.report(0, Report("small.seed0.0", 1, 20, {"base": [0.5]}))
        shown.report(1, Report("small.seed1.0", 3, 20))
    said = out.getvalue()
    assert "worker 0   small.seed0.0   task 2 of 4" in said and "worker 1   small.seed1.0   task 4 of 4" in said
    assert "last 10 tasks: base 50.0%" in said and "left" in said


def test_a_terminal_that_stands_still_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-S, or a pager: reports are still taken in, whether or not anything can be written."""
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    shown = two_stacks()
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, bytes(4096))
        except BlockingIOError:
            break
    os.set_blocking(write, True)

    def drain() -> None:
        while os.read(read, 4096):
            pass

    reader = threading.Thread(target=drain)
    with open(write, "w") as full, showing(shown, Console(file=full)):
        for task in range(4):
            for _ in range(1000):
                shown.report(0, Report("small.seed0.0", task, 1))
            time.sleep(0.1)
        shown.done(0, "small.seed0.0")
        reader.start()
    reader.join()
    os.close(read)
