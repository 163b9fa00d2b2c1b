"""`regrow run`: train a study, or resume it."""

import dataclasses
import shlex
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from .. import check
from ..lab.runs import best_of_sweep, engine, local_engine, lock, manifest, problems, progress, timing, worker
from ..lab.runs.problems import PermutedMaker, Problem, ViTMaker
from ..lab.runs.store import Store, load
from ..lab.runs.text import counted, duration
from ..lab.studies import STUDIES, StackPlan, choose
from ..lab.studies.packing import count
from ..lab.studies.permuted_grids import Winners
from ..lab.vit.options import Options

Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
Count = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="")]
Flag = Annotated[bool, FlagCreatePairsOff]


class Size(Options):
    """Size, length and precision of a run of vision transformers; the defaults are the paper's."""

    def __post_init__(self) -> None:
        """Checked later, with the other options: `prepare` reports an error in one line."""


@dataclass(frozen=True)
class Run:
    """Train a study. Rerun the command to resume it; ask for more tasks or seeds to extend it."""

    study: Annotated[Positional[str], arg(metavar="STUDY")]
    """initial-assessment, weights-vs-units, optimizers or vit-cifar; `regrow studies` describes them"""
    settings: Names = ()
    """some of the study's settings; default: all of them"""
    systems: Names = ()
    """systems to train; default: the study's"""
    tasks: Count = None
    """tasks of each network; default: the paper's, 1,000 on permuted images, 20 on CIFAR-100"""
    seeds: int = 1
    """number of seeds (0, 1, ...), one network of each system per seed"""
    data: Folder = None
    """folder with CIFAR-100, or MNIST under mnist/; default: REGROW_DATA, the user's cache, embedded digits"""
    out: Folder = None
    """folder for the results; default: results/STUDY"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is cuda if available"""
    workers: Count = None
    """number of processes; default: one per core or device"""
    engine: Literal["local", "ray"] = "local"
    """ray spreads the work over the machines of a cluster"""
    sweep: Flag = False
    """run the paper's grids in place of its chosen values"""
    from_: Annotated[Path | None, arg(name="from", metavar="DIR", help_behavior_hint="")] = None
    """folder of an earlier sweep whose winners a sweep starts from"""
    measure_every: int = 20
    """updates between measurements of the gradient; the paper measures every update (1)"""
    ln_position: Literal["after", "before"] = "after"
    """position of layer norm, relative to the activation"""
    units_read: Literal["before", "after"] = "before"
    """where unit methods read a unit, relative to the layer norm that follows it"""
    optimizer: Literal["authors", "clean"] = "authors"
    """vit-cifar: the authors' schedule of weight decay, or a clean one"""
    vit: Annotated[Size, OmitArgPrefixes, FlagCreatePairsOff] = Size()
    quiet: Flag = False
    """print nothing but errors"""

    def run(self) -> None:
        """Check the options, then train, store, and show the progress."""
        console = Console(quiet=self.quiet)
        job = prepare(self)
        manifest.open_folder(job.folder)
        with lock.sole_run(job.folder):
            stored = manifest.begin(job.folder, job.manifest)
            job.store.prepare()
            if stored["torch"] != torch.__version__:
                was = f"torch {stored['torch']}, and is resumed with {torch.__version__}"
                _print(console, f"Note: {job.folder} was started with {was}: last digits may differ.")
            again = shlex.join(["regrow", *job.manifest["command"]])
            try:
                with manifest.timed(job.folder):
                    train(job, console)
            except KeyboardInterrupt:
                stored_in = f"stopped; finished tasks are stored in {job.folder}"
                raise KeyboardInterrupt(f"{stored_in}. To resume: {again}") from None
            except worker.StackFailed as error:
                raise worker.StackFailed(f"{error}; all finished tasks are stored. To resume: {again}") from None
            if self.sweep and stored["config"]["tasks"] == job.tasks and stored["config"]["seeds"] == self.seeds:
                best_of_sweep.write(job.folder, load(job.folder))
                _print(console, f"Best of each grid: {job.folder / best_of_sweep.NAME}")
        _print(console, f"Results: {job.folder}")


@dataclass(frozen=True)
class Job:
    """A run whose options were checked."""

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
    def make(self) -> PermutedMaker | ViTMaker:
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
    """Check all options, before anything is trained or written.

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
    """The problem of the study, with its own options; those of the other kind are refused."""
    for name, value, default in _values(options):
        if name in problems.OWN["permuted" if vit else "vit"] and value != default:
            option, owner = name.replace("_", "-"), "studies on permuted images" if vit else "study vit-cifar"
            raise ValueError(f"`--{option}` is an option of {owner}; got it for {options.study}: leave it out")
    common = options.data, device, options.measure_every
    if not vit:
        return problems.PermutedJob(*common, options.ln_position, options.units_read)
    return problems.ViTJob(*common, options.optimizer, Options(**vars(options.vit)))


def _values(options: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of each option but the study, those of vision transformers in their place."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from _values(value)
        elif field.name != "study":
            yield field.name, value, field.default


def _winners(options: Run, data: Mapping[str, str]) -> Winners | None:
    if not options.from_:
        return None
    if not options.sweep:
        raise ValueError("`--from` takes the winners of one sweep into another; got no --sweep: add --sweep")
    return best_of_sweep.read_winners(options.from_, data)


def _digest(winners: Winners | None) -> str | None:
    """A short digest of the winners of a sweep."""
    if winners is None:
        return None
    text = repr(sorted((setting, system, sorted(config.items())) for (setting, system), config in winners.items()))
    return f"{zlib.crc32(text.encode()):08x}"


def words(options: Run) -> list[str]:
    """The command line of these options.

    Example:
        >>> words(Run("optimizers", systems=("base", "swr"), measure_every=1, sweep=True, from_=Path("old")))
        ['run', 'optimizers', '--systems', 'base', 'swr', '--sweep', '--from', 'old', '--measure-every', '1']
    """
    words = ["run", options.study]
    for name, value, default in _values(options):
        if value != default:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [f"--{name.rstrip('_').replace('_', '-')}", *map(str, values)]
    return words


def train(job: Job, console: Console) -> None:
    """Print what will be trained and how long that takes, and train it."""
    options, plans, store = job.options, job.plans, job.store
    done = {plan.id: store.done(plan.id, job.tasks) for plan in plans}
    left = [plan for plan in plans if done[plan.id] < job.tasks]
    size = count(plans, 1, job.all_updates)
    _print(
        console,
        f"{options.study} on {job.data}: {counted(size.members, 'network')} in {counted(size.stacks, 'stack')}, "
        f"{counted(job.tasks, 'task')}, {size.updates:,} network-updates, on {job.device}.",
    )
    if not left:
        _print(console, f"Everything is stored in {job.folder} already: nothing to do.")
        return
    workers = min(options.workers or local_engine.default_workers(job.device), len(left))
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


def _print(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False, markup=False)
