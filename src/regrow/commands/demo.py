"""`regrow demo`: how a network loses the ability to learn, and five methods that keep it, in a minute and a half.

It trains the six systems of the paper on real images in the laboratory, equal networks on the same streams of tasks.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from ..lab import kernels
from ..lab.data.mnist import Images, load_digits_images, load_mnist
from ..lab.mlp.arithmetic import ARITHMETIC
from ..lab.mlp.trainer import Trainer
from ..lab.problems.permuted import Course
from ..lab.runs import engine, local_engine, lock, manifest, progress, timing
from ..lab.runs.store import Store
from ..lab.runs.tables import load
from ..lab.studies import Member, Setting, StackPlan
from ..report.stats import Estimate, estimate
from ..report.style import SETTINGS, SUBTITLE, SYSTEMS
from .options import Directory

SETTING = Setting("demo", 32, False, "sgd")
COURSE = Course(images=1_792, batch=16, passes=2)
MARGIN = 0.01  # a loss below one point counts as none

Accuracy = dict[str, np.ndarray]
"""{system: online accuracy of shape (seeds, tasks)}"""


@dataclass(frozen=True)
class Plan:
    """The training that every system goes through."""

    tasks: int
    noise_variance: float
    seeds: int = 4
    span: int = 30  # tasks at either end that the verdict compares
    shrink: float = 2e-4

    def configs(self) -> dict[str, dict[str, Any]]:
        """{system: hyper-parameters}"""
        systems: dict[str, dict[str, Any]] = {
            "base": {},
            "l2": {"decay": self.shrink},
            "shrink-perturb": {"decay": self.shrink, "noise_variance": self.noise_variance},
            "cbp": {"replacement_rate": 1e-3, "maturity": 10, "utility": "contribution"},
            "redo": {"every": 64, "threshold": 3e-3, "utility": "activation"},
            "swr": {"every": 256, "factor": 1e-3, "utility": "gradient", "prune": "threshold", "reinit": "resample"},
        }
        common = {"step_size": 0.05, "decay": 0.0, "noise_variance": 0.0, "source": "ours"}
        return {system: common | own for system, own in systems.items()}

    def stacks(self) -> list[StackPlan]:
        """One stack for each seed."""
        configs = self.configs()
        return [
            StackPlan(f"demo.seed{seed}", SETTING, seed, tuple(Member(s, c, seed) for s, c in configs.items()))
            for seed in range(self.seeds)
        ]


# Every system is tuned as in the paper: the best by mean online accuracy. Digits: shrink of ten values from 1e-5 to
# 1e-3, then with it the variance, of five from 1e-6 to 3e-5 (300 tasks, three seeds); CBP of eight pairs of rate and
# maturity, ReDo of nine of frequency and threshold (150 tasks, two seeds). MNIST, with that shrink: the variance, of
# 1e-8 to 1e-5 in decades.
DIGITS, MNIST = Plan(tasks=200, noise_variance=1e-5), Plan(tasks=60, noise_variance=1e-7)


@dataclass(frozen=True)
class Demo:
    """Show how a network loses the ability to learn on a stream of tasks, and what prevents it, in about 90 seconds."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("regrow-demo")
    """folder for the results and the figure"""
    data: Directory = None
    """folder that holds mnist/ with MNIST's four files; default: scikit-learn's digits, whatever REGROW_DATA says"""

    def run(self) -> None:
        """Train, and print the table, the verdict and the path of the figure."""
        console = Console()
        name, plan = ("digits", DIGITS) if self.data is None else ("MNIST", MNIST)
        images = _images(self.data)
        console.print(
            "A network that learns task after task slowly loses the ability to learn: the system base. Five others "
            "renew or restrain its weights. The demo trains all six, and judges SWR, selective weight reinitialization."
        )
        console.print(
            f"{plan.tasks} tasks: new pixel permutations, {COURSE.passes} passes over {COURSE.images:,} of "
            f"{len(images.labels):,} {name} images. {len(plan.configs())} systems x {plan.seeds} seeds. "
            "This takes about a minute and a half on two free cores."
        )
        rows = train(plan, self.data, self.out, console)
        accuracy = by_task(rows, plan)
        picture = self.out / "accuracy.png"
        accuracy_by_task(accuracy, picture, f"Online accuracy on permuted {name}", made_by(plan, name))
        console.print(f"Picture: {picture}", soft_wrap=True)
        console.print(table(accuracy, plan.span))
        console.print(renewals(rows))
        console.print(verdict(accuracy, plan.span), style="bold")


def made_by(plan: Plan, data: str) -> str:
    """What a picture was drawn from, to be kept in its file: a picture of other values or arithmetic is out of date."""
    return json.dumps({"data": data, "arithmetic": ARITHMETIC} | dataclasses.asdict(plan) | plan.configs())


@dataclass(frozen=True)
class DemoMaker:
    """Makes the trainers, in any process."""

    data: Path | None

    def __call__(self, plan: StackPlan, progress: Callable[[int], None] | None = None) -> Trainer:
        return Trainer(plan, _images(self.data), course=COURSE, progress=progress)


@functools.cache
def _images(data: Path | None) -> Images:
    return load_digits_images() if data is None else load_mnist(data)[0]


def train(plan: Plan, data: Path | None, folder: Path, console: Console) -> pl.DataFrame:
    """Train what is not stored in the folder yet; returns the rows of the results."""
    source = {"data": "digits" if data is None else "mnist"}
    stacks, store = plan.stacks(), Store(folder, "demo", data=source)
    config = {"tasks": plan.tasks, "seeds": plan.seeds} | source
    manifest.open_folder(folder)
    with lock.sole_run(folder):
        manifest.begin(folder, manifest.describe("demo", config, stacks, "cpu", ["demo"]))
        store.prepare()
        done, set_aside = store.survey(stacks, plan.tasks)
        for line in set_aside:
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        workers = min(local_engine.default_workers(), len(stacks))
        make = DemoMaker(data)
        with kernels.compiling() as compiled:
            speeds = timing.calibrate(stacks, make, seconds=0.5)
        if compiled() > 1:
            console.print(f"Compiling the inner loops took {compiled():.0f} s; the compiled code is kept.")
        expected = {stack.id: timing.estimate(stack, speeds) * COURSE.updates_a_task for stack in stacks}
        shown = progress.Progress(stacks, plan.tasks, COURSE.updates_a_task, expected, done, workers)
        with progress.showing(shown, console):
            engine.run(stacks, make, store, tasks=plan.tasks, workers=workers, observer=shown)
    return load(folder)


def by_task(rows: pl.DataFrame, plan: Plan) -> Accuracy:
    """The online accuracy of each system over its tasks."""
    return {
        system: rows.filter(pl.col("system") == system)
        .sort("seed", "task")["online_accuracy"]
        .to_numpy()
        .reshape(plan.seeds, plan.tasks)
        for system in plan.configs()
    }


def renewals(rows: pl.DataFrame) -> str:
    """What SWR renewed, in a sentence."""
    total = rows.filter((pl.col("system") == "swr") & (pl.col("renewals") > 0)).select(
        pl.col("renewals", "renewed", "renewed_zero").sum()
    )
    events, renewed, zero = total.row(0)
    if not events:
        return "SWR renewed nothing."
    share = f"{zero / renewed:.0%}"
    return f"SWR renewed {renewed / events:,.0f} entries at a time, of which {share} had a utility of exactly 0."


def table(accuracy: Mapping[str, np.ndarray], span: int) -> Table:
    """First and last tasks of each system, in percent, with standard errors over the seeds."""
    shown = Table("accuracy (%) ± s.e.", f"first {span} tasks", f"last {span} tasks", "change", "last, minus base")
    for system, values in accuracy.items():
        last, first, against = (x.mean(1) for x in (values[:, -span:], values[:, :span], accuracy["base"][:, -span:]))
        cells = [_cell(first), _cell(last), _cell(last - first, "+")]
        shown.add_row(SYSTEMS[system].label, *cells, "" if system == "base" else _cell(last - against, "+"))
    return shown


def _cell(samples: np.ndarray, sign: str = "") -> str:
    mean, error, *_ = estimate(100 * samples)
    return f"{mean:{sign}.1f} ± {error:.1f}"


def verdict(accuracy: Mapping[str, np.ndarray], span: int) -> str:
    """The verdict on SWR: paired by seed, first against last tasks, 95 % intervals.

    Positive only where the base system lost accuracy, SWR lost less than a point, and SWR ends above base.
    """
    first = {s: accuracy[s][:, :span].mean(1) for s in ("base", "swr")}
    last = {s: accuracy[s][:, -span:].mean(1) for s in ("base", "swr")}
    base, swr = (estimate(last[s] - first[s]) for s in ("base", "swr"))
    ahead = estimate(last["swr"] - last["base"])
    conditions = {
        f"that the base system loses accuracy (change {_interval(base)})": base.high < 0,
        f"that SWR loses less than {100 * MARGIN:.0f} point (change {_interval(swr)})": swr.low > -MARGIN,
        f"that SWR ends above base (difference {_interval(ahead)})": ahead.low > 0,
    }
    failed = [text for text, holds in conditions.items() if not holds]
    if failed:
        return f"Verdict: this run does not show {', nor '.join(failed)}."
    return (
        f"Verdict: SWR keeps the network able to learn. From the first to the last {span} tasks base changed by "
        f"{_interval(base)} points of accuracy, SWR by {_interval(swr)}; SWR ends {_interval(ahead)} points above base."
    )


def _interval(x: Estimate) -> str:
    return f"{100 * x.mean:+.1f} [{100 * x.low:+.1f}, {100 * x.high:+.1f}]"


WINDOW = 10  # tasks in a running mean


def accuracy_by_task(accuracy: Mapping[str, np.ndarray], path: Path, title: str, origin: str) -> None:
    """Draw the online accuracy of each system over the tasks.

    Thin: each task, mean over seeds. Bold: running mean of 10 tasks, with a band of one standard error over seeds.

    Args:
        accuracy: {system: (seeds, tasks)}, in [0, 1]; systems of `style.SYSTEMS`, at least two seeds.
        path: PNG to write.
        title: one line.
        origin: kept in the file; see `made_by`.
    """
    seeds = min(len(values) for values in accuracy.values())
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.add_subplot()
        ends = {system: _draw(axes, system, 100 * values) for system, values in accuracy.items()}
        _label(axes, ends)
        axes.set(title=title, xlabel="task", ylabel="online accuracy (%)")
        axes.set_title(f"mean of {seeds} seeds; bold: over {WINDOW} tasks, ± standard error", loc="right", **SUBTITLE)
        axes.margins(x=0.01)
        figure.savefig(path, metadata={"Description": origin})


def _draw(axes: Axes, system: str, values: np.ndarray) -> float:
    """One system, in percent; returns where its bold line ends."""
    look, (seeds, tasks) = SYSTEMS[system], values.shape
    window = min(WINDOW, tasks)
    smooth = np.lib.stride_tricks.sliding_window_view(values, window, axis=1).mean(-1)
    mean, error = smooth.mean(0), smooth.std(0, ddof=1) / np.sqrt(seeds)
    middle = np.arange(len(mean)) + (window + 1) / 2
    axes.plot(np.arange(1, tasks + 1), values.mean(0), color=look.colour, linewidth=0.6, alpha=0.4)
    axes.fill_between(middle, mean - error, mean + error, color=look.colour, alpha=0.2, linewidth=0)
    axes.plot(middle, mean, color=look.colour, linestyle=look.dashes)
    return float(mean[-1])


def _label(axes: Axes, ends: Mapping[str, float]) -> None:
    """Name each line at its right end, names pushed apart where lines meet."""
    low, high = axes.get_ylim()
    gap, height = 0.055 * (high - low), -np.inf
    for system, end in sorted(ends.items(), key=lambda item: item[1]):
        height = max(end, height + gap)
        look = SYSTEMS[system]
        place = (1.01, (height - low) / (high - low))
        axes.annotate(look.label, place, xycoords="axes fraction", color=look.colour, va="center", weight="bold")
    axes.set_ylim(low, high)
