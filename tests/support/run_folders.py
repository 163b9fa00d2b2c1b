"""Folders of runs that tests begin, and the one line of an error."""

from pathlib import Path
from typing import Any

import polars as pl
import torch
from walks import plans

import regrow
from regrow.commands.run import Run, prepare
from regrow.lab.runs import manifest
from regrow.lab.runs.store import Store
from regrow.lab.runs.training import train_stack
from regrow.lab.runs.worker import use_one_thread

CONFIG = {"settings": ["small"], "systems": ["base", "swr"], "tasks": 3, "seeds": 2, "measure_every": 20}


def begin(folder: Path, seeds: int = 2, **changes: Any) -> Store:
    """A run's folder, begun or gone on with."""
    manifest.open_folder(folder)
    config = CONFIG | {"seeds": seeds} | changes.pop("config", {})
    new = manifest.describe("weights-vs-units", config, plans(seeds), "cpu", ["run", "weights-vs-units"])
    manifest.begin(folder, new | changes)
    store = Store(folder, "weights-vs-units", every=0.0)
    store.prepare()
    return store


def says(what: Any) -> str:
    """The one line of an error."""
    assert "\n" not in str(what.value)
    return str(what.value)


def trained_here(options: Run) -> pl.DataFrame:
    """What the command should store, trained stack by stack in this process."""
    job = prepare(options)
    manifest.open_folder(job.folder)
    manifest.begin(job.folder, job.manifest)
    job.store.prepare()
    threads = torch.get_num_threads()
    use_one_thread()
    try:
        for plan in job.plans:
            train_stack(plan, job.make, job.store, job.tasks)
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    return regrow.load(job.folder)
