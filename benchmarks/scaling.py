"""Does the cost of training grow with the work and no faster? Time by tasks, members and weights; a worker's memory.

    python benchmarks/scaling.py [--data DIR] [--rounds 5] [--updates 200] [--json FILE]

Time is the processor's, of one thread. All sizes are timed once in every round, and a line is fitted to the logarithms
of each round: its slope is 1 where time is in proportion, and less where more of it fills the processor better. Figures
are medians over the rounds, of slopes with their quartiles; `each_over_least` is the time of one task, network or
weight beside that of the smallest size. Memory is the peak resident size of a fresh process that trains a stack with
all measures and renewals, in GiB. Tasks are of `--updates` updates; the paper's have 2,000.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from timing import Rows, tell

from regrow.lab.data.mnist import Images
from regrow.lab.mlp.trainer import Trainer
from regrow.lab.problems.permuted import MNIST, Course, PermutedImages
from regrow.lab.runs.timing import as_workers_do
from regrow.lab.speed import CLASSES, PIXELS, like_mnist, seconds
from regrow.lab.studies import Member, Setting, StackPlan
from regrow.lab.studies.permuted_values import chosen

TASKS, MEMBERS = (1, 2, 4), {"large": (4, 8, 16, 32), "small": (8, 16, 32, 64)}
HIDDEN, WIDTHS = {"large": 100, "small": 10}, (50, 100, 200, 400)
STACK = 8  # members where it is not them that are compared
MEMORY = {"large": (8, 32), "small": (64, 128)}  # members: of a worker's stacks or more
SLOPE, GIB = 1.1, 2.0
"""At most: the slope, and what a worker takes."""

Sizes = Mapping[int, Callable[[], object]]
"""{how much there is to do: what does it}"""


def trainer(problem: PermutedImages, hidden: int, members: int, system: str = "base", **changed: int) -> Trainer:
    name = "small" if hidden == HIDDEN["small"] else "large"
    member = Member(system, dict(chosen(name, system)) | changed, 0)
    return Trainer(StackPlan("bench", Setting(name, hidden, False, "sgd"), 0, (member,) * members), problem)


def weights(hidden: int) -> int:
    """Of one network, biases included."""
    sizes = (PIXELS, hidden, hidden, hidden, CLASSES)
    return sum((i + 1) * o for i, o in zip(sizes[:-1], sizes[1:], strict=True))


def sweeps(problem: PermutedImages, updates: int) -> dict[str, Sizes]:
    """What is timed, by what there is more and more of."""

    def train(hidden: int, members: int) -> Callable[[], object]:
        one = trainer(problem, hidden, members)
        one.run_updates(10)
        return lambda: one.run_updates(updates)

    task = trainer(problem, HIDDEN["large"], STACK)
    found: dict[str, Sizes] = {"tasks": {n: lambda n=n: [task.run_task() for _ in range(n)] for n in TASKS}}
    for name, sizes in MEMBERS.items():
        found[f"members, {name}"] = {n: train(HIDDEN[name], n) for n in sizes}
    found["weights"] = {weights(hidden): train(hidden, STACK) for hidden in WIDTHS}
    return found


def times(found: Mapping[str, Sizes], rounds: int) -> Rows:
    """A row for each size, and for each sweep the slope of its line."""
    spent: dict[str, dict[int, list[float]]] = {name: {size: [] for size in sizes} for name, sizes in found.items()}
    for turn in range(rounds):
        for name, sizes in found.items():
            for size in sorted(sizes, reverse=turn % 2 == 1):
                spent[name][size].append(seconds(sizes[size]))
    rows: Rows = {}
    for name, by_size in spent.items():
        least = statistics.median(by_size[min(by_size)]) / min(by_size)
        for size, took in by_size.items():
            middle = statistics.median(took)
            rows[f"{name}: {size:,}"] = {"seconds": middle, "each_over_least": middle / size / least}
        low, middle, high = np.quantile(slopes(by_size), (0.25, 0.5, 0.75)).tolist()
        rows[f"{name}: slope"] = {"slope": middle, "low": low, "high": high, "bar": SLOPE, "rounds": rounds}
    return rows


def slopes(by_size: Mapping[int, Sequence[float]]) -> list[float]:
    """Of the line through the logarithms of size and time, of each round."""
    logs = [math.log(size) for size in by_size]
    return [float(np.polyfit(logs, np.log(took), 1)[0]) for took in zip(*by_size.values(), strict=True)]


def problem_of(data: Path | None, updates: int) -> PermutedImages:
    images: Images = like_mnist(data, quick=False)
    return PermutedImages(images, Course(updates * MNIST.batch, MNIST.batch))


def memory_probe(data: Path | None, updates: int, hidden: int, members: int, tasks: int) -> None:
    """In a fresh process: the peak resident size of one that trains SWR, which keeps what it renewed, renewing."""
    with as_workers_do():
        one = trainer(problem_of(data, updates), hidden, members, "swr", every=updates // 4)
        for _ in range(tasks):
            one.run_task()
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))  # KiB on Linux


def memory(data: Path | None, updates: int) -> Rows:
    """Peaks of stacks of several sizes, and after more tasks."""
    cases = [(HIDDEN[name], members, TASKS[0]) for name, sizes in MEMORY.items() for members in sizes]
    cases += [(HIDDEN["large"], STACK, TASKS[-1]), (WIDTHS[-1], STACK, TASKS[0])]
    rows: Rows = {}
    for case in cases:
        folder = ["--data", str(data)] if data else []
        command = [sys.executable, __file__, *folder, "--updates", str(updates), "--memory-probe", *map(str, case)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        hidden, members, tasks = case
        rows[f"memory: {members} networks of {hidden} units a layer, tasks {tasks}"] = {
            "peak_gib": json.loads(out), "bar": GIB
        }  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds mnist/; default: embedded digits, enlarged")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=200, help="of a task, and of a moment of training")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-probe", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    data, updates = arguments.data, arguments.updates
    if arguments.memory_probe:
        return memory_probe(data, updates, *arguments.memory_probe)
    rows = memory(data, updates)  # first: a process that a large one starts reports the large one's peak
    with as_workers_do():
        rows |= times(sweeps(problem_of(data, updates), updates), arguments.rounds)
    tell(rows, "python benchmarks/scaling.py", arguments.json)


if __name__ == "__main__":
    main()
