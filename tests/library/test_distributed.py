"""Several processes: every rank renews the same entries with the same values."""

import os
import socket
import time
import warnings

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import regrow

MAINTAINERS = {
    "swr-threshold": lambda model: regrow.SWR(model, every=1, factor=0.3),
    "swr-proportional": lambda model: regrow.SWR(model, every=1, factor=0.1, prune="proportional"),
    "shrink-perturb": lambda model: regrow.ShrinkPerturb(model, shrink=1e-3, noise_variance=1e-5),
    "cbp": lambda model: regrow.ContinualBackprop(model, replacement_rate=0.1, maturity=1),
    "cbp-average": lambda model: regrow.ContinualBackprop(model, replacement_rate=0.1, maturity=1, decay=0.9),
    "redo": lambda model: regrow.ReDo(model, every=1, threshold=0.5),
}


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def leave() -> None:
    """End a process once all ranks are done, without shutting the interpreter down.

    gloo's threads may still hold tensors then; freeing them needs the interpreter's lock, and a thread that waits for
    the lock of an interpreter that is gone aborts the process (pytorch/pytorch#179291).
    """
    dist.barrier()
    time.sleep(1)  # until the others have left the barrier, too
    os._exit(0)


def worker(rank: int, world: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    for name, make in MAINTAINERS.items():
        torch.manual_seed(rank)  # so the seed that None stands for differs, and must come from rank 0
        model = DistributedDataParallel(build())
        maintainer = make(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        maintainer.attach(optimizer)
        generator = torch.Generator().manual_seed(100 + rank)  # each rank sees data of its own
        for step in range(200):
            x, y = torch.randn(8, 8, generator=generator), torch.randint(3, (8,), generator=generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if step % 50 == 49:
                compare(name, model, maintainer, world)
        if name != "shrink-perturb":
            assert maintainer.report()["renewals"] >= 195, (name, maintainer.report())
    leave()


def compare(name: str, model: nn.Module, maintainer: regrow.maintain.Maintainer, world: int) -> None:
    mine = torch.cat([w.detach().reshape(-1) for w in model.parameters()])
    counts = torch.tensor([maintainer.report()["renewed_total"], float(maintainer.state_dict()["seed"])]).double()
    for value in (mine, counts):
        everyone = [torch.empty_like(value) for _ in range(world)]
        dist.all_gather(everyone, value)
        assert all(torch.equal(value, other) for other in everyone), name


@pytest.mark.parametrize("world", [2, 3])
def test_parameters_are_bit_identical_on_all_ranks_after_200_renewals(world):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (world, port), nprocs=world)


def test_sums_over_ranks_make_one_large_batch():
    """Two ranks with half a batch each decide what one process decides on the whole batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(halves, (2, port), nprocs=2)


def halves(rank: int, world: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(0)
    whole, part = build().double(), build().double()
    part.load_state_dict(whole.state_dict())
    x, y = torch.randn(16, 8).double(), torch.randint(3, (16,))
    shared = DistributedDataParallel(part)
    mine = regrow.ReDo(shared, every=1, threshold=0.8, seed=1)
    nn.functional.cross_entropy(shared(x[rank::2]), y[rank::2]).backward()
    masks = mine.preview()
    dist.barrier()
    dist.destroy_process_group()  # from here on a process is alone
    alone = regrow.ReDo(whole, every=1, threshold=0.8, seed=1)
    nn.functional.cross_entropy(whole(x), y).backward()
    expected = alone.preview()
    assert masks.keys() == expected.keys()
    assert all(torch.equal(masks[k], expected[k]) for k in masks) and any(m.any() for m in masks.values())


def test_a_signal_on_any_rank_is_one_on_all():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(one_silent, (2, port), nprocs=2)


def one_silent(rank: int, world: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", rank=rank, world_size=world)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swr = regrow.SWR(model, every=1, factor=0.3, prune="proportional", seed=0).attach(optimizer)
    for speaks in (rank == 0, False, True):
        for w in model.parameters():
            w.grad = torch.full_like(w, float(speaks))
        optimizer.step()
    assert swr.report()["skipped_no_signal"] == 1 and swr.report()["renewals"] == 2, (rank, swr.report())
    leave()
