"""Hundreds of faults injected into one study: none ends in wrong numbers, none in the death of the interpreter.

`REGROW_FAULTS` is their number, 200 by default; the table goes to the file that `REGROW_FAULTS_TABLE` names.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from injected import STACKS, TASKS
from polars.testing import assert_frame_equal

import regrow

pytestmark = pytest.mark.slow

FAULTS = int(os.environ.get("REGROW_FAULTS", "200"))
SCRIPT = Path(__file__).parents[1] / "support/injected.py"


@dataclass
class Count:
    """How faults of a kind ended."""

    n: int = 0
    detected: int = 0
    survived: int = 0
    wrong: int = 0
    deaths: int = 0


class Ledger:
    """All faults, and what came of them."""

    def __init__(self) -> None:
        self.kinds: dict[str, Count] = defaultdict(Count)

    def add(self, kind: str, outcome: str) -> None:
        count = self.kinds[kind]
        count.n += 1
        name = outcome if outcome in ("detected", "survived", "deaths") else "wrong"
        setattr(count, name, getattr(count, name) + 1)

    def table(self) -> str:
        lines = [
            "| fault | n | detected | survived | silently wrong | interpreter deaths |",
            "|---|---|---|---|---|---|",
        ]
        for kind, c in sorted(self.kinds.items()):
            lines.append(f"| {kind} | {c.n} | {c.detected} | {c.survived} | {c.wrong} | {c.deaths} |")
        return "\n".join(lines)


def script(*words: object, **options: object) -> subprocess.Popen[str]:
    """The script, in a process group of its own."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])}
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, start_new_session=True, **pipes, **options)  # type: ignore[call-overload]


def finish(folder: Path, kind: str = "alone") -> str:
    """Run to the end; what it printed."""
    out, error = script(kind, folder).communicate()
    assert "Traceback" not in error, error
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "whole"
    finish(folder)
    assert len(regrow.load(folder)) == 2 * STACKS * TASKS
    return folder


def same(folder: Path, whole: Path) -> str:
    try:
        assert_frame_equal(regrow.load(folder), regrow.load(whole), check_exact=True)
    except AssertionError:
        return "wrong"
    return "survived"


def kill(folder: Path, victim: str, moment: float) -> None:
    """Kill the run, one of its workers or all of it, a while after it has begun to store."""
    run = script("run", folder, 0.03)
    limit = time.monotonic() + 120
    while not list(folder.glob("checkpoints/*.pt")) and time.monotonic() < limit and run.poll() is None:
        time.sleep(0.01)
    time.sleep(moment)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split() if run.poll() is None else []
    workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    if victim == "group":
        os.killpg(run.pid, signal.SIGKILL)
    elif victim == "worker" and workers:
        os.kill(int(workers[0]), signal.SIGKILL)
    else:
        run.kill()
    run.communicate()


def flipped(folder: Path, count: int, ledger: Ledger) -> None:
    """Flips in a process that may die: what it was at then counts as its death."""
    first = 0
    while first < count:
        out, error = script("flips", folder, first, count - first).communicate()
        begun = first
        for line in map(json.loads, out.splitlines()):
            if "begin" in line:
                begun = line["begin"]
            else:
                ledger.add(line["kind"], line["outcome"])
                first = line["number"] + 1
        if first < count:
            assert begun >= first, error
            ledger.add("death of the interpreter", "deaths")
            first = begun + 1


def test_no_fault_is_silent(whole: Path, tmp_path: Path) -> None:
    ledger, moments = Ledger(), random.Random(0)
    kills, writes, disks = max(3, FAULTS // 10), max(4, FAULTS // 8), max(2, FAULTS // 20)
    for number in range(kills):
        victim, folder = ("run", "worker", "group")[number % 3], tmp_path / f"kill{number}"
        kill(folder, victim, moments.uniform(0, 1.0))
        finish(folder)
        ledger.add(f"kill of the {victim}", same(folder, whole))
    for number in range(writes):
        name, folder = ("fsync", "replace")[number % 2], tmp_path / f"write{number}"
        script("write", folder, moments.randrange(1, 60), name).communicate()
        finish(folder)
        ledger.add(f"kill within a write, at {name}", same(folder, whole))
    for number in range(disks):
        folder = tmp_path / f"disk{number}"
        out, error = script("full", folder, moments.randrange(2_000, 9_000)).communicate()
        refused = "refused:" in out and "cannot be written" in out and "Traceback" not in error
        finish(folder)
        ledger.add("full disk", "detected" if refused and same(folder, whole) == "survived" else same(folder, whole))
    flipped(whole, max(0, FAULTS - kills - writes - disks), ledger)
    table = ledger.table()
    print(table)
    if place := os.environ.get("REGROW_FAULTS_TABLE"):
        Path(place).write_text(table + "\n")
    assert not sum(count.wrong + count.deaths for count in ledger.kinds.values()), table
