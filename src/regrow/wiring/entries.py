"""Where in a parameter do the units of a layer lie?

Shapes: n units, P positions (entries of one unit along the dimension), S stride between them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import check
from ..names import descend, is_wrapper


class Place(NamedTuple):
    """The entries of a layer's units along one dimension of one parameter.

    unit i owns entry start + (i // S) * S * P + i % S + S * p for each p < P

    so with a stride of 1 it owns P neighbours, and with P = 1 entry start + i alone. Strides above 1 occur where the
    values of one attention head are read by several query heads.

    Args:
        name: canonical name of the parameter (or, of a batch norm's running statistics, the buffer).
        dim: the dimension that indexes units, >= 0.
        start: first entry of unit 0, where the units take up a part of the dimension only (packed projections,
            concatenated inputs). None: they take up all of it, and a size that differs is an error.
        positions: P >= 1, entries of one unit.
        stride: S >= 1, distance between the entries of one unit; the number of units is a multiple of it.

    Example:
        >>> Place("fc.weight", 1, None, positions=2).entries(3).tolist()
        [[0, 1], [2, 3], [4, 5]]
        >>> Place("o_proj.weight", 1, None, positions=2, stride=3).entries(6).tolist()
        [[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]]
    """

    name: str
    dim: int
    start: int | None = None
    positions: int = 1
    stride: int = 1

    def entries(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """Indices along `dim`: int64 of shape (n, P)."""
        unit = torch.arange(n, device=device).unsqueeze(1)
        first = (unit // self.stride) * (self.stride * self.positions) + unit % self.stride + (self.start or 0)
        return first + self.stride * torch.arange(self.positions, device=device)

    def per_unit(self, tensor: Tensor, n: int) -> Tensor:
        """The tensor's entries by unit: (n, all entries of the unit); a view where the memory layout allows.

        Args:
            tensor: the parameter, its gradient, or anything of its shape.
            n: number of units.
        """
        return self.units_first(tensor, n).reshape(n, -1)

    def units_first(self, tensor: Tensor, n: int) -> Tensor:
        """A view of shape (n / S, S, P, *other dimensions): unit i is [i // S, i % S]."""
        dim = self.dim
        return self.split(tensor, n, dim).movedim((dim, dim + 2, dim + 1), (0, 1, 2))

    def split(self, tensor: Tensor, n: int, dim: int) -> Tensor:
        """A view in which (n / S, P, S) stands for the dimension."""
        part = tensor if self.start is None else tensor.narrow(dim, self.start, n * self.positions)
        return part.unflatten(dim, (n // self.stride, self.positions, self.stride))

    def along(self, tensor: Tensor, chosen: Tensor) -> Tensor:
        """True at the indices along `dim` that belong to the chosen units.

        Args:
            tensor: the parameter, for its shape.
            chosen: bool of shape (n,), or (*members, n), on the device of the parameter.

        Returns:
            bool of shape (size of `dim`,), or (*members, size).

        Example:
            >>> w = torch.zeros(2, 6)
            >>> Place("w", 1, positions=2).along(w, torch.tensor([True, False, False])).tolist()
            [True, True, False, False, False, False]
        """
        if self.positions == 1 and self.start is None:
            return chosen
        entries = self.entries(chosen.shape[-1], chosen.device)
        nothing = chosen.new_zeros(*chosen.shape[:-1], tensor.shape[self.dim])
        return nothing.index_copy(-1, entries.flatten(), chosen.repeat_interleave(self.positions, -1))

    def mask(self, tensor: Tensor, chosen: Tensor) -> Tensor:
        """True at the entries of the chosen units: `along` in the shape of the parameter.

        Args:
            tensor: the parameter, for its shape; of several members, with their axes first, which `dim` counts.
            chosen: bool of shape (n,), or (*members, n), on the device of the parameter.

        Returns:
            bool of the shape of the parameter; an expanded view, not to be written to.
        """
        return self.spread(self.along(tensor, chosen), tensor)

    def spread(self, along: Tensor, tensor: Tensor) -> Tensor:
        """What `along` gave, or a part of it, in the shape of the parameter, or of its part."""
        members = along.dim() - 1
        shape = [*along.shape[:-1], *(along.shape[-1] if d == self.dim else 1 for d in range(members, tensor.dim()))]
        return along.view(shape).expand(tensor.shape)

    def count(self, tensor: Tensor) -> int:
        """How many units fit in the tensor, from `start` on.

        Raises:
            ValueError: where the dimension does not exist or does not hold a whole number of units.
        """
        shape = tuple(tensor.shape)
        if self.dim >= len(shape):
            raise ValueError(f"{self.name!r} has shape {shape} and no dimension {self.dim}: check the entry of `Units`")
        size = shape[self.dim] - (self.start or 0)
        if size < 1 or (self.start is None and size % (self.positions * self.stride)):
            raise ValueError(
                f"dimension {self.dim} of {self.name!r} must hold units from entry {self.start or 0} on, "
                f"{self.positions} in each; its size is {shape[self.dim]}: check the entry of `Units` and `positions`"
            )
        return size // self.positions


def as_places(argument: str, value: Any, positions: int = 1) -> tuple[Place, ...]:
    """One entry, several, or none, as a tuple of places.

    Args:
        argument: its name, for the error.
        value: an entry `(name, dim)` or `(name, dim, start)`, a sequence of entries, or None.
        positions: for entries that are plain tuples.

    Raises:
        TypeError, ValueError: for anything else.
    """
    if value is None:
        return ()
    if isinstance(value, (tuple, list)):
        if value and isinstance(value[0], str):
            return (_as_place(argument, value, positions),)
        return tuple(_as_place(argument, entry, positions) for entry in value)
    raise TypeError(f"`{argument}` takes (parameter name, dimension), or several of them; got {value!r}")


def _as_place(argument: str, entry: Any, positions: int) -> Place:
    if not isinstance(entry, Place):
        if not isinstance(entry, (tuple, list)) or len(entry) not in (2, 3):
            raise TypeError(f"`{argument}` takes (name, dimension) or (name, dimension, start); got {entry!r}")
        entry = Place(entry[0], entry[1], entry[2] if len(entry) == 3 else None, positions)
    if not isinstance(entry.name, str) or not entry.name:
        raise TypeError(f"`{argument}`: a parameter's name must be text; got {entry.name!r}")
    check.whole("dim", entry.dim, 0, f"the dimension of {entry.name!r} that indexes units, in `{argument}`")
    check.whole("start", entry.start or 0, 0, f"the first entry of {entry.name!r} that is a unit's, in `{argument}`")
    check.whole("positions", entry.positions, 1, f"entries of each unit in {entry.name!r}, in `{argument}`")
    check.whole("stride", entry.stride, 1, f"distance between a unit's entries in {entry.name!r}, in `{argument}`")
    return entry


def locate(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a parameter or buffer, and its attribute there.

    Args:
        model: any module, wrapped or not.
        name: canonical name.

    Raises:
        ValueError: where there is none of that name.

    Example:
        >>> locate(nn.Sequential(nn.Linear(2, 3)), "0.bias")
        (Linear(in_features=2, out_features=3, bias=True), 'bias')
    """
    path, _, attribute = name.rpartition(".")
    module = find_module(model, path)
    if module is None or not isinstance(getattr(module, attribute, None), Tensor):
        some = [known for known, _ in model.named_parameters()][:4]
        raise ValueError(f"{name!r} is no parameter or buffer of the model; names are {', '.join(some)}, …")
    return module, attribute


def find_module(model: nn.Module, name: str) -> nn.Module | None:
    """The module of a canonical name, None where there is none."""
    module = _inner(model)
    for component in name.split(".") if name else ():
        child = module._modules.get(component)
        if child is None:
            return None
        module = _inner(child)
    return module


def _inner(module: nn.Module) -> nn.Module:
    """The module inside a wrapper."""
    for child in ("_orig_mod", "module"):
        if child in module._modules and is_wrapper(module, child):
            return _inner(module._modules[child])  # type: ignore[arg-type]
    return module


def canonical(model: nn.Module, path: str) -> str:
    """The canonical name of the module at a path of attributes."""
    *_, (components, _) = descend(model, path.split(".") if path else [])
    return ".".join(components)


def modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by canonical name; a shared one under each of its names, a wrapper as the module inside it."""
    return {canonical(model, path): module for path, module in model.named_modules(remove_duplicate=False)}
