"""However a run is cut into workers, stopped, killed and started again, the same rows come out."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal
from run_folders import begin, says
from walks import UPDATES, MakeWalk, plans, train_here

import regrow
from regrow.lab.runs import engine, local_engine, lock, scheduler, signals, worker
from regrow.lab.runs.store import Store
from regrow.lab.runs.training import Report, train_stack

TASKS = 40


class Notes:
    """Keeps what it is told; calls a function at the first report that has got to a task."""

    def __init__(self, task: int = 0, then: object = None) -> None:
        self.reports: list[tuple[int, Report]] = []
        self.finished: list[str] = []
        self._task, self._then = task, then

    def report(self, worker: int, report: Report) -> None:
        self.reports.append((worker, report))
        if report.task >= self._task and callable(self._then):
            self._then()
            self._then = None

    def done(self, worker: int, stack: str) -> None:
        self.finished.append(stack)


def same_as_here(folder: Path, other: Path, count: int, tasks: int = TASKS) -> None:
    """The rows are those that one process makes without a break."""
    train_here(begin(other, count, config={"tasks": tasks}), plans(count), tasks)
    assert_frame_equal(regrow.load(folder), regrow.load(other), check_exact=True)


def test_workers_change_nothing(tmp_path: Path) -> None:
    store, notes = begin(tmp_path / "run", 3), Notes()
    train_stack(plans(1)[0], MakeWalk(), store, 10)  # the first is begun already
    with lock.sole_run(store.folder):
        engine.run(plans(3), MakeWalk(0.03), store, tasks=TASKS, workers=2, observer=notes)
    same_as_here(store.folder, tmp_path / "here", 3)
    # The watch saw every update and every stack, from the one with the most work on; and the first from task 10 on.
    assert sorted(notes.finished) == [plan.id for plan in plans(3)]
    made = {plan.id: sum(r.updates for _, r in notes.reports if r.stack == plan.id) for plan in plans(3)}
    assert [made[plan.id] for plan in plans(3)] == [2 * UPDATES * n for n in (TASKS - 10, TASKS, TASKS)]
    assert {worker for worker, _ in notes.reports} == {0, 1}
    last = [r for _, r in notes.reports if r.stack == "small.seed0.0"]
    assert last[0].task == 10 and len(last[0].accuracy["swr"]) == 10 and last[-1].task == TASKS


def test_the_longest_is_first_and_nothing_is_done_twice(tmp_path: Path) -> None:
    store, notes = begin(tmp_path / "run", 3), Notes()
    train_here(store, plans(1), 3)
    expected = {"small.seed1.0": 1.0, "small.seed2.0": 2.0}
    with lock.sole_run(store.folder):
        engine.run(plans(3), MakeWalk(), store, tasks=3, workers=1, expected=expected, observer=notes)
        assert notes.finished == ["small.seed2.0", "small.seed1.0"]
        again = Notes()
        engine.run(plans(3), MakeWalk(dies=(("small.seed0.0", 2),)), store, tasks=2, observer=again)
        assert not again.reports


def test_turns_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "TURN", 10.0)
    store, notes = begin(tmp_path / "run", 3), Notes()
    expected = {plan.id: 1.0 for plan in plans(3)}
    with lock.sole_run(store.folder):
        engine.run(plans(3), MakeWalk(0.01), store, tasks=TASKS, workers=2, expected=expected, observer=notes)
    same_as_here(store.folder, tmp_path / "here", 3)
    assert sorted(notes.finished) == [plan.id for plan in plans(3)]  # once each
    made = {plan.id: sum(r.updates for _, r in notes.reports if r.stack == plan.id) for plan in plans(3)}
    assert set(made.values()) == {2 * UPDATES * TASKS}
    worked_on = [stack for stack, _ in itertools.groupby(r.stack for worker, r in notes.reports if worker == 0)]
    assert len(worked_on) > 3  # and one worker came back to a stack


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    store = Store(begin(tmp_path / "run").folder, "weights-vs-units")  # stores every 20 seconds only
    notes = Notes(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with lock.sole_run(store.folder), pytest.raises(KeyboardInterrupt):
        engine.run(plans(2), MakeWalk(pause=0.3), store, tasks=TASKS, workers=1, observer=notes)
    reached = store.task(notes.reports[0][1].stack)
    assert 2 <= reached < TASKS and regrow.load(store.folder)["task"].max() == reached - 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train_here(store, plans(2), TASKS)
    same_as_here(store.folder, tmp_path / "here", 2)


def test_a_task_is_broken_off(tmp_path: Path) -> None:
    """A task of ten minutes keeps nobody waiting."""
    store = begin(tmp_path / "run", 1)
    train_here(store, plans(1), 3)
    notes = Notes(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with lock.sole_run(store.folder), pytest.raises(KeyboardInterrupt):
        engine.run(plans(1), MakeWalk(pause=600), store, tasks=TASKS, observer=notes)
    assert store.task("small.seed0.0") == 3


def test_an_error_in_a_worker(tmp_path: Path) -> None:
    store = Store(begin(tmp_path / "run").folder, "weights-vs-units")
    make = MakeWalk(pause=0.4, fails=(("small.seed1.0", 5),))  # time for the other to begin, on a busy machine too
    with lock.sole_run(store.folder), pytest.raises(worker.StackFailed) as caught:
        engine.run(plans(2), make, store, tasks=500, workers=2)
    log = store.folder / "errors.log"
    assert says(caught) == f"stack small.seed1.0: ArithmeticError: the walk fell (traceback: {log})"
    assert "in run_task" in log.read_text() and "into a hole" in log.read_text()
    assert store.task("small.seed1.0") == 5  # all that it finished
    assert 1 <= store.task("small.seed0.0") < 500  # the other stored what it had
    train_here(store, plans(2), TASKS)
    same_as_here(store.folder, tmp_path / "here", 2, max(TASKS, store.task("small.seed0.0")))


def test_a_worker_that_dies(tmp_path: Path) -> None:
    store = begin(tmp_path / "run", 1)
    with lock.sole_run(store.folder), pytest.raises(worker.StackFailed) as caught:
        engine.run(plans(1), MakeWalk(dies=(("small.seed0.0", 5),)), store, tasks=TASKS)
    assert says(caught) == "stack small.seed0.0: its worker was ended by SIGKILL, perhaps out of memory"
    assert store.task("small.seed0.0") == 5


RUN = """
import sys; from pathlib import Path
from walks import MakeWalk, plans
from regrow.lab.runs import engine, lock; from regrow.lab.runs.store import Store
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with lock.sole_run(folder):
        store = Store(folder, "weights-vs-units", every=0.0)
        engine.run(plans(2), MakeWalk(pause=0.02), store, tasks=int(sys.argv[2]), workers=2)
"""


def start(folder: Path, script: Path, tasks: int) -> subprocess.Popen[bytes]:
    """A run in a process group of its own."""
    script.write_text(RUN)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path])}
    return subprocess.Popen([sys.executable, script, folder, str(tasks)], env=env, start_new_session=True)


def wait_for(folder: Path, task: int, run: subprocess.Popen[bytes]) -> None:
    store = Store(folder, "weights-vs-units")
    while max(store.task(plan.id) for plan in plans(2)) < task:
        assert run.poll() is None
        time.sleep(0.01)


def test_killed_and_started_again_at_once(tmp_path: Path) -> None:
    """Kill -9 of the run alone: its workers notice, and the next run waits for them; never do two write."""
    store = begin(tmp_path / "run")
    run = start(store.folder, tmp_path / "run.py", 10_000)
    wait_for(store.folder, 3, run)
    run.kill()
    run.wait()
    with lock.sole_run(store.folder):
        before = [store.task(plan.id) for plan in plans(2)]
        begin(store.folder)
        train_here(store, plans(2), max(before) + 20)
    same_as_here(store.folder, tmp_path / "here", 2, max(before) + 20)


@pytest.mark.slow
def test_killed_ten_times(tmp_path: Path) -> None:
    """At moments spread over start, training and storing."""
    store = begin(tmp_path / "run")
    for kill in range(10):
        run = start(store.folder, tmp_path / "run.py", 300)
        time.sleep(1.5 + 0.37 * kill)
        os.kill(run.pid, signal.SIGKILL) if kill % 2 else os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert start(store.folder, tmp_path / "run.py", 300).wait() == 0
    same_as_here(store.folder, tmp_path / "here", 2, 300)


def test_bad_input_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    store = begin(tmp_path / "run", 1)
    with pytest.raises(ValueError, match="`engine` must be one of 'local', 'ray'; got 'dask'"):
        engine.run(plans(1), MakeWalk(), store, tasks=1, engine="dask")
    with pytest.raises(ValueError, match="`workers` must be at least 1"):
        engine.run(plans(1), MakeWalk(), store, tasks=1, workers=0)
    (store.folder / "checkpoints/small.seed0.0.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="small.seed0.0.pt is damaged"):
        engine.run(plans(1), MakeWalk(), store, tasks=1)


def test_ray_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError) as caught:
        engine.run(plans(1), MakeWalk(), begin(tmp_path / "run", 1), tasks=1, engine="ray")
    assert says(caught) == "`--engine ray` needs ray, which is not installed: pip install ray, or leave it out"


def test_ray_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs ray")
    store, notes = begin(tmp_path / "run", 3), Notes()
    with lock.sole_run(store.folder):
        engine.run(plans(3), MakeWalk(), store, tasks=TASKS, workers=2, engine="ray", observer=notes)
    assert sorted(notes.finished) == [plan.id for plan in plans(3)]
    same_as_here(store.folder, tmp_path / "here", 3)


def test_a_worker_for_each_core_that_may_be_used() -> None:
    allowed = os.sched_getaffinity(0)
    assert 1 <= local_engine.cores() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert local_engine.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_thread_leaves_signals_alone() -> None:
    """Only the main thread of a program may handle them; a run in another one, say of a notebook, does without."""
    seen = []

    def handle() -> None:
        with signals.handling(signal.SIGINT, None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=handle)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
