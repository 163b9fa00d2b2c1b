"""Processes that hold the shards of one model, and the model that all of it is compared with."""

import os
import socket
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch import multiprocessing as mp

import regrow

MAINTAINERS: dict[str, Callable[[nn.Module], regrow.maintain.Maintainer]] = {
    "threshold": lambda m: regrow.SWR(m, every=2, factor=0.3, seed=1, track_overlap=True),
    "proportional": lambda m: regrow.SWR(m, every=2, factor=0.21, prune="proportional", seed=1),
    "magnitude-mean": lambda m: regrow.SWR(m, every=2, factor=0.3, utility="magnitude", reinit="mean", seed=1),
    "random": lambda m: regrow.SWR(m, every=2, factor=0.13, utility="random", prune="proportional", seed=1),
    "keep-zeros": lambda m: regrow.SWR(m, every=2, factor=0.3, keep_zeros=True, absent_rows={"head": "keep"}, seed=1),
    "position": lambda m: regrow.SWR(
        m, every=2, factor=0.4, prune="proportional", ties="position", absent_rows={"head": "keep"}, seed=1
    ),
    "restart": lambda m: regrow.SWR(m, every=2, factor=0.1, prune="proportional", clear_moments="restart", seed=1),
    "shrink-perturb": lambda m: regrow.ShrinkPerturb(m, shrink=1e-3, noise_variance=1e-4, seed=1),
    "l2-init": lambda m: regrow.L2Init(m, strength=0.1, seed=1),
    "l2-resample": lambda m: regrow.L2Init(m, strength=0.1, reference="resample", seed=1),
    "cbp": lambda m: regrow.ContinualBackprop(m, replacement_rate=0.1, maturity=1, seed=1),
    "cbp-average": lambda m: regrow.ContinualBackprop(m, replacement_rate=0.1, maturity=1, decay=0.9, seed=1),
    "redo": lambda m: regrow.ReDo(m, every=2, threshold=0.5, seed=1),
    "redo-gradient": lambda m: regrow.ReDo(m, every=2, threshold=0.5, utility="gradient", seed=1),
    "redo-magnitude": lambda m: regrow.ReDo(m, every=2, threshold=0.9, utility="magnitude", seed=1),
}
WORDS, CLASSES = 13, 3


class Net(nn.Module):
    """Sizes that 2 and 4 ranks share evenly, unevenly, and so that a rank is left with nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8, padding_idx=5)
        self.up, self.norm = nn.Linear(8, 15), nn.LayerNorm(15)
        self.mid, self.head = nn.Linear(15, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.up(self.words(x).mean(1)))
        return self.head(torch.relu(self.mid(self.norm(h))))


def build(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net().double()


def data(steps: int, batch: int = 16) -> list[tuple[Tensor, Tensor]]:
    """Words of every step, few of all, and their classes: never the last one."""
    generator = torch.Generator().manual_seed(5)

    def words(step: int) -> Tensor:
        return torch.randint(step % 3, step % 3 + 8, (batch, 4), generator=generator)

    return [(words(i), torch.randint(CLASSES - 1, (batch,), generator=generator)) for i in range(steps)]


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(x)[:, : CLASSES - 1], y)  # the last class has no gradient


def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, rank: int = 0, world: int = 1) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        loss(model, x[rank::world], y[rank::world]).backward()
        optimizer.step()


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Whole parameters, on every rank."""
    return {
        name: (w.full_tensor() if hasattr(w, "full_tensor") else w).detach().clone()
        for name, w in model.named_parameters()
    }


def shard(model: Net, columns: bool) -> Net:
    """By `fully_shard`: along dimension 0, or along dimension 1 where the ranks share it evenly."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard

    def placement(w: Tensor) -> Shard:
        return Shard(1) if w.dim() > 1 and w.shape[1] % dist.get_world_size() == 0 else Shard(0)

    options: dict[str, Any] = {"shard_placement_fn": placement} if columns else {}
    for module in (model.words, model.up, model.mid):
        fully_shard(module, **options)
    return fully_shard(model, **options)


def spawn(check: Callable[..., None], world: int, *arguments: Any) -> None:
    """Run check(rank, world, *arguments) in processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_run, (world, port, check, arguments), nprocs=world)


def _run(rank: int, world: int, port: int, check: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    check(rank, world, *arguments)
    dist.barrier()
    time.sleep(1)  # until the others have left the barrier, too
    os._exit(0)  # at once, for gloo's threads may abort an interpreter that shuts down


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal but for the rounding of sums: an entry renewed on one side only would differ by its size."""
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], rtol=0, atol=1e-9) for k in a)
