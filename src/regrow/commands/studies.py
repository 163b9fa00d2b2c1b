"""`regrow studies`: lists the studies, and how long each takes on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from ..lab.runs import local_engine, problems, timing
from ..lab.runs.text import counted, duration
from ..lab.studies import STUDIES, TASKS, StackPlan, Study
from ..lab.studies.packing import count
from .options import Data

_SECONDS = 2.5  # of training, for each of the two problems


@dataclass(frozen=True)
class Variant:
    """A way to run a study: its options, and what it trains."""

    options: str
    plans: Sequence[StackPlan]


@dataclass(frozen=True)
class Studies:
    """List the studies, what they contain, and how long each would take, timed by training for about five seconds."""

    tasks: int = TASKS
    """tasks per network that the times are for; fewer if the data allow fewer"""
    seeds: int = 1
    """number of seeds, each of which trains one network per system"""
    data: Data = None

    def run(self) -> None:
        """Train for about five seconds, and print the table."""
        console = Console(highlight=False)
        permuted, vit = problems.PermutedJob(self.data), problems.ViTJob(self.data, problems.device("auto"))
        name = permuted.data()["data"]
        title = f"{counted(self.tasks, 'task')} of {name} for {counted(self.seeds, 'seed')}"
        console.print(f"{title}; time with {counted(local_engine.default_workers(), 'worker')}")
        for problem in (permuted, vit):
            own = [study for study in STUDIES.values() if problems.is_vit(study.settings) == (problem is vit)]
            variants = {study.name: self.variants(study, problem) for study in own}
            speeds, missing = _speeds(problem, [plan for chosen, *_ in variants.values() for plan in chosen.plans])
            for study in own:
                grid = Table.grid(padding=(0, 2))
                grid.add_row("  settings", " ".join(study.settings))
                grid.add_row("  systems", " ".join(study.systems))
                for variant in variants[study.name]:
                    grid.add_row(f"  {variant.options}", self.size(variant.plans, problem, speeds))
                console.print(f"\n[bold]{study.name}[/bold]: {study.title}")
                console.print(grid)
                if missing:
                    console.print(f"  needs CIFAR-100: {missing}", markup=False, soft_wrap=True)

    def variants(self, study: Study, problem: problems.Problem) -> list[Variant]:
        """The run with the chosen values, and the sweeps."""
        if isinstance(problem, problems.PermutedJob):
            problem = replace(problem, pixels=study.pixels)
        sweeps = {"--sweep": study.systems}
        if problems.is_vit(study.settings):  # the base first, on all classes at once
            methods = tuple(system for system in study.systems if system not in ("base", "scratch"))
            sweeps = {"--sweep, base": ("base",), "--sweep, methods": methods}
        listed = [("as chosen", study.systems, False), *((name, systems, True) for name, systems in sweeps.items())]
        return [
            Variant(options, problem.pack(study.name, None, systems, self.seeds, sweep=sweep))
            for options, systems, sweep in listed
        ]

    def size(self, plans: Sequence[StackPlan], problem: problems.Problem, speeds: timing.Speeds) -> str:
        """The amount of training as text, with its estimated time if `speeds` are known."""
        tasks = problem.tasks(plans, self.tasks)
        updates = problem.updates(plans, tasks)
        total = count(plans, 1, updates)
        size = f"{total.members:,} networks, {total.updates / 1e6:,.1f} million network-updates"
        if tasks != self.tasks:
            size = f"{counted(tasks, 'task')}, {size}"
        if not speeds:
            return size
        costs = [timing.estimate(plan, speeds) * updates for plan in plans]
        workers = local_engine.default_workers(problem.device)
        on = f" on {problem.device}" if problem.device != "cpu" else ""
        return f"{size}, about {duration(timing.makespan(costs, workers))}{on}"


def _speeds(problem: problems.Problem, plans: Sequence[StackPlan]) -> tuple[timing.Speeds, str]:
    """Speeds measured by a short training; none, and the reason, where the images are missing."""
    try:
        problem.data()
    except FileNotFoundError as error:
        return {}, str(error)
    return timing.calibrate(plans, problem.make, _SECONDS), ""
