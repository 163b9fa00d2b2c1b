"""`regrow status`: how far a run is, and how to resume it."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from ..lab.runs import lock, manifest
from ..lab.runs.store import Store, load
from ..lab.runs.text import counted
from ..lab.studies import packing

_SPAN = 10  # tasks at either end


@dataclass(frozen=True)
class Status:
    """Show how far a run is, whether it is running now, and how to resume it."""

    folder: Annotated[Positional[Path], arg(metavar="DIR")]
    """folder that `regrow run` wrote"""

    def run(self) -> None:
        """Print it; changes nothing, and works during the run too."""
        console = Console()
        content = manifest.read(self.folder)
        config, tasks = content["config"], content["config"]["tasks"]
        store = Store(self.folder, content["study"])
        done = {plan.id: store.done(plan.id, tasks) for plan in packing.restore(content["packing"])}
        console.print(
            f"{content['study']} on {config['data']}: {counted(tasks, 'task')}, {counted(config['seeds'], 'seed')}"
            f"{', a sweep' * bool(config.get('sweep'))}; started {content['started']}, "
            f"version {content['version']}, torch {content['torch']}, {content['device']}.",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
        console.print(stacks(done, tasks))
        if any(done.values()):
            console.print(systems(load(self.folder)))
        console.print(outlook(self.folder, content, done), soft_wrap=True, highlight=False)


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


def outlook(folder: Path, content: dict[str, Any], done: dict[str, int]) -> str:
    """Whether the run is finished or running, or how to resume it."""
    tasks = content["config"]["tasks"]
    finished = sum(task >= tasks for task in done.values())
    if lock.is_running(folder):
        return f"{finished} of {len(done)} stacks are finished; a run is in progress."
    if finished == len(done):
        return f"Finished. In Python: regrow.load({json.dumps(str(folder))})"
    last = [content, *content.get("continued", [])][-1]
    return f"{finished} of {len(done)} stacks are finished; no run is in progress. To resume: " + shlex.join(
        ["regrow", *last["command"]]
    )
