"""Claim: tensors whose entries cannot be renewed one by one are told from those that can, with a remedy."""

import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from regrow.names import unsupported


class Named(Tensor):
    """Adds a method, and nothing to operations."""

    def double(self) -> Tensor:
        return self * 2


def of_package(module: str, name: str) -> Tensor:
    """A tensor of a class of this name, as a library that is not here would give."""
    kind = types.new_class(name, (Tensor,), {}, lambda ns: ns.update(__module__=module))
    return torch.zeros(2).as_subclass(kind)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2), nn.Parameter(torch.zeros(2)), nn.Buffer(torch.zeros(2)), torch.zeros(3, 2).T,
        nn.Parameter(torch.zeros(2).as_subclass(Named)), torch.zeros(2, dtype=torch.bfloat16),
        torch.zeros(2).to("meta"),
    ],
)  # fmt: skip
def test_plain_tensors_are_served(tensor: Tensor) -> None:
    assert unsupported(tensor) == ""


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (TwoTensor(torch.zeros(2), torch.zeros(2)), "a TwoTensor, a tensor subclass with operations"),
        (nn.Parameter(TwoTensor(torch.zeros(2), torch.zeros(2))), "a TwoTensor, a tensor subclass with operations"),
        (torch.eye(2).to_sparse(), "a sparse tensor (sparse_coo): keep it dense"),
        (of_package("torchao.optim.subclass_8bit", "OptimState8bit"), "a OptimState8bit: its entries share scales"),
        (of_package("bitsandbytes.nn.modules", "Params4bit"), "a Params4bit: its entries share scales in blocks"),
        (of_package("torch.distributed.fsdp._flat_param", "FlatParameter"), "a FlatParameter: FSDP keeps many"),
    ],
)
def test_tensors_of_other_kinds_are_not(tensor: Tensor, reason: str) -> None:
    assert unsupported(tensor).startswith(reason) and "\n" not in unsupported(tensor)


def test_fake_tensors() -> None:
    with FakeTensorMode():
        assert unsupported(torch.zeros(2)).startswith("a FakeTensor, a tensor subclass")


@pytest.mark.filterwarnings("ignore:DTensor random operators may not have complete support on cpu")  # torch 2.6
def test_sharded_tensors(tmp_path: Any) -> None:
    dist = torch.distributed
    if not dist.is_available():
        pytest.skip("torch was built without torch.distributed")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for shape, placements, reason in (
            ((1,), [Shard(0)], ""),
            ((1,), [Shard(-1)], ""),
            ((1,), [Replicate()], "a DTensor of placement Replicate: shard it along one dimension"),
            ((1, 1), [Replicate(), Shard(0)], "a DTensor on a mesh of 2 dimensions: use fully_shard on a mesh of one"),
        ):
            tensor = distribute_tensor(torch.zeros(4, 2), init_device_mesh("cpu", shape), placements)
            why = unsupported(nn.Parameter(tensor))
            assert why.startswith(reason) and bool(why) == bool(reason)
    finally:
        dist.destroy_process_group()
