"""Parameters of which every rank holds a part: `fully_shard` (FSDP2) makes them, as DTensors.

Everything in regrow that knows of such parts is here and in `methods.sharded`. Nothing is loaded for it: without a
DTensor in the process every question here is answered by a look at `sys.modules`.

Shapes: N entries along the dimension that is cut, of which L lie here.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

_TORCH = "torch.distributed."


@dataclass(frozen=True)
class Shard:
    """The part of a tensor that lies here: entries `start` to `start + size` along dimension `dim`.

    Args:
        dim: the dimension that is cut.
        start: first entry along it that lies here.
        size: number of entries along it that lie here, L; may be 0.
        shape: of the whole tensor.
        mesh: the ranks that hold the parts.
    """

    dim: int
    start: int
    size: int
    shape: torch.Size
    mesh: Any

    def numbers(self, here: Tensor) -> Tensor:
        """Row-major numbers in the whole tensor, from those in the part that lies here; int64.

        Example:
            >>> Shard(1, 2, 2, torch.Size([2, 4]), None).numbers(torch.arange(4)).tolist()
            [2, 3, 6, 7]
        """
        inner, whole = self.shape[self.dim + 1 :].numel(), self.shape[self.dim]
        if self.dim == 0 or whole == self.size:
            return here + self.start * inner
        block = self.size * inner
        return here // block * (whole * inner) + here % block + self.start * inner

    def part(self, whole: Tensor, dim: int | None = None) -> Tensor:
        """What lies here of a whole tensor; `dim`: where its dimension of the cut is, if not where it was."""
        return whole.narrow(self.dim if dim is None else dim, self.start, self.size)


def is_sharded(x: object) -> bool:
    """Is this a DTensor?"""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def local(x: Any) -> Any:
    """The part of a DTensor that lies here, in the same memory; anything else as it is."""
    if not is_sharded(x):
        return x
    with torch.no_grad():
        return x.to_local().detach()


def shard_of(x: Any) -> Shard | None:
    """Which part of a tensor lies here; None where all of it does."""
    if not is_sharded(x):
        return None
    mesh, dim = x.device_mesh, x.placements[0].dim % max(x.dim(), 1)
    each = -(-x.shape[dim] // mesh.size())  # as torch.chunk cuts
    start = min(mesh.get_local_rank() * each, x.shape[dim])
    return Shard(dim, start, min(each, x.shape[dim] - start), x.shape, mesh)


def refused(x: Any) -> str:
    """Why the entries of a DTensor cannot be renewed; "" where they can."""
    if x.device_mesh.ndim != 1:
        return f"on a mesh of {x.device_mesh.ndim} dimensions: use fully_shard on a mesh of one, or DDP"
    kind = type(x.placements[0]).__name__
    if kind != "Shard":
        return f"of placement {kind}: shard it along one dimension, or keep it a plain tensor"
    shard = shard_of(x)
    if shard is None or local(x).shape[shard.dim] != shard.size:
        return "cut otherwise than torch.chunk does: use fully_shard"
    return ""


def whole(like: Any, part: Tensor) -> Tensor:
    """A DTensor cut as another one, of what each rank has of it; a plain tensor where the other is one."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    options = {"run_check": False, "shape": like.shape, "stride": like.stride()}
    return DTensor.from_local(part, like.device_mesh, like.placements, **options)


def part_for(like: Any, values: Any) -> Tensor:
    """What goes with the part of a parameter that lies here, of values that are whole or in parts themselves.

    Raises:
        ValueError: where they are another rank's part, out of a file that one rank wrote for all.
    """
    if is_sharded(values) and list(values.device_mesh.get_coordinate() or ()) != [values.device_mesh.get_local_rank()]:
        raise ValueError(
            "state_dict holds another rank's part of a sharded tensor: store and load the maintainer itself with "
            "torch.distributed.checkpoint, or a file for each rank"
        )
    shard = shard_of(like)
    if shard is not None and shard == shard_of(values):
        return local(values)
    values = values.full_tensor() if is_sharded(values) else values
    return values if shard is None else shard.part(values)


def sums(parts: Sequence[tuple[Any, Tensor]]) -> list[Tensor]:
    """Tensors added up over the ranks of their meshes, in float64: one message for each mesh.

    Args:
        parts: (mesh, tensor of any shape).
    """
    totals: dict[int, Tensor] = {}
    for mesh in dict.fromkeys(mesh for mesh, _ in parts):
        own = [i for i, (other, _) in enumerate(parts) if other == mesh]
        flat = torch.cat([parts[i][1].reshape(-1).to(mesh.device_type, torch.float64) for i in own])
        distributed.all_reduce(flat, group=mesh.get_group())
        pieces = flat.split([parts[i][1].numel() for i in own])
        totals |= {i: p.view(parts[i][1].shape).to(parts[i][1].device) for i, p in zip(own, pieces, strict=True)}
    return [totals[i] for i in range(len(parts))]


def entries_at(x: Tensor, index: Tensor) -> Tensor:
    """Some entries of a real tensor by their row-major numbers, as float64 on the CPU; on all ranks the same.

    Args:
        x: plain, or a DTensor, whose ranks must all ask for the same.
        index: int64, 1-D.
    """
    shard = shard_of(x)
    if shard is None:
        return x.detach().reshape(-1)[index.to(x.device)].double().cpu()
    inner = shard.shape[shard.dim + 1 :].numel()
    place = index // inner % shard.shape[shard.dim] - shard.start
    own = (place >= 0) & (place < shard.size)
    here = (index // (inner * shard.shape[shard.dim]) * shard.size + place) * inner + index % inner
    values = local(x).reshape(-1)[here[own].to(local(x).device)].double().cpu()
    bits = torch.zeros(len(index), dtype=torch.int64)
    bits[own] = values.view(torch.int64)  # as integers, so that -0.0 stays what it is
    bits = bits.to(shard.mesh.device_type)
    distributed.all_reduce(bits, group=shard.mesh.get_group())
    return bits.cpu().view(torch.float64)


def gradients(around: Iterable[nn.Module], parameter: Any) -> list[Tensor]:
    """Gradients that a DTensor has, and that `fully_shard` still keeps whole of passes without synchronization.

    Args:
        around: the modules that hold it, from its own up to the model.
        parameter: the DTensor.
    """
    found = [parameter.grad, *(own.unsharded_accumulated_grad for own in _owners(around, parameter))]
    return [g for g in found if g is not None]


def gathered(around: Iterable[nn.Module], parameter: Any) -> Tensor | None:
    """What stands for a DTensor in a forward pass, and is differentiated; None before the first pass."""
    return next((getattr(own, "_unsharded_param", None) for own in _owners(around, parameter)), None)


def _owners(around: Iterable[nn.Module], parameter: Any) -> Iterator[Any]:
    """What `fully_shard` keeps of a DTensor.

    These names are private to torch. All public methods of `FSDPModule` set something; none says which whole tensor
    stands for a shard, or which gradients of it are still whole. Without the names nothing is found, and tests fail.
    """
    for module in around:
        state = module._get_fsdp_state() if hasattr(module, "_get_fsdp_state") else None  # type: ignore[operator]
        groups = getattr(state, "_fsdp_param_groups", None) or [getattr(state, "_fsdp_param_group", None)]
        yield from (
            own for group in groups for own in getattr(group, "fsdp_params", ()) if own.sharded_param is parameter
        )


# fully_shard gives the modules it is called on classes of its own.


def made_as(module: nn.Module) -> type[nn.Module]:
    """The class that a module was made with, whatever torch.distributed has mixed into it since."""
    kind = type(module)
    mixed = len(kind.__bases__) == 2 and kind.__bases__[0].__module__.startswith(_TORCH)
    return kind.__bases__[1] if mixed else kind


@contextmanager
def as_made(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Meanwhile the modules have the classes that they were made with."""
    mixed = [(module, type(module)) for module in modules if made_as(module) is not type(module)]
    for module, _ in mixed:
        module.__class__ = made_as(module)
    try:
        yield
    finally:
        for module, kind in mixed:
            module.__class__ = kind


def reshard(model: nn.Module) -> None:
    """Have the modules hold their shards again, where a forward pass has left whole parameters in their place."""
    for module in model.modules():
        if made_as(module) is not type(module) and callable(again := getattr(module, "reshard", None)):
            again()
