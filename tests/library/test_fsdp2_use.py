"""Claims about sharded models in use: what is refused, signals, micro-batches, laws, seeds, messages."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from sharding import MAINTAINERS, Net, build, close, data, loss, shard, spawn, train, weights
from torch import Tensor, nn
from torch import distributed as dist

import regrow

pytestmark = pytest.mark.skipif(torch.__version__ < (2, 7), reason="FSDP2 runs on a CPU from torch 2.7 on")


@dataclass(frozen=True, kw_only=True)
class Halve(regrow.methods.Method):
    def act(self, members: regrow.methods.Members) -> None:
        for name in members.parameters:
            members.write(name, members.weights(name) / 2)


class HalveShards(Halve):
    on_shards = True


def swr(model: nn.Module, **options: Any) -> Any:
    return regrow.SWR(model, **{"every": 1, "factor": 0.3, "seed": 0} | options)


def test_what_is_refused() -> None:
    spawn(refusals, 2)


def refusals(rank: int, world: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = build()
    before = swr(model)
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("replicate", "shard"))
    fully_shard(model, mesh=mesh)
    for attempt in (lambda: before.attach(torch.optim.SGD(model.parameters(), 0.1)), lambda: swr(model)):
        with pytest.raises(TypeError, match="'words.weight' cannot be renewed because it is a DTensor on a mesh of 2"):
            attempt()

    model = shard(build(), columns=True)
    with pytest.raises(TypeError, match="Halve does not serve parameters in shards"):
        regrow.Maintainer(model, Halve())
    whole = weights(model)
    opt = torch.optim.SGD(model.parameters(), 1e-30)
    regrow.Maintainer(model, HalveShards()).attach(opt)
    train(model, opt, data(1), rank, world)
    assert close(weights(model), {name: w / 2 for name, w in whole.items()})


def test_signals_and_messages() -> None:
    spawn(signals, 2)
    spawn(messages, 2)


def signals(rank: int, world: int) -> None:
    model = shard(build(), columns=False)
    opt = torch.optim.SGD(model.parameters(), 0.1)
    maintainer = swr(model).attach(opt)
    for on_rank_1 in (0.0, 1.0):  # an entry that rank 0 does not hold
        for w in model.parameters():
            w.grad = torch.zeros_like(w)
        if rank == 1:
            model.up.weight.grad.to_local()[0, 0] = on_rank_1
        with pytest.warns(UserWarning, match="at an update without signal") if not on_rank_1 else none():
            opt.step()
        report = maintainer.report()
        assert (report["skipped_no_signal"], report["renewals"]) == (1, int(on_rank_1)), (rank, report)
    by_hand = swr(model, optimizer=opt)
    by_hand.step()  # the gradient is 0 here, and not there
    assert by_hand.report()["renewals"] == 1


def none() -> Any:
    import contextlib

    return contextlib.nullcontext()


def messages(rank: int, world: int) -> None:
    """All tensors together, and no parameter among them."""
    sent: list[int] = []
    reduce = dist.all_reduce

    def counted(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        sent.append(tensor.numel())
        return reduce(tensor, *arguments, **options)

    wide = nn.Sequential(*(nn.Linear(64, 64) for _ in range(5))).double()
    model = shard_each(wide)
    for make, most, largest in (
        (lambda m: swr(m, laws="modules"), 3, 10 * 10),  # signal; sums; counts and moments
        (lambda m: swr(m, laws="modules", prune="proportional"), 3 + 8 + 4, 10 * 256),  # bytes of thresholds; of ties
        (lambda m: redo(m), 2, 400),
    ):
        opt = torch.optim.Adam(model.parameters(), 1e-3)
        maintainer = make(model).attach(opt)
        for _ in range(2):
            sent.clear()
            opt.zero_grad()
            x = torch.randn(4, 64, dtype=torch.float64)
            model(x).square().mean().backward()
            dist.all_reduce = counted
            opt.step()
            dist.all_reduce = reduce
        assert 0 < len(sent) <= most and max(sent) <= largest, (maintainer, sent)
        maintainer.detach()


def shard_each(model: nn.Sequential) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    for module in model:
        fully_shard(module)
    return fully_shard(model)


def redo(model: nn.Module) -> Any:
    units = [
        regrow.Units((f"{i}.weight", 0), (f"{i}.bias", 0), None, (f"{i + 1}.weight", 1), activation=f"{i}")
        for i in range(4)
    ]
    return regrow.ReDo(model, every=1, threshold=0.5, utility="magnitude", seed=0, units=units, laws="modules")


def test_laws_seeds_and_views() -> None:
    spawn(laws_and_seeds, 2)
    spawn(views, 2)


def laws_and_seeds(rank: int, world: int) -> None:
    """Made after sharding, a maintainer finds what it finds before."""

    def own(model: Net) -> Net:
        nn.init.orthogonal_(model.up.weight, 2**0.5)
        nn.init.normal_(model.mid.weight, 0, 0.02)
        nn.init.constant_(model.mid.bias, 0.1)
        with torch.no_grad():
            model.head.weight[0, :3] = -0.0
        return model

    for columns in (False, True):
        states = []
        for make in (lambda m: m, lambda m, c=columns: shard(m, c)):
            model = make(own(build()))
            maintainer = regrow.SWR(model, every=1, factor=0.1, laws={"head": "modules"})
            states.append(maintainer.state_dict())
        assert states[0]["laws"] == states[1]["laws"] and states[0]["seed"] == states[1]["seed"]
        assert [states[0]["laws"][f"{name}.weight"]["law"] for name in ("up", "mid")] == ["Orthogonal", "Normal"]

    with torch.device("meta"):
        model = shard(build(), columns=False)
    maintainer = swr(model)
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    opt = torch.optim.SGD(model.parameters(), 0.1)
    maintainer.attach(opt)
    train(model, opt, data(1), rank, world)
    assert maintainer.report()["renewals"] == 1 and maintainer.report()["renewed_total"] > 10


def views(rank: int, world: int) -> None:
    """What a user may do between updates, whatever a forward pass has left in place of the shards."""
    model = shard(build(), columns=True)
    opt = torch.optim.Adam(model.parameters(), 1e-2)
    maintainer = swr(model, every=2).attach(opt)
    train(model, opt, data(1), rank, world)
    placements = {name: w.placements for name, w in model.named_parameters()}
    with torch.no_grad():
        model(data(1)[0][0])
    assert not hasattr(model.head.weight, "placements")  # the outermost module keeps its whole parameters
    masks = maintainer.preview()
    assert {name: mask.placements for name, mask in masks.items()} == placements
    assert all(mask.dtype == torch.bool and bool(mask.full_tensor().any()) for mask in masks.values())
    other = copy.copy(maintainer)
    assert "not attached" in repr(other) and other.report() == maintainer.report()
    train(model, opt, data(2)[1:], rank, world)
    assert maintainer.report()["renewals"] == 1
    maintainer.detach()


@pytest.mark.parametrize("kind", ["micro-batches", "plain beside shards"])
def test_other_ways_to_train(kind: str) -> None:
    spawn({"micro-batches": micro_batches, "plain beside shards": plain_beside_shards}[kind], 2)


def micro_batches(rank: int, world: int) -> None:
    """Activations are those of all passes since the last step, however gradients are accumulated."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mixed = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for policy in (None, mixed):
        for synchronized in (True, False):
            model = build().float()
            options = {} if policy is None else {"mp_policy": policy}
            fully_shard(model.mid, **options)
            fully_shard(model, **options)
            opt = torch.optim.SGD(model.parameters(), 0.1)
            redo = regrow.ReDo(model, every=1, threshold=0.5, seed=0).attach(opt)
            watches = [layer.watch for layer in redo._maintained.units.all.values()]
            for step in range(2):
                for i, (x, y) in enumerate(data(3, batch=8)):
                    model.set_requires_gradient_sync(synchronized or i == 2)
                    loss(model, x[rank::world], y[rank::world]).backward()
                assert [int(w.sums()[1].max()) for w in watches] == [12, 12], (policy, synchronized, step)
                opt.step()
                opt.zero_grad()
            assert redo.report()["renewals"] == 2
            x, y = data(1)[0]
            loss(model, x, y).backward()
            opt.zero_grad()  # an update that never took place
            loss(model, x[:4], y[:4]).backward()
            assert [int(w.sums()[1].max()) for w in watches] == [4, 4], (policy, synchronized)


def plain_beside_shards(rank: int, world: int) -> None:
    """Only a part of the model is sharded: counts and values are those of an unsharded one all the same."""
    from torch.distributed.fsdp import fully_shard

    reports, found = [], []
    for sharded in (False, True):
        model = build()
        if sharded:
            fully_shard(model.mid)
        opt = torch.optim.SGD(model.parameters(), 0.1)
        both = [MAINTAINERS["threshold"](model).attach(opt), MAINTAINERS["redo"](model).attach(opt)]
        for x, y in data(4):
            opt.zero_grad()
            loss(model, x, y).backward()  # the same on both ranks, so that no gradient needs to be averaged
            opt.step()
        reports.append([maintainer.report() for maintainer in both])
        found.append(weights(model))
    assert reports[0] == reports[1] and close(*found)
