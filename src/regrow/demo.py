"""`regrow demo`: a network loses the ability to learn, and five ways to keep it, on real images in a minute and a half.

It trains the six systems of the paper, equal networks on the same stream of tasks, with the public interface alone.
"""

import contextlib
import copy
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch.nn import functional as F
from tyro.conf import arg

import regrow

from .lab.nets import MLP
from .lab.problems.data import Images, load_digits_images, load_mnist
from .lab.problems.permuted import PermutedStreams
from .lab.side_by_side import SideBySide
from .report.figures import accuracy_by_task
from .report.stats import Estimate, estimate
from .report.style import SYSTEMS

MAINTAINERS = {
    "base": None,
    "l2": lambda net, plan: regrow.ShrinkPerturb(net, shrink=plan.shrink),
    "shrink-perturb": lambda net, plan: regrow.ShrinkPerturb(
        net, shrink=plan.shrink, noise_variance=plan.noise_variance, seed=0
    ),
    "cbp": lambda net, plan: regrow.ContinualBackprop(net, replacement_rate=1e-3, maturity=10, seed=0),
    "redo": lambda net, plan: regrow.ReDo(net, every=64, threshold=3e-3, seed=0),
    "swr": lambda net, plan: regrow.SWR(net, every=256, factor=1e-3, seed=0),
}
# CBP and ReDo are set as the baselines are: best of eight pairs of rate and maturity, and of nine of frequency and
# threshold, by mean online accuracy over 150 tasks of digits and two seeds.
# One process for each of two cores. Noise at every update costs as much as the other three systems together.
HERE, BESIDE = ("base", "l2", "redo", "swr"), ("shrink-perturb", "cbp")
MARGIN = 0.01  # a loss below one point counts as none

Accuracy = dict[str, np.ndarray]
"""{system: online accuracy of shape (seeds, tasks)}"""


@dataclass(frozen=True)
class Plan:
    """What every system goes through."""

    tasks: int
    noise_variance: float
    shrink: float = 2e-4
    passes: int = 2
    updates: int = 112  # a pass
    batch: int = 16
    hidden: int = 32
    step_size: float = 0.05
    seeds: int = 3
    span: int = 30  # tasks at either end that the verdict compares


# Shrink and noise are the best by mean online accuracy, as the paper chose its own. Digits, 300 tasks and three seeds:
# first shrink alone, of ten values from 1e-5 to 1e-3, then with it the variance, of five from 1e-6 to 3e-5. MNIST, with
# that shrink: the variance, of 1e-8 to 1e-5 in decades. As many tasks as two cores do in a minute and a half.
DIGITS, MNIST = Plan(tasks=200, noise_variance=1e-5), Plan(tasks=60, noise_variance=1e-7)


@dataclass(frozen=True)
class Demo:
    """Show on a stream of tasks that a network loses the ability to learn, and what keeps it: a minute and a half."""

    out: Annotated[Path, arg(metavar="DIR")] = Path("regrow-demo")
    """folder for the picture"""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """folder that holds MNIST's four files under mnist/, to use them in place of scikit-learn's digits"""

    def run(self) -> None:
        """Train, and print table, verdict and where the picture is."""
        console = Console()
        self.out.mkdir(parents=True, exist_ok=True)
        name, plan = ("digits", DIGITS) if self.data is None else ("MNIST", MNIST)
        images = load(self.data)
        console.print(
            f"{plan.tasks} tasks: pixels permuted anew, {plan.passes} passes over {plan.batch * plan.updates:,} of "
            f"{len(images.labels):,} {name} images. {len(MAINTAINERS)} systems x {plan.seeds} seeds. "
            "It takes about a minute and a half on two free cores."
        )
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as beside, following(console, plan) as follow:
            others = beside.submit(train, self.data, plan, BESIDE)
            accuracy, reports = train(self.data, plan, HERE, follow)
            accuracy |= others.result()[0]
        accuracy = {system: accuracy[system] for system in MAINTAINERS}
        console.print(table(accuracy, plan.span))
        swr = reports["swr"]
        console.print(
            f"SWR renewed {swr['renewals']:.0f} times; at the last {swr['share_last']:.0%} of all entries, of which "
            f"{swr['zero_share_last']:.0%} had a utility of exactly 0."
        )
        console.print(verdict(accuracy, plan.span), style="bold")
        picture = self.out / "accuracy.png"
        accuracy_by_task(accuracy, picture, f"Online accuracy on permuted {name}")
        console.print(f"Picture: {picture}", soft_wrap=True)


def load(data: Path | None) -> Images:
    """MNIST's training images from a folder, or the embedded digits."""
    return load_digits_images() if data is None else load_mnist(data)[0]


def train(
    data: Path | None,
    plan: Plan,
    systems: Sequence[str],
    follow: Callable[[int, Accuracy], None] | None = None,
) -> tuple[Accuracy, dict[str, dict[str, float]]]:
    """Train some systems and all seeds at once.

    A seed fixes the initial weights, the permutations and the order of the images, the same for all systems.

    Args:
        data: as for `load`.
        plan: what they go through.
        systems: of `MAINTAINERS`.
        follow: called after each task with the number of tasks done and the accuracy on them.

    Returns:
        Accuracy on each batch before its update, the mean over each task; what each maintainer reports.
    """
    torch.set_num_threads(1)  # the networks are too small to share
    images = load(data)
    generators = [torch.Generator().manual_seed(seed) for seed in range(plan.seeds)]
    networks = [MLP(hidden=plan.hidden, inputs=images.pixels.shape[1], generator=g) for g in generators]
    nets = SideBySide({system: copy.deepcopy(networks) for system in systems}, apart=["cbp", "redo", "swr"])
    optimizer = torch.optim.SGD(nets.parameters(), lr=plan.step_size, fused=True)
    keepers = {s: make(nets[s], plan).attach(optimizer) for s in systems if (make := MAINTAINERS[s])}
    streams = PermutedStreams(images, generators, batch=plan.batch, updates=plan.updates)

    accuracy = np.empty((len(systems), plan.seeds, plan.tasks))
    for task in range(plan.tasks):
        streams.next_task()
        accuracy[:, :, task] = np.mean([one_pass(nets, optimizer, streams) for _ in range(plan.passes)], 0)
        if follow:
            follow(task + 1, dict(zip(systems, accuracy[:, :, : task + 1], strict=True)))
    reports = {system: keeper.report() for system, keeper in keepers.items()}
    return dict(zip(systems, accuracy, strict=True)), reports


def one_pass(nets: SideBySide, optimizer: torch.optim.Optimizer, streams: PermutedStreams) -> np.ndarray:
    """Show every network its images once; returns the online accuracy (systems, seeds)."""
    inputs, labels = (each.repeat(1, len(nets), *[1] * (each.dim() - 2)) for each in streams.one_pass())
    outputs = []
    for x, y in zip(inputs, labels, strict=True):
        logits = nets(x)
        nets.zero_grad()
        (F.cross_entropy(logits, y, reduction="sum") / y.shape[1]).backward()  # the sum of the networks' mean losses
        optimizer.step()
        outputs.append(logits.detach())
    right = torch.stack(outputs).argmax(2) == labels
    return right.float().mean((0, 2)).view(len(nets), -1).numpy()


@contextlib.contextmanager
def following(console: Console, plan: Plan) -> Iterator[Callable[[int, Accuracy], None]]:
    """Show how far it is: a moving bar on a terminal, now and then a line elsewhere."""

    def recent(accuracy: Accuracy) -> str:
        return "  ".join(f"{SYSTEMS[s].label} {values[:, -plan.span :].mean():.1%}" for s, values in accuracy.items())

    def line(done: int, accuracy: Accuracy) -> None:
        if done % plan.span == 0:
            console.print(f"task {done:3d} of {plan.tasks}: {recent(accuracy)}")

    if not console.is_terminal:
        yield line
        return
    with Progress(*Progress.get_default_columns(), console=console) as progress:
        bar = progress.add_task("", total=plan.tasks)
        yield lambda done, accuracy: progress.update(bar, completed=done, description=recent(accuracy))


def table(accuracy: Accuracy, span: int) -> Table:
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


def verdict(accuracy: Accuracy, span: int) -> str:
    """What the numbers say of SWR: paired by seed, first against last tasks, 95 % intervals.

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
    doubts = [text for text, holds in conditions.items() if not holds]
    if doubts:
        return f"Verdict: this run does not show {', nor '.join(doubts)}."
    return (
        f"Verdict: SWR keeps the network able to learn. From the first to the last {span} tasks base changed by "
        f"{_interval(base)} points of accuracy, SWR by {_interval(swr)}; SWR ends {_interval(ahead)} points above base."
    )


def _interval(x: Estimate) -> str:
    return f"{100 * x.mean:+.1f} [{100 * x.low:+.1f}, {100 * x.high:+.1f}]"
