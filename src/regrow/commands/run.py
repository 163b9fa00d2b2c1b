"""`regrow run`: train a study, or resume it."""

import contextlib
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from ..lab.runs import (
    best_of_sweep,
    engine,
    local_engine,
    lock,
    manifest,
    progress,
    ray_engine,
    signals,
    timing,
    worker,
)
from ..lab.runs.job import Job, prepare
from ..lab.runs.tables import load
from ..lab.runs.text import counted, duration
from ..lab.studies import STUDIES, SYSTEMS, VARIANTS
from ..lab.studies.packing import count
from ..lab.vit.options import Options
from ..methods.swr import PRUNINGS, REINITS, UTILITIES
from .options import Count, Data, Directory, Flag

MANY = 1_000
"""Seeds from which on preparing them takes seconds."""

# Help texts of more than a line, see `options`.
_SHARD = (
    "split the run over N jobs: this one, I = 1 to N, trains every N-th stack (networks trained together) from the "
    "I-th on; give all jobs the same --out"
)
_EQUAL_SHARE = (
    "also train SWR with random utility at values that renew the same share of entries as the paper's do with "
    "proportional pruning"
)
_PIXELS = (
    "raw pixels in [0, 1], most of them 0, or standardized, (x - 0.1307) / 0.3081, none of them 0; default: raw, "
    "except in study dense-inputs"
)
_OPTIMIZER = (
    "for vit-cifar: the authors' optimizer; the same with its momentum buffer cleared at the start of each task; or"
    " SGD with decoupled weight decay (clean)"
)

Names = Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="")]
_STUDIES = f"one of {', '.join(STUDIES)}; `regrow studies` describes them"
_SYSTEMS = (
    f"systems to train, of {', '.join(name for name in SYSTEMS if name not in VARIANTS)} and swr-UTILITY-PRUNING-VALUE "
    f"({'; '.join(map(', '.join, (UTILITIES, PRUNINGS, REINITS)))}); default: the study's"
)


@dataclass(frozen=True)
class Size(Options):
    """For study vit-cifar only: size, length and precision of the networks' training. The defaults are the paper's."""

    # The texts are those of `Options`; here is only how they are shown.
    images_per_class: Count = None
    flush_below: Annotated[float, arg(help_behavior_hint="(default: none)")] = 0.0
    clip_at: Annotated[float, arg(help_behavior_hint="(default: none)")] = math.inf
    compiled: Flag = False
    graphs: Flag = False
    matched: Flag = False

    def __post_init__(self) -> None:
        """Checked later, with the other options: `prepare` reports an error in one line."""


@dataclass(frozen=True)
class Run:
    """Train a study. Rerun the command to resume it; ask for more tasks or seeds to extend it."""

    study: Annotated[Positional[str], arg(metavar="STUDY", help=_STUDIES)]
    settings: Names = ()
    """some of the study's settings; default: all of them"""
    systems: Annotated[tuple[str, ...], arg(metavar="NAME ...", help=_SYSTEMS, help_behavior_hint="")] = ()
    tasks: Count = None
    """tasks of each network; default: the paper's, 1,000 on permuted images, 20 on CIFAR-100"""
    seeds: int = 1
    """number of consecutive seeds, each of which trains one network per system"""
    first_seed: int = 0
    """the first of the seeds"""
    data: Data = None
    out: Directory = None
    """folder for the results; default: results/STUDY"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is cuda if available"""
    workers: Count = None
    """number of processes; default: one per core or device"""
    engine: Literal["local", "ray"] = "local"
    """ray spreads the work over the machines of a cluster"""
    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="", help=_SHARD)] = None
    sweep: Flag = False
    """train every config of the study's grids (most of them the paper's) instead of its chosen values"""
    from_: Annotated[tuple[Path, ...], arg(name="from", metavar="DIR ...", help_behavior_hint="")] = ()
    """folders of finished sweeps; --sweep starts from their winners, --best trains their best configs"""
    best: Count = None
    """configs of each method to train, the best ones of the sweeps in --from, instead of the study's chosen values"""
    measure_every: int = 20
    """measure the gradient's magnitude every INT updates; the paper: every update"""
    ln_position: Literal["after", "before"] = "after"
    """position of layer norm, relative to the activation"""
    units_read: Literal["before", "after"] = "before"
    """where CBP and ReDo read a unit's activation: before or after the layer norm that follows it"""
    equal_share: Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="", help=_EQUAL_SHARE)] = False
    pixels: Annotated[
        Literal["raw", "standardized"] | None, arg(metavar="{raw,standardized}", help_behavior_hint="", help=_PIXELS)
    ] = None
    optimizer: Annotated[Literal["authors", "authors-cleared", "clean"], arg(help=_OPTIMIZER)] = "authors"
    vit: Annotated[Size, OmitArgPrefixes, arg(name="vit-cifar")] = Size()
    quiet: Flag = False
    """print nothing but errors"""

    def run(self) -> None:
        """Check the options, then train, store, and show the progress."""
        console = Console(quiet=self.quiet)
        with signals.interrupting():
            if self.seeds > MANY:
                _print(console, f"Preparing {self.seeds:,} networks of each system.")
            job = prepare(self)
            manifest.open_folder(job.folder)
            with lock.sole_run(job.folder, job.shard):
                stored = manifest.begin(job.folder, job.manifest)
                job.store.prepare([plan.id for plan in job.plans] if job.shard else None)
                if stored["torch"] != torch.__version__:
                    was = f"torch {stored['torch']}, and is resumed with {torch.__version__}"
                    _print(console, f"Note: {job.folder} was started with {was}: last digits may differ.")
                with resumable(job), manifest.timed(job.folder):
                    train(job, console)
                if self.sweep and _complete(job, stored):
                    best_of_sweep.write(job.folder, load(job.folder))
                    _print(console, f"Best of each grid: {job.folder / best_of_sweep.NAME}")
        report = shlex.join(["regrow", "report", str(job.folder)])
        _print(console, f"Results: {job.folder}. For figures, tables and verdicts: {report}")


@contextlib.contextmanager
def resumable(job: Job) -> Iterator[None]:
    """Within it, errors that stop the run also name the command to resume it."""
    again = shlex.join(["regrow", *job.manifest["command"]])
    try:
        yield
    except KeyboardInterrupt as stop:
        message = f"stopped; finished tasks are stored in {job.folder}. To resume: {again}"
        raise signals.Interrupted(message, signals.number_of(stop)) from None
    except worker.StackFailed as error:
        if not (job.folder / manifest.NAME).exists():
            raise worker.StackFailed(
                f"{job.folder} was deleted or moved during the run. To begin again: {again}"
            ) from None
        raise worker.StackFailed(f"{error}; all finished tasks are stored. To resume: {again}") from None


def _complete(job: Job, stored: manifest.Manifest) -> bool:
    """Whether everything that the folder is for is trained, by this run and the other shards."""
    config = stored["config"]
    if (config["tasks"], config["seeds"]) != (job.tasks, job.options.seeds):
        return False
    return all(job.store.done(plan, job.tasks) == job.tasks for plan in job.all_plans)


def train(job: Job, console: Console) -> None:
    """Print what will be trained and how long that takes, and train it."""
    options, plans, store = job.options, job.plans, job.store
    done, set_aside = store.survey(plans, job.tasks)
    left = [plan for plan in plans if done[plan.id] < job.tasks]
    size = count(plans, 1, job.all_updates)
    _print(
        console,
        f"{options.study} on {job.data['data']}: {counted(size.members, 'network')} in "
        f"{counted(size.stacks, 'stack')}, {counted(job.tasks, 'task')}, {size.updates:,} network-updates, "
        f"on {job.device}.",
    )
    for line in set_aside:
        _print(console, line)
    if not left:
        _print(console, f"Everything is stored in {job.folder} already: nothing to do.")
        return
    workers = min(options.workers or _capacity(job), len(left))
    speeds = timing.calibrate(left, job.make, seconds=1.0)
    expected = {plan.id: timing.estimate(plan, speeds) * job.updates for plan in left}
    ahead = [(job.tasks - done[plan.id]) * expected[plan.id] for plan in left]
    begun = sum(done.values()) / (job.tasks * len(plans))
    rest = f"for the remaining {1 - begun:.0%}, " if begun else ""
    time = duration(timing.makespan(ahead, workers))
    _print(console, f"Expected time: {rest}about {time} with {counted(workers, 'worker')}.")
    shown = progress.Progress(left, job.tasks, job.updates, expected, done, workers)
    arguments = {"tasks": job.tasks, "workers": workers, "expected": expected, "device": job.device}
    arguments["engine"] = options.engine
    if options.quiet:
        engine.run(left, job.make, store, **arguments)
        return
    with progress.showing(shown, console):
        engine.run(left, job.make, store, observer=shown, **arguments)


def _capacity(job: Job) -> int:
    """Stacks at once; of a cluster, whose nodes are named in the manifest."""
    if job.options.engine == "local":
        return local_engine.default_workers(job.device)
    cluster = ray_engine.Cluster(job.device)
    manifest.add_nodes(job.folder, cluster.about())
    return cluster.capacity


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
