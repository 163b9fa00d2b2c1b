"""What is each parameter called, and where does it live?

A name is the one `model.named_parameters()` gives, without the `_orig_mod` of `torch.compile` and without the
`module` of wrappers such as DistributedDataParallel: it stays the same however the model is wrapped.
"""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .shards import is_sharded, refused


@dataclass(frozen=True, eq=False)
class Entry:
    """One parameter and its home.

    Args:
        name: canonical name; of a tied parameter the first one.
        module: the module whose attribute it is.
        attribute: its name there.
        ancestors: (name relative to the ancestor, ancestor) from the home module itself up to the model.
        aliases: the other homes of a tied parameter.
    """

    name: str
    module: nn.Module
    attribute: str
    ancestors: tuple[tuple[str, nn.Module], ...] = ()
    aliases: tuple["Entry", ...] = ()

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter that is there now: `.to()` and loading may put another object in its place."""
        parameter = self.module._parameters[self.attribute]  # what getattr finds, in a tenth of the time
        assert parameter is not None
        return parameter

    def matches(self, pattern: str) -> bool:
        """True where the pattern fits any of the parameter's names."""
        return any(matches(pattern, home.name) for home in (self, *self.aliases))


def matches(pattern: str, name: str) -> bool:
    """Does a pattern name this parameter, or a module that holds it?

    Args:
        pattern: shell-style (`*`, `?`, `[...]`), or the name of a module for all that is in it.
        name: canonical name of a parameter.

    Example:
        >>> matches("*.bias", "fc.0.bias"), matches("fc", "fc.0.bias"), matches("f", "fc.0.bias")
        (True, True, False)
    """
    return fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern + ".")


def walk(model: nn.Module) -> list[Entry]:
    """Every parameter of a model once, in the order of `model.named_parameters()`.

    Args:
        model: any module, wrapped or not.

    Returns:
        One `Entry` for each distinct parameter; a tied one under its first name.

    Example:
        >>> from torch import nn
        >>> [entry.name for entry in walk(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.PReLU()))]
        ['0.weight', '0.bias', '2.weight']
    """
    homes: dict[nn.Parameter, list[Entry]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        homes.setdefault(parameter, []).append(_home(model, path))
    return [Entry(h.name, h.module, h.attribute, h.ancestors, tuple(others)) for h, *others in homes.values()]


def _home(model: nn.Module, path: str) -> Entry:
    """The entry of the parameter at a path of attributes."""
    *components, attribute = path.split(".")
    chain = list(descend(model, components))
    name = ".".join([*chain[-1][0], attribute])
    # A wrapper's canonical prefix is that of the module it wraps, so a name relative to either is the same.
    ancestors = [(".".join(name.split(".")[len(prefix) :]), module) for prefix, module in reversed(chain)]
    return Entry(name, chain[-1][1], attribute, tuple(ancestors))


def descend(model: nn.Module, components: list[str]) -> Iterator[tuple[list[str], nn.Module]]:
    """(canonical components, module) of each module on the way, the model first."""
    prefix: list[str] = []
    module = model
    yield prefix, module
    for component in components:
        if not is_wrapper(module, component):
            prefix = [*prefix, component]
        module = getattr(module, component)
        yield prefix, module


def is_wrapper(module: nn.Module, child: str) -> bool:
    """Is this module only a wrapper around its child?"""
    alone = len(module._modules) == 1 and not module._parameters and not module._buffers
    return child == "_orig_mod" or (child == "module" and alone)


def unsupported(tensor: Tensor) -> str:
    """Why entries of a parameter, or of an optimizer's state, cannot be renewed one by one; "" where they can.

    Plain tensors can, and those that `fully_shard` makes on a mesh of one dimension. So can subclasses that add
    methods; those that override how operations compute cannot.

    Args:
        tensor: any tensor.

    Example:
        >>> unsupported(nn.Parameter(torch.zeros(2))), unsupported(torch.zeros(2, 2).to_sparse())
        ('', 'a sparse tensor (sparse_coo): keep it dense')
    """
    if is_sharded(tensor):
        why = refused(tensor)
        return f"a DTensor {why}" if why else ""
    kinds = type(tensor).__mro__
    for (package, name), reason in _UNSUPPORTED.items():
        if any(k.__module__.split(".")[0] == package and (not name or k.__name__ == name) for k in kinds):
            return f"a {type(tensor).__name__}: {reason}"
    if tensor.layout is not torch.strided:
        return f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')}): keep it dense"
    if getattr(type(tensor), "__torch_dispatch__", None) not in _PLAIN:
        return f"a {type(tensor).__name__}, a tensor subclass with operations of its own: use a plain torch.Tensor"
    return ""


_PLAIN = tuple(getattr(kind, "__torch_dispatch__", None) for kind in (Tensor, nn.Parameter))
_UNSUPPORTED = {
    ("torch", "FlatParameter"): "FSDP keeps many parameters in one here; use fully_shard, or DistributedDataParallel",
    ("torchao", ""): "its entries share scales in blocks; use an optimizer of torch.optim, or unquantised weights",
    ("bitsandbytes", ""): "its entries share scales in blocks; maintain the floating-point model",
}
"""What is known, by package and class name ("" for every class of the package), and what to do."""
