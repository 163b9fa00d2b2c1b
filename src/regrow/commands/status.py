"""`regrow status`: how far along a run is, and how to resume it."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from ..lab.runs import best_of_sweep, digests, lock, manifest, manifest_file
from ..lab.runs.columns import RESULTS, VIT_SCHEMAS
from ..lab.runs.job import DATA
from ..lab.runs.store import Inspection, Store
from ..lab.runs.tables import load
from ..lab.runs.text import counted
from ..lab.studies import packing
from .options import Flag

_SPAN = 10  # tasks at either end


@dataclass(frozen=True)
class Status:
    """Show how far along a run is, and how to resume it, if it is not running. Exit status 1 if a file is damaged."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """folder that `regrow run` wrote"""
    verify: Flag = False
    """also verify the contents of the checkpoints, and list the files that have no digest"""

    def run(self) -> None:
        """Print it; changes nothing, and works during the run too."""
        console = Console()
        content = manifest.read(self.folder)
        config, tasks = content["config"], content["config"]["tasks"]
        files = inspect(self.folder, content, states=self.verify)
        done = {stack: inspection.done(tasks) for stack, inspection in files.items()}
        console.print(
            f"{content['study']} on {config['data']}: {counted(tasks, 'task')}, {counted(config['seeds'], 'seed')}"
            f"{', a sweep' * bool(config.get('sweep'))}; started {content['started']}, "
            f"version {content['version']}, torch {content['torch']}, {content['device']}.",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
        console.print(stacks(done, tasks))
        if any(done.values()) and not any(inspection.damaged for inspection in files.values()):
            console.print(systems(load(self.folder)))
        console.print(outlook(self.folder, content, done), soft_wrap=True, highlight=False, markup=False)
        inspections = [*files.values(), inspect_ranking(self.folder)]
        for line in condition(self.folder, inspections, self.verify):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        if damaged := sum(len(inspection.damaged) for inspection in inspections):
            raise ValueError(f"{counted(damaged, 'file')} damaged, see above: rerun the command of the run")


def inspect(folder: Path, content: manifest.Manifest, *, states: bool) -> dict[str, Inspection]:
    """What the files of each stack hold, verified."""
    schemas = VIT_SCHEMAS if (folder / "epochs").is_dir() else {"results": RESULTS}
    data = {key: value for key, value in content["config"].items() if key in DATA}
    store = Store(folder, content["study"], schemas=schemas, data=data)
    return {plan.id: store.inspect(plan, states=states) for plan in packing.restore(content["packing"])}


def inspect_ranking(folder: Path) -> Inspection:
    """What verifying a sweep's ranking file finds (no header, 0 tasks); nothing where there is no such file."""
    path = folder / best_of_sweep.NAME
    try:
        _, verified = digests.open_json(path.read_bytes())
    except FileNotFoundError:
        return Inspection(None, 0)
    except digests.Damaged as error:
        return Inspection(None, 0, {path: str(error)})
    return Inspection(None, 0, unverified=[] if verified else [path])


def condition(folder: Path, files: Sequence[Inspection], verify: bool) -> Iterator[str]:
    """A line for each damaged file, and one on what was verified.

    Args:
        folder: of the run.
        files: of its stacks, and its ranking.
        verify: whether the states were verified too, and unverified files are to be named.
    """
    for inspection in files:
        yield from (f"{path} is damaged: {why}" for path, why in inspection.damaged.items())
    unverified = [path for inspection in files for path in inspection.unverified]
    if not manifest_file.read_verified(folder)[1]:
        unverified.insert(0, folder / manifest.NAME)
    if unverified:
        yield f"Unverified, since written without a digest: {counted(len(unverified), 'file')}."
    if verify:
        yield from (f"  {path}" for path in unverified)
        if not unverified and not any(inspection.damaged for inspection in files):
            yield "Verified: every file is as it was written."


def stacks(done: dict[str, int], tasks: int) -> Table:
    """How many tasks of each stack are stored."""
    table = Table("stack", title="Stacks", title_justify="left")
    for name in ("tasks stored", "of", ""):
        table.add_column(name, justify="right")
    for stack, task in done.items():
        table.add_row(stack, f"{task:,}", f"{tasks:,}", f"{task / tasks:.0%}")
    return table


def systems(rows: pl.DataFrame) -> Table:
    """Tasks and accuracy of each system, averaged over its networks; in a sweep, over all configs."""
    span = f"{_SPAN} tasks (%)"
    table = Table(title="Online accuracy", title_justify="left")
    for name in ("setting", "system"):
        table.add_column(name, no_wrap=True)
    for name in ("networks", "tasks", f"first {span}", f"last {span}", "diverged"):
        table.add_column(name, justify="right")
    network = ["setting", "system", "config_id", "seed"]
    accuracy = pl.col("online_accuracy").sort_by("task")
    each = rows.group_by(network, maintain_order=True).agg(
        pl.len(), first=accuracy.head(_SPAN).mean(), last=accuracy.tail(_SPAN).mean(), lost=pl.col("diverged").any()
    )
    for part in each.partition_by("setting", "system", maintain_order=True):
        low, high = part["len"].min(), part["len"].max()
        mean = {name: part[name].fill_nan(None).mean() for name in ("first", "last")}
        table.add_row(
            part["setting"][0], part["system"][0], str(len(part)), f"{low}" if low == high else f"{low} to {high}",
            *("-" if value is None else f"{100 * float(value):.1f}" for value in mean.values()),  # type: ignore[arg-type]
            str(part["lost"].sum()),
        )  # fmt: skip
    return table


def outlook(folder: Path, content: manifest.Manifest, done: dict[str, int]) -> str:
    """Whether the run is finished or running, or how to resume it."""
    tasks = content["config"]["tasks"]
    finished = sum(task >= tasks for task in done.values())
    if lock.is_running(folder):
        return f"{finished} of {len(done)} stacks are finished; a run is in progress."
    if finished == len(done):
        return f"Finished. In Python: regrow.load({json.dumps(str(folder))})"
    again = shlex.join(["regrow", *resuming(folder, content)])
    return f"{finished} of {len(done)} stacks are finished; no run is in progress. To resume: {again}"


def resuming(folder: Path, content: manifest.Manifest, without: Sequence[str] = ()) -> list[str]:
    """The words of the last command, with the folder as it is called here, and without some of its options."""
    last = [dict(content), *content.get("continued", [])][-1]
    command = [str(word) for word in last.get("command") or content["command"]]
    for option in ("--out", *without):
        if option in command:
            place = command.index(option)
            del command[place : place + 2]
    out = f"./{folder}" if str(folder).startswith("-") else str(folder)
    return [*command, "--out", out]
