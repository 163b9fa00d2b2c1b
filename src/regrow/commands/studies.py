"""`regrow studies`: what can be run, and how long it takes here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from ..lab.runs import local_engine, problems, progress, timing
from ..lab.runs.progress import counted
from ..lab.studies import STUDIES, TASKS, StackPlan, Study
from ..lab.studies.packing import count

_SECONDS = 2.5  # of training, for each of the two problems


@dataclass(frozen=True)
class Way:
    """One way to run a study: the words that ask for it, and what it trains."""

    words: str
    plans: Sequence[StackPlan]


@dataclass(frozen=True)
class Studies:
    """Tell which studies there are, what is in them, and how long each takes here."""

    tasks: int = TASKS
    """tasks of each network, where there are so many"""
    seeds: int = 1
    """networks of each system"""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """folder that holds CIFAR-100, or MNIST under mnist/"""

    def run(self) -> None:
        """Train for some five seconds, and print the table."""
        console = Console(highlight=False)
        permuted, vit = problems.PermutedJob(self.data), problems.ViTJob(self.data, problems.device("auto"))
        name = permuted.data()["data"]
        what = f"{counted(self.tasks, 'task')} of {name} for {counted(self.seeds, 'seed')}"
        console.print(f"{what}; time with {counted(local_engine.default_workers(), 'worker')}")
        for problem in (permuted, vit):
            own = [study for study in STUDIES.values() if problems.is_vit(study.settings) == (problem is vit)]
            ways = {study.name: self.ways(study, problem) for study in own}
            speeds, missing = _speeds(problem, [plan for chosen, *_ in ways.values() for plan in chosen.plans])
            for study in own:
                grid = Table.grid(padding=(0, 2))
                grid.add_row("  settings", " ".join(study.settings))
                grid.add_row("  systems", " ".join(study.systems))
                for way in ways[study.name]:
                    grid.add_row(f"  {way.words}", self.size(way.plans, problem, speeds))
                console.print(f"\n[bold]{study.name}[/bold]: {study.title}")
                console.print(grid)
                if missing:
                    console.print(f"  needs CIFAR-100: {missing}", markup=False, soft_wrap=True)

    def ways(self, study: Study, problem: problems.Problem) -> list[Way]:
        """As the values are chosen, and the sweeps that there are."""
        sweeps = {"--sweep": study.systems}
        if problems.is_vit(study.settings):  # the base first, on all classes at once
            methods = tuple(system for system in study.systems if system not in ("base", "scratch"))
            sweeps = {"--sweep, base": ("base",), "--sweep, methods": methods}
        asked = [("as chosen", study.systems, False), *((words, systems, True) for words, systems in sweeps.items())]
        return [
            Way(words, problem.pack(study.name, None, systems, self.seeds, sweep=sweep))
            for words, systems, sweep in asked
        ]

    def size(self, plans: Sequence[StackPlan], problem: problems.Problem, speeds: timing.Speeds) -> str:
        """How much there is to train, and how long it takes."""
        tasks = problem.tasks(plans, self.tasks)
        updates = problem.updates(plans, tasks)
        found = count(plans, 1, updates)
        made = f"{found.members:,} networks, {found.updates / 1e6:,.1f} million network-updates"
        if tasks != self.tasks:
            made = f"{counted(tasks, 'task')}, {made}"
        if not speeds:
            return made
        costs = [timing.estimate(plan, speeds) * updates for plan in plans]
        workers = local_engine.default_workers(problem.device)
        on = f" on {problem.device}" if problem.device != "cpu" else ""
        return f"{made}, about {progress.duration(timing.makespan(costs, workers))}{on}"


def _speeds(problem: problems.Problem, plans: Sequence[StackPlan]) -> tuple[timing.Speeds, str]:
    """What a short training tells; nothing, and why, where the images are missing."""
    try:
        problem.data()
    except FileNotFoundError as error:
        return {}, str(error)
    return timing.calibrate(plans, problem.make, _SECONDS), ""
