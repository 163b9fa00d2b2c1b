"""`regrow run`: train a study, or go on with it."""

import dataclasses
import functools
import shlex
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

from .. import check
from . import calibrate, engine, lock, manifest, progress, selection
from .grids import Winners
from .packing import count, pack
from .problems.data import Images, load_images
from .problems.permuted import PermutedImages
from .progress import counted
from .store import Store, load
from .studies import SETTINGS, STUDIES, StackPlan, choose
from .train import Trainer, course_for

Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
Count = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="")]
Flag = Annotated[bool, FlagCreatePairsOff]


@dataclass(frozen=True)
class Maker:
    """Makes the trainers of a run, in whatever process."""

    data: Path | None
    device: str = "cpu"
    measure_every: int = 20

    def __call__(self, plan: StackPlan, progress: Callable[[int], None] | None = None) -> Trainer:
        problem = _problem(self.data, self.device)
        return Trainer(plan, problem, measure_every=self.measure_every, progress=progress)


@functools.cache
def _problem(data: Path | None, device: str) -> PermutedImages:
    images = _images(data)[1]
    return PermutedImages(images, course_for(images), device)


@functools.cache
def _images(data: Path | None) -> tuple[str, Images]:
    return load_images(data)


@dataclass(frozen=True)
class Run:
    """Train a study; the same command goes on where it was stopped, more tasks or seeds extend it."""

    study: Annotated[Positional[str], arg(metavar="STUDY")]
    """initial-assessment, weights-vs-units or optimizers; `regrow studies` tells what is in them"""
    settings: Names = ()
    """some of the study's settings; default: all of them"""
    systems: Names = ()
    """systems to train; default: the study's"""
    tasks: Count = None
    """tasks of each network; default: the paper's, 1,000 on permuted images"""
    seeds: int = 1
    """networks of each system, by seeds 0, 1, ..."""
    data: Folder = None
    """folder that holds MNIST's four files under mnist/; default: REGROW_DATA, the user's cache, embedded digits"""
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
                train(job, console)
            except KeyboardInterrupt:
                stored_in = f"stopped; what was finished is stored in {job.folder}"
                raise KeyboardInterrupt(f"{stored_in}. To go on: {again}") from None
            except engine.StackFailed as error:
                raise engine.StackFailed(f"{error}; the others are stored. To go on: {again}") from None
            if self.sweep and stored["config"]["tasks"] == job.tasks and stored["config"]["seeds"] == self.seeds:
                selection.write(job.folder, load(job.folder))
                _say(console, f"Best of each grid: {job.folder / selection.NAME}")
        _say(console, f"Results: {job.folder}")


@dataclass(frozen=True)
class Job:
    """A run that was found in order."""

    options: Run
    plans: Sequence[StackPlan]
    tasks: int
    make: Maker
    updates: int  # of each network in a task
    data: str
    device: str
    folder: Path
    manifest: dict[str, Any]

    @property
    def store(self) -> Store:
        return Store(self.folder, self.options.study)


def prepare(options: Run) -> Job:
    """Everything that can be refused is refused here, before anything is trained or written.

    Raises:
        ValueError, OSError: one line: the rule, the value got, the remedy.
    """
    settings, systems = choose(options.study, options.settings or None, options.systems or None)
    if not set(settings) <= set(SETTINGS):
        raise ValueError(f"`study` {options.study!r} cannot be trained by this version: choose another")
    tasks = STUDIES[options.study].tasks if options.tasks is None else options.tasks
    check.whole("tasks", tasks, 1, "of each network")
    check.whole("measure_every", options.measure_every, 1, "updates between measures of the gradient")
    if options.workers is not None:
        check.whole("workers", options.workers, 1, "processes that train")
    device = _device(options.device)
    name, images = _images(options.data)
    course = course_for(images)
    data = {"data": name, "data_checksum": f"{zlib.crc32(images.pixels.numpy().tobytes()):08x}"}
    winners = _winners(options, data)
    shared = {"sweep": options.sweep, "ln_position": options.ln_position, "units_read": options.units_read}
    plans = pack(options.study, settings, systems, options.seeds, winners=winners, ratio=course.ratio, **shared)
    config = {"settings": list(settings), "systems": list(systems), "tasks": tasks, "seeds": options.seeds} | data
    config |= shared | {"measure_every": options.measure_every, "from": _digest(winners)}
    return Job(
        options, plans, tasks, Maker(options.data, device, options.measure_every), course.updates_a_task, name, device,
        folder=options.out or Path("results") / options.study,
        manifest=manifest.describe(options.study, config, plans, device, words(options)),
    )  # fmt: skip


def _winners(options: Run, data: Mapping[str, str]) -> Winners | None:
    if not options.from_:
        return None
    if not options.sweep:
        raise ValueError("`--from` takes the winners of one sweep into another; got no --sweep: add it")
    return selection.read_winners(options.from_, data)


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


def _device(asked: str) -> str:
    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise ValueError("`--device cuda` needs a CUDA device and a build of torch for it; found none: use cpu")
    return "cuda" if found and asked != "cpu" else "cpu"


def train(job: Job, console: Console) -> None:
    """Tell what will be trained and how long that takes, and train it."""
    options, plans, store = job.options, job.plans, job.store
    done = {plan.id: store.task(plan.id) for plan in plans}
    left = [plan for plan in plans if done[plan.id] < job.tasks]
    size = count(plans, job.tasks, job.updates)
    _say(
        console,
        f"{options.study} on {job.data}: {counted(size.members, 'network')} in {counted(size.stacks, 'stack')}, "
        f"{counted(job.tasks, 'task')}, {size.updates:,} network-updates, on {job.device}.",
    )
    if not left:
        _say(console, f"All of it is stored in {job.folder} already: nothing to do.")
        return
    workers = min(options.workers or engine.default_workers(job.device), len(left))
    speeds = calibrate.calibrate(left, job.make, seconds=1.0)
    expected = {plan.id: calibrate.estimate(plan, speeds) * job.updates for plan in left}
    ahead = [(job.tasks - done[plan.id]) * expected[plan.id] for plan in left]
    begun = sum(min(task, job.tasks) for task in done.values()) / (job.tasks * len(plans))
    what = f"the {1 - begun:.0%} that are left take" if begun else "it takes"
    time = progress.duration(calibrate.makespan(ahead, workers))
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
