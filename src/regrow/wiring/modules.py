"""The modules of a model by canonical name, and what prevents renewing units in them."""

from dataclasses import dataclass, field

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from ..names import walk
from .entries import canonical, modules
from .ops import is_conv1d


@dataclass(frozen=True)
class Dense:
    """A module that maps units to units: y = W h + b at every position.

    Args:
        name: canonical name of the module.
        module: the module.
        dim_out, dim_in: the dimensions of `weight` that index what it gives and what it reads.
        axis: of the features in its input and output, counted from the end.
    """

    name: str
    module: nn.Module = field(repr=False, compare=False)
    dim_out: int
    dim_in: int
    axis: int

    @property
    def n_out(self) -> int:
        return self.module.weight.shape[self.dim_out]  # type: ignore[union-attr]

    @property
    def n_in(self) -> int:
        return self.module.weight.shape[self.dim_in]  # type: ignore[union-attr]

    @property
    def weight(self) -> str:
        return join(self.name, "weight")

    @property
    def bias(self) -> str | None:
        return None if self.module.bias is None else join(self.name, "bias")


def join(*parts: str) -> str:
    """Join the parts of a name; the root's part is empty."""
    return ".".join(part for part in parts if part)


class Catalog:
    """A model's modules and parameters.

    Args:
        model: any module, wrapped or not.
        frozen: frozen parameters may belong to units, as for measuring, which changes none.
    """

    def __init__(self, model: nn.Module, frozen: bool = False) -> None:
        self._frozen = frozen
        self.modules = modules(model)
        self.root = self.modules[""]
        self._names: dict[int, list[str]] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            self._names.setdefault(id(module), []).append(canonical(model, path))
        self._tied = {id(e.parameter): e for e in walk(model) if any(a.module is not e.module for a in e.aliases)}
        self._listed = {id(inner) for twice in _listed_twice(model) for inner in twice.modules()}
        self.calls: dict[int, int] = {}
        """How often the traced forwards call each module, by id."""
        self.touched: dict[int, str] = {}
        """Parameters that a forward uses by itself, by id, and where."""

    def name(self, module: nn.Module) -> str:
        """Its canonical name, the first if there are several."""
        return self._names[id(module)][0]

    def by_first_name(self) -> list[tuple[str, nn.Module]]:
        """(name, module), each module once."""
        return [(name, module) for name, module in self.modules.items() if self.name(module) == name]

    def once(self, module: nn.Module) -> bool:
        """True for a module that is called at most once in a forward pass; how many names it has does not matter."""
        return id(module) not in self._listed and self.calls.get(id(module), 0) <= 1

    def dense(self, module: nn.Module) -> Dense | None:
        """The module as a map of units to units, if it is one of the kinds known."""
        name, kind = self.name(module), type(module)
        if "forward" in module.__dict__:  # somebody's own
            return None
        if isinstance(module, nn.Linear) and kind.forward is nn.Linear.forward:
            return Dense(name, module, 0, 1, -1)
        if isinstance(module, _ConvNd) and kind.forward.__module__ == _ConvNd.__module__:
            out, into = (1, 0) if isinstance(module, _ConvTransposeNd) else (0, 1)
            return Dense(name, module, out, into, -1 - len(module.kernel_size))
        if is_conv1d(module):
            return Dense(name, module, 1, 0, -1)
        return None

    def unfit(self, module: nn.Module) -> str:
        """Why the parameters of a module cannot belong to units; "" where they can."""
        if parametrize.is_parametrized(module) or any(
            isinstance(module, nn.Linear | _ConvNd) and name not in module._parameters for name in ("weight", "bias")
        ):
            return "its weight is computed from other parameters (a parametrization)"
        if isinstance(module, _ConvNd) and module.groups > 1:
            return f"a grouped convolution ({module.groups} groups)"
        if not self.once(module):
            return "shared: the forward calls it more than once"
        for parameter in module._parameters.values():
            if parameter is None:
                continue
            if id(parameter) in self._tied:
                entry = self._tied[id(parameter)]
                other = next(alias for alias in entry.aliases if alias.module is not entry.module)
                return f"tied: {entry.name} is also {other.name}"
            if id(parameter) in self.touched:
                return f"shared: {self.touched[id(parameter)]} uses its parameters by itself"
            if nn.parameter.is_lazy(parameter):
                return "not initialised yet: run one forward of the lazy module first"
            if not (parameter.requires_grad or self._frozen):
                return "frozen"
        return ""

    def candidates(self) -> dict[str, nn.Module]:
        """The modules that one might expect to hold units: layers, attention and recurrent networks."""
        kinds = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.Bilinear)
        return {
            name: module
            for name, module in self.by_first_name()
            if isinstance(module, (nn.Linear, _ConvNd, *kinds)) or self.dense(module)
        }


def _listed_twice(model: nn.Module) -> list[nn.Module]:
    """Modules that appear several times in one list, and so are called several times."""
    lists = [m for m in model.modules() if isinstance(m, (nn.Sequential, nn.ModuleList))]
    items = [[child for child in holder._modules.values() if child is not None] for holder in lists]
    return [child for children in items for i, child in enumerate(children) if any(c is child for c in children[:i])]
