"""How one operation changes a tensor of hidden units, if it keeps the units apart."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx, nn

from . import ops, unit_tensor
from .modules import Catalog, join
from .unit_tensor import Carrier, Stop

Pieces = tuple[Carrier, ...]


def through_module(c: Carrier, node: fx.Node, module: nn.Module, catalog: Catalog) -> Carrier | None:
    """After a module that is called with the units alone; None for a module unknown here.

    Raises:
        Stop: where the units end.
    """
    if ops.is_linear(module):
        return c
    if ops.is_activation(module):
        return c.acted(node)
    if isinstance(module, nn.Flatten):
        return unit_tensor.flatten(c, module.start_dim, module.end_dim)
    if isinstance(module, nn.GLU):
        return _gated(c, module.dim, node)
    if isinstance(module, ops.POOL_MODULES):
        if getattr(module, "return_indices", False):
            return None
        return _pooled(c, type(module).__name__, getattr(module, "output_size", None))
    if isinstance(module, ops.RESIZING_MODULES):
        return _resized(c)
    if isinstance(module, (*ops.LAYER_NORMS, *ops.CHANNEL_NORMS, nn.PReLU)):
        return _normed(c, node, module, catalog)
    return None


def through_function(c: Carrier, node: fx.Node, name: str) -> Carrier | Pieces | None:
    """After a function or tensor method of this name, called with the units and numbers; None where unknown here.

    Raises:
        Stop: where the units end.
    """
    if name in ops.LINEAR:
        return c
    if name in ops.NONLINEAR:
        return c.acted(node)
    given = Arguments(node)
    if name in ops.POOLS:
        size = given(1, "output_size") if name.startswith("adaptive") else None
        return None if given(None, "return_indices") else _pooled(c, name, size)
    if name in ops.REDUCTIONS:
        return unit_tensor.reduce(c, given(1, "dim"), bool(given(2, "keepdim", False)))
    shapes: dict[str, Callable[[], Carrier | Pieces]] = {
        "chunk": lambda: unit_tensor.pieces(c, given(1, "chunks"), given(2, "dim", 0), node, count=True),
        "flatten": lambda: unit_tensor.flatten(c, given(1, "start_dim", 0), given(2, "end_dim", -1)),
        "glu": lambda: _gated(c, given(1, "dim", -1), node),
        "interpolate": lambda: _resized(c),
        "permute": lambda: unit_tensor.permute(c, given.rest("dims")),
        "split": lambda: unit_tensor.pieces(
            c, given(1, "split_size", given(1, "split_sizes")), given(2, "dim", 0), node
        ),
        "squeeze": lambda: unit_tensor.squeeze(c, given.rest("dim")),
        "swapaxes": lambda: unit_tensor.transpose(c, given(1, "axis0"), given(2, "axis1")),
        "transpose": lambda: unit_tensor.transpose(c, given(1, "dim0"), given(2, "dim1")),
    }
    return shapes[name]() if name in shapes else None


class Arguments:
    """The arguments of a node, by position or by name."""

    def __init__(self, node: fx.Node) -> None:
        self._node = node

    def __call__(self, position: int | None, name: str, default: Any = None) -> Any:
        args = self._node.args
        if position is not None and position < len(args):
            return args[position]
        return self._node.kwargs.get(name, default)

    def rest(self, name: str) -> list[Any]:
        """Dimensions or sizes after the tensor, given one by one or as one sequence."""
        value = self._node.args[1:] or self._node.kwargs.get(name, ())
        if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], (list, tuple)):
            value = value[0]
        return list(value) if isinstance(value, (list, tuple)) else [value]


def _gated(c: Carrier, dim: Any, node: fx.Node) -> Carrier:
    """A gated linear unit: one half gates the other."""
    halves = unit_tensor.pieces(c, 2, dim, node, count=True)
    if len(halves) != 2:
        raise Stop("cut into pieces of unknown sizes")
    return unit_tensor.product(*halves, node)


def _pooled(c: Carrier, kind: str, output_size: Any) -> Carrier:
    """Pooling over the last one, two or three dimensions, as its name says (avg_pool2d, AvgPool2d)."""
    dims = int(kind[-2])
    if -c.axis <= dims or c.flat:
        raise Stop("pooled over its units")
    sizes = output_size if isinstance(output_size, (list, tuple)) else (output_size,)
    return replace(c, single=dims == -1 - c.axis and all(size == 1 for size in sizes))


def _resized(c: Carrier) -> Carrier:
    """Padding or interpolation of the dimensions after that of channels."""
    if c.rank is None or c.axis != 1 - c.rank:
        raise Stop("resized along another dimension")
    return replace(c, single=False)


def _normed(c: Carrier, node: fx.Node, module: nn.Module, catalog: Catalog) -> Carrier:
    """A norm with its parameters and statistics, or a PReLU with its weights."""
    name = catalog.name(module)
    tensors = {k: t for k, t in (module._parameters | module._buffers).items() if t is not None and t.dim() > 0}
    if tensors and catalog.unfit(module):
        raise Stop(f"passes through {name!r}, which is {catalog.unfit(module)}")
    if isinstance(module, nn.PReLU):
        c = c.acted(node)
        if module.num_parameters == 1:
            return c
    if isinstance(module, ops.LAYER_NORMS):
        own = type(module).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward)
        if not own and type(module).__module__ != "regrow.nn":
            raise Stop(f"passes through {name!r} ({type(module).__name__}), unknown here")
        dim = len(module.normalized_shape) + c.axis
        if dim < 0:
            return c  # statistics of each unit alone, parameters that all units share
    else:
        dim, c = 0, _channels_second(c, name, module)
    for key, tensor in tensors.items():
        c = c.normed(join(name, key), dim, tensor.shape[dim])
    return c


def _channels_second(c: Carrier, name: str, module: nn.Module) -> Carrier:
    """The units, if they lie along the second dimension, as channel norms require."""
    instance = isinstance(module, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))
    if c.rank is None and c.axis == -1 and not instance:
        c = replace(c, rank=2)  # (batch, features) is what these modules ask for
    if c.rank is None or c.axis != 1 - c.rank or (instance and c.rank == 2):
        raise Stop(f"passes through {name!r} along another dimension")
    return c
