"""How fast is the laboratory? Beside the authors' way to train and a JAX twin, in one process and one run.

    python benchmarks/lab.py [--data DIR] [--rounds 11] [--tasks 3] [--json FILE]

All run on one core with one thread, each once in every round; figures are medians over the rounds, ratios of the same
round with their quartiles. Times are the processor's, so that what else runs here does not count, in milliseconds per
update of one network. First updates alone, where each may choose its size of stack, then whole tasks of 2,000 updates:
the authors' loop and the twin permute all images when a task begins, the laboratory permutes weights, and it takes all
its measures.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from authors_loop import AuthorsLoop
from jax_twin import JaxTwin, jax
from timing import Rows, tell

from regrow.lab.data.mnist import Images
from regrow.lab.runs.timing import as_workers_do
from regrow.lab.speed import TimedStack, like_mnist, seconds

HIDDEN = {"large": 100, "small": 10}
SIZES = {"large": (8, 16, 32), "small": (64, 128, 256)}
BARS = {"authors, large": 6.0, "authors, small": 40.0, "jax, large": 1.1, "jax, small": 1.1}
"""How many times as fast as each opponent the laboratory should be."""
TASK, WINDOW = 2_000, 100

Timed = Callable[[], float]
Sides = Mapping[str, Timed]


def ours(images: Images, network: str, members: int, system: str = "base") -> tuple[Timed, Timed]:
    """Milliseconds per network-update: of a moment of updates, of a whole task."""
    stack = TimedStack(images, network, system, members)
    stack.ms(WINDOW if system == "base" else 600)  # past CBP's maturity threshold
    return lambda: stack.ms(WINDOW), stack.task_ms


def authors(images: Images, network: str, system: str = "base", permute: str = "task") -> tuple[Timed, Timed]:
    loop = AuthorsLoop(images, system, hidden=HIDDEN[network], permute=permute)
    loop.run(WINDOW if system == "base" else 600)

    def ms(updates: int) -> float:
        return 1e3 * seconds(lambda: loop.run(updates)) / updates

    return lambda: ms(3 * WINDOW), lambda: ms(TASK)  # which permutes all images once


def twin(images: Images, network: str, members: int) -> tuple[Timed, Timed]:
    trained = JaxTwin(images, members, hidden=HIDDEN[network], window=WINDOW)
    trained.run()  # compiles

    def task() -> None:
        trained.next_task()
        trained.run(TASK // WINDOW)

    def ms(work: Callable[[], object], updates: int) -> float:
        return 1e3 * seconds(work) / (updates * members)

    return lambda: ms(trained.run, WINDOW), lambda: ms(task, TASK)


def in_rounds(sides: Sides, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each side in each round, every other round in the opposite order."""
    names = list(sides)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            times[name].append(sides[name]())
    return {name: np.array(ms) for name, ms in times.items()}


def best(times: Mapping[str, np.ndarray], side: str) -> str:
    """The name of a side's contestant with the lowest median."""
    return min((name for name in times if name.startswith(side)), key=lambda name: np.median(times[name]))


def rows(times: Mapping[str, np.ndarray], network: str, what: str) -> Rows:
    """Every contestant's time, and how many times as fast as it our best is."""
    first = best(times, "ours")
    found: Rows = {}
    for name, ms in times.items():
        low, middle, high = np.quantile(ms / times[first], (0.25, 0.5, 0.75)).tolist()
        row = {"ms": statistics.median(ms), "ours_faster": middle, "low": low, "high": high, "rounds": len(ms)}
        side = name.split(",")[0]
        if name == best(times, side) and f"{side}, {network}" in BARS and what == "updates":
            row["bar"] = BARS[f"{side}, {network}"]
        found[f"{network}, {what}: {name}"] = row
    return found


def compare(images: Images, network: str, rounds: int, tasks: int) -> Rows:
    """The base system in stacks of several sizes, beside both opponents."""
    sides = {f"ours, {n} networks": ours(images, network, n) for n in SIZES[network]}
    sides |= {f"authors, permuted by {p}": authors(images, network, permute=p) for p in ("task", "sample")}
    sides |= {f"jax, {n} networks": twin(images, network, n) for n in SIZES[network]}
    times = in_rounds({name: moment for name, (moment, _) in sides.items()}, rounds)
    winners = {side: best(times, side) for side in ("ours", "authors", "jax")}
    whole = in_rounds({name: sides[name][1] for name in winners.values()}, tasks)
    return rows(times, network, "updates") | rows(whole, network, "whole tasks")


def renewing(images: Images, system: str, rounds: int) -> Rows:
    """CBP or ReDo, which the authors' loop renews in hooks."""
    sides = {"ours, 8 networks": ours(images, "large", 8, system)[0], "authors": authors(images, "large", system)[0]}
    return rows(in_rounds(sides, rounds), f"large-{system}", "updates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds mnist/; default: embedded digits, enlarged")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--tasks", type=int, default=3, help="rounds of whole tasks")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before XLA starts its threads
    images = like_mnist(arguments.data, quick=False)
    with as_workers_do():
        found = compare(images, "large", arguments.rounds, arguments.tasks)
        found |= compare(images, "small", arguments.rounds, arguments.tasks)
        found |= renewing(images, "cbp", arguments.rounds) | renewing(images, "redo", arguments.rounds)
    tell(found, f"python benchmarks/lab.py (jax {jax.__version__})", arguments.json)


if __name__ == "__main__":
    main()
