"""`regrow run`: train a study, or go on with it."""

import dataclasses
import math
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

from .. import check
from ..lab.runs import best_of_sweep, engine, local_engine, lock, manifest, problems, progress, timing, worker
from ..lab.runs.problems import Maker, Problem, ViTMaker
from ..lab.runs.progress import counted
from ..lab.runs.store import Store, load
from ..lab.studies import STUDIES, SYSTEMS, VARIANTS, StackPlan, choose
from ..lab.studies.packing import count
from ..lab.studies.permuted_grids import Winners
from ..lab.vit.options import PAPERS_EPOCHS, Options
from ..methods.swr import PRUNINGS, REINITS, UTILITIES

Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
Count = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="")]
Flag = Annotated[bool, FlagCreatePairsOff]
_SYSTEMS = (
    f"systems to train, of {', '.join(name for name in SYSTEMS if name not in VARIANTS)} and swr-UTILITY-PRUNING-VALUE "
    f"({'; '.join(map(', '.join, (UTILITIES, PRUNINGS, REINITS)))}); default: the study's"
)


@dataclass(frozen=True)
class Run:
    """Train a study; the same command goes on where it was stopped, more tasks or seeds extend it."""

    study: Annotated[Positional[str], arg(metavar="STUDY")]
    """initial-assessment, weights-vs-units, optimizers or vit-cifar; `regrow studies` tells what is in them"""
    settings: Names = ()
    """some of the study's settings; default: all of them"""
    systems: Annotated[tuple[str, ...], arg(metavar="NAME ...", help=_SYSTEMS, help_behavior_hint="")] = ()
    tasks: Count = None
    """tasks of each network; default: the paper's, 1,000 on permuted images, 20 on CIFAR-100"""
    seeds: int = 1
    """networks of each system, by seeds 0, 1, ..."""
    data: Folder = None
    """folder that holds CIFAR-100, or MNIST under mnist/; default: REGROW_DATA, the user's cache, embedded digits"""
    out: Folder = None
    """folder for the results; default: results/STUDY"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is cuda where there is a device"""
    workers: Count = None
    """processes; default: one for each core or device"""
    engine: Literal["local", "ray"] = "local"
    """ray spreads the work over the machines of a cluster"""
    sweep: Flag = False
    """try the paper's grids in place of its chosen values"""
    from_: Annotated[Path | None, arg(name="from", metavar="DIR", help_behavior_hint="")] = None
    """folder of an earlier sweep whose winners a sweep starts from"""
    measure_every: int = 20
    """updates between measures of the gradient; 1 is the paper's"""
    ln_position: Literal["after", "before"] = "after"
    """where layer norm is, relative to the activation"""
    units_read: Literal["before", "after"] = "before"
    """where unit methods read a unit, relative to the layer norm that follows it"""
    optimizer: Literal["authors", "clean"] = "authors"
    """vit-cifar: the authors' schedule of the decay, or a clean one"""
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """vit-cifar: of products; tf32 needs CUDA"""
    epochs_per_task: int = PAPERS_EPOCHS
    """vit-cifar: passes over the images of a task"""
    images_per_class: Count = None
    """vit-cifar: training images of each class; default: all 450"""
    width: int = Options.width
    """vit-cifar: channels of a token"""
    depth: int = Options.depth
    """vit-cifar: blocks"""
    flush_below: float = 0.0
    """vit-cifar: weights of smaller magnitude become 0"""
    clip_at: float = math.inf
    """vit-cifar: the largest magnitude of a weight"""
    compiled: Flag = False
    """vit-cifar: compile the forward pass; needs CUDA"""
    graphs: Flag = False
    """vit-cifar: replay each update as a CUDA graph"""
    quiet: Flag = False
    """say nothing but errors"""

    def run(self) -> None:
        """Check all that was asked, then train, store, and tell how far it is."""
        console = Console(quiet=self.quiet)
        job = prepare(self)
        manifest.open_folder(job.folder)
        with lock.sole_run(job.folder):
            stored = manifest.begin(job.folder, job.manifest)
            job.store.prepare()
            if stored["torch"] != torch.__version__:
                was = f"torch {stored['torch']}, and goes on with {torch.__version__}"
                _say(console, f"Note: {job.folder} was begun with {was}: last digits may differ.")
            again = shlex.join(["regrow", *job.manifest["command"]])
            try:
                with manifest.timed(job.folder):
                    train(job, console)
            except KeyboardInterrupt:
                stored_in = f"stopped; what was finished is stored in {job.folder}"
                raise KeyboardInterrupt(f"{stored_in}. To go on: {again}") from None
            except worker.StackFailed as error:
                raise worker.StackFailed(f"{error}; the others are stored. To go on: {again}") from None
            if self.sweep and stored["config"]["tasks"] == job.tasks and stored["config"]["seeds"] == self.seeds:
                best_of_sweep.write(job.folder, load(job.folder))
                _say(console, f"Best of each grid: {job.folder / best_of_sweep.NAME}")
        _say(console, f"Results: {job.folder}")


@dataclass(frozen=True)
class Job:
    """A run that was found in order."""

    options: Run
    problem: Problem
    plans: Sequence[StackPlan]
    tasks: int
    data: str
    device: str
    folder: Path
    manifest: dict[str, Any]

    @property
    def store(self) -> Store:
        return Store(self.folder, self.options.study, schemas=self.problem.schemas)

    @property
    def make(self) -> Maker | ViTMaker:
        return self.problem.make

    @property
    def all_updates(self) -> int:
        """Of each network in all tasks."""
        return self.problem.updates(self.plans, self.tasks)

    @property
    def updates(self) -> int:
        """Of each network in a task, on average: where classes are added they grow."""
        return max(1, round(self.all_updates / self.tasks))


def prepare(options: Run) -> Job:
    """Everything that can be refused is refused here, before anything is trained or written.

    Raises:
        ValueError, OSError: one line: the rule, the value got, the remedy.
    """
    settings, systems = choose(options.study, options.settings or None, options.systems or None)
    check.whole("measure_every", options.measure_every, 1, "updates between measures of the gradient")
    if options.workers is not None:
        check.whole("workers", options.workers, 1, "processes that train")
    device = problems.device(options.device)
    problem = _problem(options, problems.is_vit(settings), device)
    run = options.study, settings, systems, options.seeds
    plans = problem.pack(*run, sweep=options.sweep)
    tasks = problem.tasks(plans, STUDIES[options.study].tasks) if options.tasks is None else options.tasks
    problem.check(plans, tasks)
    data = problem.data()
    winners = _winners(options, data)
    if winners:
        plans = problem.pack(*run, sweep=options.sweep, winners=winners)
    config = {"settings": list(settings), "systems": list(systems), "tasks": tasks, "seeds": options.seeds} | data
    config |= {"sweep": options.sweep, "measure_every": options.measure_every, "from": _digest(winners)}
    folder = options.out or Path("results") / options.study
    described = manifest.describe(options.study, config | problem.config, plans, device, words(options))
    return Job(options, problem, plans, tasks, data["data"], device, folder, described)


def _problem(options: Run, vit: bool, device: str) -> Problem:
    """What the study is on, with the options that are its own; those of the other kind are refused."""
    other = problems.OWN["permuted" if vit else "vit"]
    for field in dataclasses.fields(options):
        if field.name in other and getattr(options, field.name) != field.default:
            name, whose = field.name.replace("_", "-"), "studies on permuted images" if vit else "study vit-cifar"
            raise ValueError(f"`--{name}` is an option of {whose}; got it for {options.study}: leave it out")
    common = options.data, device, options.measure_every
    if not vit:
        return problems.PermutedJob(*common, options.ln_position, options.units_read)
    size = Options(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Options)})
    return problems.ViTJob(*common, options.optimizer, size)


def _winners(options: Run, data: Mapping[str, str]) -> Winners | None:
    if not options.from_:
        return None
    if not options.sweep:
        raise ValueError("`--from` takes the winners of one sweep into another; got no --sweep: add it")
    return best_of_sweep.read_winners(options.from_, data)


def _digest(winners: Winners | None) -> str | None:
    """A short name for the winners of a sweep."""
    if winners is None:
        return None
    text = repr(sorted((setting, system, sorted(config.items())) for (setting, system), config in winners.items()))
    return f"{zlib.crc32(text.encode()):08x}"


def words(options: Run) -> list[str]:
    """The command line that asks for this.

    Example:
        >>> words(Run("optimizers", systems=("base", "swr"), measure_every=1, sweep=True, from_=Path("old")))
        ['run', 'optimizers', '--systems', 'base', 'swr', '--sweep', '--from', 'old', '--measure-every', '1']
    """
    found = ["run", options.study]
    for field in dataclasses.fields(options)[1:]:
        value = getattr(options, field.name)
        if value != field.default:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            found += [f"--{field.name.rstrip('_').replace('_', '-')}", *map(str, values)]
    return found


def train(job: Job, console: Console) -> None:
    """Tell what will be trained and how long that takes, and train it."""
    options, plans, store = job.options, job.plans, job.store
    done = {plan.id: store.done(plan.id, job.tasks) for plan in plans}
    left = [plan for plan in plans if done[plan.id] < job.tasks]
    size = count(plans, 1, job.all_updates)
    _say(
        console,
        f"{options.study} on {job.data}: {counted(size.members, 'network')} in {counted(size.stacks, 'stack')}, "
        f"{counted(job.tasks, 'task')}, {size.updates:,} network-updates, on {job.device}.",
    )
    if not left:
        _say(console, f"All of it is stored in {job.folder} already: nothing to do.")
        return
    workers = min(options.workers or local_engine.default_workers(job.device), len(left))
    speeds = timing.calibrate(left, job.make, seconds=1.0)
    expected = {plan.id: timing.estimate(plan, speeds) * job.updates for plan in left}
    ahead = [(job.tasks - done[plan.id]) * expected[plan.id] for plan in left]
    begun = sum(done.values()) / (job.tasks * len(plans))
    what = f"the {1 - begun:.0%} that are left take" if begun else "it takes"
    time = progress.duration(timing.makespan(ahead, workers))
    _say(console, f"Expected time: {what} about {time} with {counted(workers, 'worker')}.")
    board = progress.Board(left, job.tasks, job.updates, expected, done, workers)
    arguments = {"tasks": job.tasks, "workers": workers, "expected": expected, "device": job.device}
    arguments["engine"] = options.engine
    if options.quiet:
        engine.run(left, job.make, store, **arguments)
        return
    with progress.showing(board, console):
        engine.run(left, job.make, store, watch=board, **arguments)


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
