"""The laws that modules declare in `init_laws()` methods."""

from collections.abc import Mapping

from torch import nn

from ..names import Entry
from .distributions import Law


class Declared:
    """The laws that modules declare in `init_laws()` methods, each called once."""

    def __init__(self) -> None:
        self._known: dict[nn.Module, Mapping[str, Law]] = {}

    def __call__(self, entry: Entry) -> Law | None:
        """The law in the nearest module that names the parameter."""
        for home in (entry, *entry.aliases):
            for name, module in home.ancestors:
                if name in (laws := self._of(module)):
                    return laws[name]
        return None

    def _of(self, module: nn.Module) -> Mapping[str, Law]:
        if module not in self._known:
            method = getattr(module, "init_laws", None)
            laws = method() if callable(method) else {}
            rule = f"{type(module).__name__}.init_laws() must return a mapping from parameter names to laws"
            if not isinstance(laws, Mapping):
                raise TypeError(f"{rule}; got {type(laws).__name__}")
            for name, law in laws.items():
                if not isinstance(law, Law):
                    raise TypeError(f"{rule}; got {type(law).__name__} for {name!r}")
                if not hasattr(module, name.split(".")[0]):
                    raise ValueError(f"{rule}; it has no {name!r}")
            self._known[module] = laws
        return self._known[module]
