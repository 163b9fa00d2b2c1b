"""`regrow studies`: what can be run, and how long it takes here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from . import calibrate, engine, progress
from .packing import count, pack
from .problems.data import load_images
from .progress import counted
from .run_command import Maker
from .studies import SETTINGS, STUDIES, TASKS
from .train import course_for

_SECONDS = 5.0


@dataclass(frozen=True)
class Studies:
    """Tell which studies there are, what is in them, and how long each takes here."""

    tasks: int = TASKS
    """tasks of each network"""
    seeds: int = 1
    """networks of each system"""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """folder that holds MNIST's four files under mnist/"""

    def run(self) -> None:
        """Train for some five seconds, and print the table."""
        console = Console(highlight=False)
        name, images = load_images(self.data)
        course, workers = course_for(images), engine.default_workers()
        updates = course.updates_a_task
        studies = {name: study for name, study in STUDIES.items() if set(study.settings) <= set(SETTINGS)}
        plans = {
            (study, sweep): pack(
                study, systems=None, seeds=self.seeds, sweep=sweep, ratio=course.ratio
            )
            for study in studies
            for sweep in (False, True)
        }  # fmt: skip
        every = [plan for (_, sweep), packed in plans.items() for plan in packed if not sweep]
        speeds = calibrate.calibrate(every, Maker(self.data), _SECONDS)
        what = f"{counted(self.tasks, 'task')} of {name} for {counted(self.seeds, 'seed')}"
        console.print(f"{what}; time with {counted(workers, 'worker')}")
        for study in studies.values():
            grid = Table.grid(padding=(0, 2))
            grid.add_row("  settings", " ".join(study.settings))
            grid.add_row("  systems", " ".join(study.systems))
            for sweep in (False, True):
                packed = plans[study.name, sweep]
                size = count(packed, self.tasks, updates)
                costs = [calibrate.estimate(plan, speeds) * updates * self.tasks for plan in packed]
                time = progress.duration(calibrate.makespan(costs, workers))
                how = "  --sweep" if sweep else "  as chosen"
                made = f"{size.updates / 1e6:,.1f} million network-updates"
                grid.add_row(how, f"{size.members:,} networks, {made}, about {time}")
            console.print(f"\n[bold]{study.name}[/bold]: {study.title}")
            console.print(grid)
