"""What do maintainers cost where parameters lie in shards (FSDP2)? Steps with and without one, side by side.

    python benchmarks/fsdp2.py [--world 2] [--pairs 7] [--json FILE]

The paper's ViT, each block sharded over gloo processes of one thread, 16 images a process. In turn come a bare step,
one at which a maintainer has nothing to do, and one at which it renews: what this takes longer, spread over the paper's
period, is its share of a step. Both by the clock and by a process's own time, which other work on the machine does not
lengthen.
"""

import argparse
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from timing import Rows, seconds, tell
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn

import regrow
from regrow.lab.nets import ViT

IMAGES, CLASSES = (16, 3, 32, 32), 100
MAINTAINERS: dict[str, tuple[int, Callable[[nn.Module, int], regrow.maintain.Maintainer]]] = {
    "SWR, threshold, every 128": (128, lambda m, n: regrow.SWR(m, every=n, factor=5e-4)),
    "SWR, proportional, every 128": (128, lambda m, n: regrow.SWR(m, every=n, factor=5e-4, prune="proportional")),
    "ReDo, every 128": (128, lambda m, n: regrow.ReDo(m, every=n, threshold=5e-4)),
    "CBP, a unit a layer every 1,000": (
        1000,
        lambda m, n: regrow.ContinualBackprop(m, replacement_rate=1 / 1536 if n == 1 else 1e-9, maturity=0),
    ),
    "shrink and perturb, every update": (1, lambda m, n: regrow.ShrinkPerturb(m, shrink=1e-6, noise_variance=1e-10)),
}
"""The paper's period, and a maintainer that acts every n updates; n is 1 where it is due."""


def trainer(make: Callable[[nn.Module, int], Any] | None, every: int = 1) -> Callable[[], None]:
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = ViT()
    for module in model.modules():
        if type(module).__name__ == "Block":
            fully_shard(module)
    fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    if make is not None:
        make(model, every).attach(optimizer)
    x, y = torch.randn(IMAGES), torch.randint(CLASSES, IMAGES[:1])

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def both(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this process."""
    start = time.process_time()
    return seconds(work), time.process_time() - start


def measure(rank: int, world: int, port: int, pairs: int, rows: "SimpleQueue[Rows]") -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    found: Rows = {}
    for name, (period, make) in MAINTAINERS.items():
        steps = [trainer(None), trainer(make, 1_000_000), trainer(make)]
        for step in steps:
            step()
        times = torch.tensor([[both(step) for step in steps] for _ in range(pairs)])  # (pairs, 3, 2)
        bare, idle, due = times[:, 0], times[:, 1] - times[:, 0], times[:, 2] - times[:, 0]
        found[name] = {"pairs": pairs}
        for i, clock in enumerate(("wall", "cpu")):
            step, rest, renewal = (float(x[:, i].median()) for x in (bare, idle, due))
            found[name] |= {f"{clock}_step_ms": 1e3 * step, f"{clock}_idle_ms": 1e3 * rest}
            found[name] |= {f"{clock}_renewal_ms": 1e3 * renewal, f"{clock}_share": renewal / period / step}
    if rank == 0:
        rows.put(found)
    dist.barrier()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rows = mp.get_context("spawn").SimpleQueue()
    processes = mp.spawn(measure, (arguments.world, port, arguments.pairs, rows), arguments.world, join=False)
    tell(rows.get(), f"python benchmarks/fsdp2.py --world {arguments.world}", arguments.json)
    processes.join()


if __name__ == "__main__":
    main()
