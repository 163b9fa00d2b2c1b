"""`regrow bench`: how fast the laboratory trains on this machine, beside plain matrix products in the same run.

Everything is measured in rounds, with one thread, once per round and next to what it is compared with, since machines
drift and are shared: figures are medians over the rounds, spreads their quartiles. Times are processor times, so that
other processes do not count, except for two workers, which need elapsed time.
"""

import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tyro.conf import arg

from .. import __version__
from ..lab.data.mnist import Images
from ..lab.runs.manifest import processor
from ..lab.runs.timing import as_workers_do
from ..lab.speed import STACK, Sgemm, TimedStack, like_mnist, nominal_flop, seconds
from ..lab.studies import SETTINGS
from .options import Flag

_DATA = (
    "folder that holds mnist/ with MNIST's four files; default: REGROW_DATA, else the user's cache folder, else "
    "scikit-learn's digits, enlarged to MNIST's size"
)

Timed = Callable[[], float]
"""Trains briefly; returns processor milliseconds per update of one network."""
Row = dict[str, Any]

SIZES = {100: (8, 16, 32), 10: (64, 128, 256)}
"""Stack sizes to try for each setting, by the units of its hidden layers."""
WINDOWS = {"cbp": 400, "redo": 400, "swr": 2048, "shrink-perturb": 100, "l2": 100}
"""Updates timed at once, whole periods: with the paper's values CBP renews every 100, ReDo 16, SWR 2048 updates."""


@dataclass(frozen=True)
class Bench:
    """Measure how fast the laboratory trains on one core, against plain matrix products; takes about six minutes."""

    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """also write the figures to this file"""
    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="", help=_DATA)] = None
    quick: Flag = False
    """run for a few seconds only, to check that it works; the figures mean little"""

    def run(self) -> None:
        """Measure, print the table, and write the file."""
        if self.json and not self.json.parent.is_dir():
            raise ValueError(f"`--json` must name a file in a folder that exists; got {self.json}: make the folder")
        console = Console()
        machine = about_machine()
        console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
        images = like_mnist(self.data, self.quick)
        console.print("This takes a few seconds." if self.quick else "This takes about six minutes.")
        with as_workers_do():
            began = time.perf_counter(), time.process_time()
            sgemm, rows = measure(images, self.quick, console)
            machine["elapsed_over_processor_time"] = round(
                (time.perf_counter() - began[0]) / (time.process_time() - began[1]), 3
            )
        rows |= two_workers(self.data, self.quick, sgemm)
        console.print(table(rows))
        console.print(footnote(sgemm), highlight=False)
        if self.json:
            content = {"machine": machine | {"sgemm_gflops_by_shape": sgemm.medians}} | rows
            self.json.write_text(json.dumps(content, indent=1) + "\n")
            console.print(f"Figures: {self.json}", soft_wrap=True)


@dataclass
class Comparison:
    """A row of the table: what is timed, beside what, in which rounds, and the times of each round."""

    setting: str
    members: int
    own: Timed
    beside: Timed | None = None
    every: int = 1
    tried: Mapping[str, float] = field(default_factory=dict)
    ms: dict[int, float] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)

    def measure(self, turn: int) -> None:
        if turn % self.every:
            return
        swapped = turn // self.every % 2 == 1
        other = self.beside() if self.beside and swapped else math.nan
        self.ms[turn] = self.own()
        if self.beside:
            self.ratios.append(self.ms[turn] / (other if swapped else self.beside()))

    def row(self, peak: Sequence[float]) -> Row:
        """The figures, with the peak of each round in GFLOP/s."""
        flop = nominal_flop(SETTINGS[self.setting].hidden)
        shares = [flop / 1e6 / ms / peak[turn] for turn, ms in self.ms.items()]
        row = _spread("ms_per_network_update", list(self.ms.values())) | _spread("fraction_of_sgemm_peak", shares)
        row |= {"sgemm_gflops": statistics.median(peak), "members": self.members, "rounds": len(self.ms)}
        row |= _spread("ratio", self.ratios) if self.ratios else {}
        return row | ({"ms_by_members": dict(self.tried)} if self.tried else {})


def _spread(name: str, values: Sequence[float]) -> Row:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {name: middle, f"{name}_low": low, f"{name}_high": high}


def measure(images: Images, quick: bool, console: Console) -> tuple[Sgemm, dict[str, Row]]:
    """Everything that one process measures."""
    rounds, part = (2, 0.02) if quick else (11, 1.0)
    sgemm = Sgemm()
    lines = {name: best_size(images, name, quick) for name in SETTINGS} | systems(images, part)
    for turn in track(range(rounds), "measuring", console=console, transient=True, disable=not console.is_terminal):
        sgemm.measure()
        for line in lines.values():
            line.measure(turn)
    return sgemm, {key: line.row(sgemm.peak) for key, line in lines.items()}


def best_size(images: Images, setting: str, quick: bool) -> Comparison:
    """The setting's base system, at the stack size at which a network costs least."""
    sizes = SIZES[SETTINGS[setting].hidden]
    stacks = {members: TimedStack(images, setting, members=members) for members in (sizes[:1] if quick else sizes)}
    updates = 2 if quick else 50
    times = [{members: stack.ms(updates) for members, stack in stacks.items()} for _ in range(2 if quick else 6)]
    tried = {members: min(each[members] for each in times[1:]) for members in stacks}  # other load only adds time
    best = min(tried, key=tried.__getitem__)
    stack = stacks[best]  # the others are freed
    return Comparison(setting, best, lambda: stack.ms(2 * updates), tried={str(n): ms for n, ms in tried.items()})


def systems(images: Images, part: float) -> dict[str, Comparison]:
    """The systems of the large network, each beside base; and base with all measures beside base without."""
    base = TimedStack(images, "large")
    base.ms(round(512 * part))
    lines = {}
    for system, window in WINDOWS.items():
        stack, updates = TimedStack(images, "large", system), max(1, round(window * part))
        stack.ms(round(512 * part))  # past CBP's maturity threshold
        extra = normals(base) if system == "shrink-perturb" else lambda: 0.0
        lines[f"large-{system}"] = Comparison(
            "large", STACK, lambda s=stack, n=updates: s.ms(n), lambda n=updates, e=extra: base.ms(n) + e()
        )
    measured = TimedStack(images, "large")
    lines["large-measured"] = Comparison(
        "large", STACK, measured.task_ms, lambda: base.ms(base.trainer.problem.course.updates_a_task), every=3
    )
    return lines


def normals(stack: TimedStack) -> Timed:
    """Milliseconds that torch takes to draw the normals of one update of one network."""
    entries = sum(w[0].numel() for w in stack.trainer.net.parameters.values())
    drawn, generator, times = torch.empty(entries), torch.Generator().manual_seed(0), 100
    return lambda: 1e3 / times * seconds(lambda: [drawn.normal_(generator=generator) for _ in range(times)])


def two_workers(data: Path | None, quick: bool, sgemm: Sgemm) -> dict[str, Row]:
    """Two processes on one core each, alone and together; nothing on a machine with one core."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if len(cores) < 2:
        return {}
    updates, rounds = (2, 2) if quick else (400, 5)
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    processes = [
        context.Process(target=_work, args=(theirs, core, data, quick), daemon=True)
        for (_, theirs), core in zip(pipes, cores, strict=False)
    ]
    for process in processes:
        process.start()
    ours = [pipe for pipe, _ in pipes]

    def together(workers: Sequence[Connection]) -> list[float]:
        for worker in workers:
            worker.send(updates)
        return [worker.recv() for worker in workers]

    together(ours)  # both have started and are warm
    times = [(together(ours[:1]) + together(ours[1:]), together(ours)) for _ in range(rounds)]
    for worker in ours:
        worker.send(0)
    for process in processes:
        process.join()
    peak, flop = statistics.median(sgemm.peak), nominal_flop(100)
    wall = [1 / sum(1 / ms for ms in both) for _, both in times]
    row = _spread("ms_per_network_update", wall)
    row["fraction_of_sgemm_peak"] = flop / 1e6 / row["ms_per_network_update"] / peak / 2
    row |= {"sgemm_gflops": peak, "members": STACK, "rounds": rounds}
    speedups = [sum(a / b for a, b in zip(alone, both, strict=True)) for alone, both in times]
    return {"large-two-workers": row | _spread("speedup", speedups)}


def _work(pipe: Connection, core: int, data: Path | None, quick: bool) -> None:
    """A worker: receives a number of updates, makes them and answers how long each took; 0 ends it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    with as_workers_do():
        stack = TimedStack(like_mnist(data, quick), "large")
        while updates := pipe.recv():
            start = time.perf_counter()
            stack.trainer.run_updates(updates)
            pipe.send(1e3 * (time.perf_counter() - start) / (updates * stack.members))


def about_machine() -> dict[str, Any]:
    """The machine and versions that the figures were measured on."""
    return {
        "machine": processor(),
        "threads": 1,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "regrow": __version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def table(rows: Mapping[str, Row]) -> Table:
    """The figures as a table."""
    shown = Table("", "nets", "ms", "peak", "ratio", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in shown.columns:
        column.no_wrap = True
    for key, row in rows.items():
        ratio = next((_cell(row, name, 3) for name in ("ratio", "speedup") if name in row), "")
        share = f"{row['fraction_of_sgemm_peak']:.1%}"
        shown.add_row(key, str(row["members"]), _cell(row, "ms_per_network_update", 4), share, ratio)
    return shown


def _cell(row: Row, name: str, digits: int) -> str:
    """Median ± half the interquartile range."""
    return f"{row[name]:.{digits}f} ±{(row[f'{name}_high'] - row[f'{name}_low']) / 2:.{digits}f}"


def footnote(sgemm: Sgemm) -> str:
    """Explains the columns."""
    rates = "; ".join(f"{name}: {rate:.1f}" for name, rate in sgemm.medians.items())
    return (
        "nets: trained at once. ms: processor time per update of a network, median ± half the interquartile range. "
        f"peak: share of the speed of the fastest matrix product, {sgemm.best} ({rates} GFLOP/s); an update counts "
        f"{nominal_flop(100) / 1e6:.2f} MFLOP large, {nominal_flop(10) / 1e6:.3f} small, including pixels that are "
        "black in a whole batch, which are skipped. ratio: to base, side by side; shrink-perturb: to base plus torch "
        "drawing as many normals; measured: a task to one without measures; two workers: their speed to that of one."
    )
