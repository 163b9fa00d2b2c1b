"""A run as its options ask for it: what is trained, on what, into which folder."""

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import check
from ..studies import STUDIES, Config, Member, StackPlan, choose, packing
from ..studies.permuted_grids import Winners
from ..vit.options import Options
from . import best_of_sweep, lock, manifest, problems
from .problems import PermutedMaker, Problem, ViTMaker
from .store import Store

DATA = ("data", "data_checksum", "labels_checksum", "test_data_checksum", "test_labels_checksum")
"""Keys of a manifest's config: what the networks learn from."""
MOST = 1_000_000
"""The largest number that an option takes."""


@dataclass(frozen=True)
class Job:
    """A run whose options were checked."""

    options: Any
    problem: Problem
    all_plans: Sequence[StackPlan]
    tasks: int
    device: str
    folder: Path
    manifest: manifest.Manifest
    shard: lock.Shard | None = None

    @property
    def plans(self) -> Sequence[StackPlan]:
        """The stacks to train: of a shard, every n-th."""
        return self.all_plans[self.shard.index - 1 :: self.shard.count] if self.shard else self.all_plans

    @property
    def data(self) -> dict[str, str]:
        """What the networks learn from, as the manifest names it."""
        return {key: value for key, value in self.manifest["config"].items() if key in DATA}

    @property
    def store(self) -> Store:
        common = {"schemas": self.problem.schemas, "data": self.data, "shard": self.shard}
        return Store(self.folder, self.options.study, **common)

    @property
    def make(self) -> PermutedMaker | ViTMaker:
        return self.problem.make

    @property
    def all_updates(self) -> int:
        """Of each network in all tasks."""
        return self.problem.updates(self.all_plans, self.tasks)

    @property
    def updates(self) -> int:
        """Of each network in a task, on average: where classes are added they grow."""
        return max(1, round(self.all_updates / self.tasks))


def prepare(options: Any) -> Job:
    """Check all options, before anything is trained or written.

    Args:
        options: `regrow.commands.run.Run`.

    Raises:
        ValueError, OSError: one line: the rule, the value got, the remedy.
    """
    settings, systems = choose(options.study, options.settings or None, options.systems or None)
    check.whole("measure_every", options.measure_every, 1, "updates between measures of the gradient")
    for name, value, _ in _values(options):
        if isinstance(value, int) and value > MOST:
            raise ValueError(f"`{name}` must be at most {MOST:,}; got {str(value)[:20]}{'…' * (len(str(value)) > 20)}")
    if options.workers is not None:
        check.whole("workers", options.workers, 1, "processes that train")
    device = problems.device(options.device)
    problem = _problem(options, problems.is_vit(settings), device)
    run = options.study, settings, systems, options.seeds
    more: dict[str, Any] = {"sweep": options.sweep, "first_seed": options.first_seed}
    plans = problem.pack(*run, **more)
    tasks = problem.tasks(plans, STUDIES[options.study].tasks) if options.tasks is None else options.tasks
    problem.check(plans, tasks)
    data = problem.data()
    winners, best = _selected(options, settings, data | {"pixels": problem.config.get("pixels", "raw")})
    if winners or best:
        plans = problem.pack(*run, **more, winners=winners, best=best)
    config = {"settings": list(settings), "systems": list(systems), "tasks": tasks, "seeds": options.seeds} | data
    config |= {"sweep": options.sweep, "measure_every": options.measure_every, "from": _digest(winners)}
    unusual = {"first_seed": options.first_seed, "best": best and {name: _ids(runs) for name, runs in best.items()}}
    config |= {name: value for name, value in unusual.items() if value}
    folder = options.out or Path("results") / options.study
    described = manifest.describe(options.study, config | problem.config, plans, device, words(options))
    return Job(options, problem, plans, tasks, device, folder, described, shard(options.shard))


def shard(text: str | None) -> lock.Shard | None:
    """The part of the run that `--shard i/n` asks for; None: all of it.

    Example:
        >>> shard("2/8")
        Shard(index=2, count=8)
    """
    if text is None:
        return None
    index, _, count = text.partition("/")
    if index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count) <= MOST:
        return lock.Shard(int(index), int(count))
    raise ValueError(
        f"`shard` must be i/n with 1 <= i <= n, such as 3/8; got {text!r}: give the job's number and count"
    )


def _problem(options: Any, vit: bool, device: str) -> Problem:
    """The problem of the study, with its own options; those of the other kind are refused."""
    for name, value, default in _values(options):
        if name in problems.OWN["permuted" if vit else "vit"] and value != default:
            option, owner = name.replace("_", "-"), "studies on permuted images" if vit else "study vit-cifar"
            raise ValueError(f"`--{option}` is an option of {owner}; got it for {options.study}: leave it out")
    common = options.data, device, options.measure_every
    if not vit:
        pixels = options.pixels or STUDIES[options.study].pixels
        own = options.ln_position, options.units_read, options.equal_share, pixels
        return problems.PermutedJob(*common, *own)
    return problems.ViTJob(*common, options.optimizer, Options(**vars(options.vit)), options.tasks)


def _values(options: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of each option but the study, those of vision transformers in their place."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from _values(value)
        elif field.name != "study":
            yield field.name, value, field.default


def _selected(
    options: Any, settings: Sequence[str], data: Mapping[str, Any]
) -> tuple[Winners | None, packing.Best | None]:
    """What the sweeps in `--from` selected: for another sweep the winners, which it starts from, or the best."""
    if options.best is not None:
        check.whole("best", options.best, 1, "configs of each method")
        if options.sweep or not options.from_:
            raise ValueError("`--best` trains the best configs of the sweeps in --from; give --from, and no --sweep")
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        sweeps = [best_of_sweep.read(folder, data) for folder in options.from_]
        return None, best_of_sweep.best(sweeps, settings, options.best, seeds)
    if not options.from_:
        return None, None
    if not options.sweep:
        raise ValueError(
            "`--from` takes the winners of sweeps into another, or with --best into a run; got no --sweep: add --sweep"
        )
    winners: dict[tuple[str, str], Config] = {}
    for folder in options.from_:
        winners |= best_of_sweep.read_winners(folder, data)
    return winners, None


def _ids(runs: Sequence[tuple[str, Config]]) -> list[str]:
    return [Member(system, config, 0).config_id for system, config in runs]


def _digest(winners: Winners | None) -> str | None:
    """A short digest of the winners of a sweep."""
    if winners is None:
        return None
    text = repr(sorted((setting, system, sorted(config.items())) for (setting, system), config in winners.items()))
    return f"{zlib.crc32(text.encode()):08x}"


def words(options: Any) -> list[str]:
    """The command line of these options.

    Example:
        >>> from regrow.commands.run import Run
        >>> words(Run("optimizers", systems=("base", "swr"), measure_every=1, sweep=True, from_=(Path("old"),)))
        ['run', 'optimizers', '--systems', 'base', 'swr', '--sweep', '--from', 'old', '--measure-every', '1']
    """
    words = ["run", options.study]
    for name, value, default in _values(options):
        if value != default:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [f"--{name.rstrip('_').replace('_', '-')}", *map(_word, values)]
    return words


def _word(value: object) -> str:
    """A value as an argument: a path that looks like an option begins with ./"""
    return f"./{value}" if isinstance(value, Path) and str(value).startswith("-") else str(value)
