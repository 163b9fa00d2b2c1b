"""Claim: on parameters that lie in shards over ranks every maintainer does what it does on one process.

The unsharded runs are made first, by one process on the global batches; each rank then sees its part of every batch.
"""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from sharding import MAINTAINERS, build, close, data, shard, spawn, train, weights
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

pytestmark = pytest.mark.skipif(torch.__version__ < (2, 7), reason="FSDP2 runs on a CPU from torch 2.7 on")

STEPS = 6


def alone(name: str) -> dict[str, Any]:
    """An unsharded run: weights, the report, and what would be renewed after its first half."""
    model = build()
    maintainer = MAINTAINERS[name](model)
    opt = torch.optim.Adam(model.parameters(), 1e-2)
    maintainer.attach(opt)
    batches = data(STEPS)
    train(model, opt, batches[:3])
    masks = maintainer.preview() if "cbp" not in name and "redo" not in name else {}
    train(model, opt, batches[3:])
    return {"weights": weights(model), "report": maintainer.report(), "masks": masks}


@pytest.mark.filterwarnings("ignore:`absent_rows` keeps")
@pytest.mark.parametrize("world", [2, 4])
def test_shards_do_what_an_unsharded_run_does(world: int, tmp_path: Path) -> None:
    runs = {name: alone(name) for name in MAINTAINERS}
    assert all(run["report"]["renewals"] > 1 or "l2" in name for name, run in runs.items())
    assert runs["threshold"]["report"]["overlap_last"] > 0
    torch.save(runs, tmp_path / "alone.pt")
    spawn(compare, world, tmp_path / "alone.pt")


def compare(rank: int, world: int, path: Path) -> None:
    for i, (name, expected) in enumerate(torch.load(path).items()):
        columns, first = (i + world // 2) % 2 == 0, i % 4 < 2  # both of each, over the methods and worlds
        model = build()
        made = MAINTAINERS[name](model) if first else None  # before sharding, or after it
        shard(model, columns)
        maintainer = made or MAINTAINERS[name](model)
        opt = torch.optim.Adam(model.parameters(), 1e-2)
        maintainer.attach(opt)
        case, batches = (name, columns, first), data(STEPS)
        train(model, opt, batches[:3], rank, world)
        if expected["masks"]:
            masks = {k: mask.full_tensor() for k, mask in maintainer.preview().items()}
            assert masks.keys() == expected["masks"].keys(), case
            assert all(torch.equal(masks[k], mask) for k, mask in expected["masks"].items()), case
        train(model, opt, batches[3:], rank, world)
        assert close(weights(model), expected["weights"]), case
        assert maintainer.report() == expected["report"], (case, maintainer.report(), expected["report"])


RESUMED = ("threshold", "restart", "shrink-perturb", "l2-init", "cbp-average", "redo")


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.distributed is disabled")
def test_a_checkpoint_of_four_ranks_is_continued_by_two_and_by_one(tmp_path: Path) -> None:
    runs = {name: alone(name) for name in RESUMED}
    torch.save(runs, tmp_path / "alone.pt")
    spawn(first_half, 4, tmp_path)
    spawn(second_half, 2, tmp_path)
    for name in RESUMED:  # without shards
        model = build(seed=1)
        maintainer = MAINTAINERS[name](model)
        opt = torch.optim.Adam(model.parameters(), 1e-2)
        maintainer.attach(opt)
        resume(name, tmp_path, model, maintainer, opt)
        train(model, opt, data(STEPS)[3:])
        assert close(weights(model), runs[name]["weights"]), name
        assert maintainer.report() == runs[name]["report"], name


def parts(name: str, seed: int) -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    model = shard(build(seed), columns=seed > 0)
    maintainer = MAINTAINERS[name](model)
    opt = torch.optim.Adam(model.parameters(), 1e-2)
    return model, maintainer.attach(opt), opt


def resume(name: str, folder: Path, model: nn.Module, maintainer: Any, opt: Any, **options: Any) -> None:
    state = {"model": model, "optimizer": Optimizer(model, opt), "regrow": maintainer}
    dcp.load(state, checkpoint_id=folder / name, **options)


def first_half(rank: int, world: int, folder: Path) -> None:
    for name in RESUMED:
        model, maintainer, opt = parts(name, seed=0)
        train(model, opt, data(STEPS)[:3], rank, world)
        dcp.save(
            {"model": model, "optimizer": Optimizer(model, opt), "regrow": maintainer}, checkpoint_id=folder / name
        )


def second_half(rank: int, world: int, folder: Path) -> None:
    for name, expected in torch.load(folder / "alone.pt").items():
        model, maintainer, opt = parts(name, seed=1)  # other values, other shards
        resume(name, folder, model, maintainer, opt)
        train(model, opt, data(STEPS)[3:], rank, world)
        assert close(weights(model), expected["weights"]), name
        assert maintainer.report() == expected["report"], (name, maintainer.report(), expected["report"])


class Optimizer:
    """An optimizer's state by name, as torch.distributed.checkpoint wants it."""

    def __init__(self, model: nn.Module, opt: torch.optim.Optimizer) -> None:
        self.both = model, opt

    def state_dict(self) -> dict[str, Any]:
        return get_optimizer_state_dict(*self.both)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        set_optimizer_state_dict(*self.both, state)


def test_the_file_of_another_rank_is_refused() -> None:
    spawn(file_of_rank_0, 2)


def file_of_rank_0(rank: int, world: int) -> None:
    _, maintainer, _ = parts("l2-init", seed=0)
    stored = io.BytesIO()
    torch.save(maintainer.state_dict(), stored)
    files = [stored.getvalue()]
    torch.distributed.broadcast_object_list(files, src=0)
    state = torch.load(io.BytesIO(files[0]), weights_only=True)
    if rank == 0:
        maintainer.load_state_dict(state)
    else:
        with pytest.raises(ValueError, match=r"state_dict holds another rank's part of a sharded tensor: store"):
            maintainer.load_state_dict(state)
