"""What a fault does, in a process of its own that may die of it: `python injected.py KIND FOLDER …`."""

import json
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from run_folders import CONFIG
from walks import MakeWalk, plans, train_here

import regrow
from regrow.lab.runs import best_of_sweep, checkpoint, digests, engine, files, lock, manifest
from regrow.lab.runs.store import Store
from regrow.lab.runs.tables import read_table

STUDY, STACKS, TASKS = "weights-vs-units", 2, 60


def opened(folder: Path, every: float = 0.0) -> Store:
    """A run's folder, begun or resumed, as `regrow run` does."""
    manifest.open_folder(folder)
    config = CONFIG | {"tasks": TASKS, "seeds": STACKS}
    manifest.begin(folder, manifest.describe(STUDY, config, plans(STACKS), "cpu", ["run", STUDY]))
    store = Store(folder, STUDY, every=every)
    store.prepare()
    return store


def run(folder: Path, pause: float = 0.0, workers: int = 2) -> None:
    """All of it, by worker processes."""
    manifest.open_folder(folder)
    with lock.sole_run(folder):
        store = opened(folder, every=0.1)
        for line in store.survey(plans(STACKS), TASKS)[1]:
            print(line)
        engine.run(plans(STACKS), MakeWalk(pause), store, tasks=TASKS, workers=workers)


def alone(folder: Path) -> None:
    """All of it, in this process."""
    store = opened(folder)
    store.survey(plans(STACKS), TASKS)
    train_here(store, plans(STACKS), TASKS)


def killed_in_a_write(folder: Path, call: int, name: str) -> None:
    """Die at the n-th call of a function that writes."""
    inner, calls = getattr(os, name), [0]

    def dying(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **options)

    setattr(files.os, name, dying)
    alone(folder)


def full(folder: Path, size: int) -> None:
    """No file may grow beyond some bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        alone(folder)
    except OSError as error:
        print("refused:", error)


def readers(folder: Path) -> dict[Path, Callable[[], Any]]:
    """Every kind of file and what reads it; equal results are equal files."""
    found: dict[Path, Callable[[], Any]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        found[path] = lambda p=path: digests.values_digest(read_table(p)[0])
    for path in sorted(folder.rglob("*.pt")):
        found[path] = lambda p=path: digests.seal_json({"state": repr(checkpoint.load(p))})
    found[folder / manifest.NAME] = lambda: manifest.read(folder)
    found[folder / best_of_sweep.NAME] = lambda: digests.open_json((folder / best_of_sweep.NAME).read_bytes())
    return found


def flips(folder: Path, first: int, count: int) -> None:
    """Flip one bit (or cut, or zero a block) of each file in turn, read it, put it back: a JSON line for each."""
    best_of_sweep.write(folder, regrow.load(folder))
    files_of = readers(folder)
    expected = {path: read() for path, read in files_of.items()}
    for number in range(first, first + count):
        chance = random.Random(number)
        path = list(files_of)[number % len(files_of)]
        whole = path.read_bytes()
        spoiled, way = bytearray(whole), ("bit", "bit", "bit", "cut", "zeros")[number % 5]
        place = chance.randrange(len(whole))
        if way == "bit":
            spoiled[place] ^= 1 << chance.randrange(8)
        elif way == "cut":
            del spoiled[place:]
        else:
            spoiled[place : place + 64] = bytes(len(spoiled[place : place + 64]))
        print(json.dumps({"begin": number}), flush=True)
        path.write_bytes(spoiled)
        try:
            outcome = "survived" if files_of[path]() == expected[path] else "wrong"
        except ValueError:
            outcome = "detected"
        except Exception as error:
            outcome = f"traceback: {error!r}"
        path.write_bytes(whole)
        print(
            json.dumps({"number": number, "kind": f"{way} in {path.suffix or path.name}", "outcome": outcome}),
            flush=True,
        )


if __name__ == "__main__":
    kind, folder, *rest = sys.argv[1:]
    if kind == "run":
        run(Path(folder), *map(float, rest[:1]))
    elif kind == "alone":
        alone(Path(folder))
    elif kind == "write":
        killed_in_a_write(Path(folder), int(rest[0]), rest[1])
    elif kind == "full":
        full(Path(folder), int(rest[0]))
    else:
        flips(Path(folder), *map(int, rest))
