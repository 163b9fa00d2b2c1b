"""What do the unit methods cost? Training steps with and without them, on the paper's ViT and MLP, side by side.

    python benchmarks/unit_step.py [--networks NAME …] [--pairs 11] [--json FILE]

A training step is forward, backward and optimizer step in one thread. Two equal networks alternate, one bare and one
maintained; the extra time is the difference of each pair. Where nothing is due the maintainer counts the update and
finds that; where something is due it also watches the forward pass and renews.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from timing import Rows, seconds, tell
from torch import nn

import regrow
from regrow.lab.nets import MLP, ViT

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "ViT, batch 90": (ViT, (90, 3, 32, 32), 100, 1),
    "MLP, batch 30": (MLP, (30, 784), 10, 300),
}
MAINTAINERS: dict[str, Callable[[nn.Module], regrow.maintain.Maintainer]] = {
    "CBP, nothing due": lambda m: regrow.ContinualBackprop(m, replacement_rate=1e-9, maturity=10_000),
    "CBP, one unit a layer due": lambda m: regrow.ContinualBackprop(m, replacement_rate=0.01, maturity=0),
    "ReDo, nothing due": lambda m: regrow.ReDo(m, every=1_000_000, threshold=0.01),
    "ReDo, a renewal due": lambda m: regrow.ReDo(m, every=1, threshold=1e-3),
}


def measure(network: str, maintainer: str, pairs: int) -> dict[str, float]:
    """Extra milliseconds of a maintained training step, and their share of a bare one."""
    build, shape, classes, repeats = NETWORKS[network]
    x, y = torch.randn(shape), torch.randint(classes, shape[:1])

    def trainer(kept: bool) -> Callable[[], None]:
        torch.manual_seed(0)
        model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        if kept:
            MAINTAINERS[maintainer](model).attach(optimizer)

        def steps() -> None:
            for _ in range(repeats):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()

        return steps

    bare, kept = trainer(False), trainer(True)
    bare(), kept()
    times = [(seconds(kept), seconds(bare)) for _ in range(pairs)]
    extra = statistics.median(1e3 * (a - b) / repeats for a, b in times)
    step = statistics.median(1e3 * b / repeats for _, b in times)
    return {"extra_ms": extra, "step_ms": step, "share": extra / step, "pairs": pairs}


def overhead(network: str, maintainer: str, pairs: int) -> dict[str, float]:
    """The maintainer's own work alone: its call after a step, with the forward pass's sums already taken."""
    build, shape, classes, _ = NETWORKS[network]
    model = build()
    kept = MAINTAINERS[maintainer](model)
    nn.functional.cross_entropy(model(torch.randn(shape)), torch.randint(classes, shape[:1])).backward()
    times = [seconds(kept.step) for _ in range(max(pairs, 101))]
    return {"call_ms": 1e3 * statistics.median(times), "calls": len(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(reversed(NETWORKS)))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: Rows = {}
    for network in arguments.networks:
        for maintainer in MAINTAINERS:
            row = measure(network, maintainer, arguments.pairs)
            if maintainer.endswith("nothing due"):
                row |= overhead(network, maintainer, arguments.pairs)
            rows[f"{network}: {maintainer}"] = row
    tell(rows, "python benchmarks/unit_step.py", arguments.json)


if __name__ == "__main__":
    main()
