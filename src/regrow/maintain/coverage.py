"""Which parameters does a maintainer look after?"""

import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from .. import shards
from ..names import Entry, matches, unsupported, walk


class Coverage:
    """The parameters of a model that `only` names and `skip` does not.

    Args:
        model: any module.
        only: name patterns; empty for all.
        skip: name patterns.

    Raises:
        TypeError: where `model` is no module, or a parameter is complex or quantised.
        ValueError: where a pattern matches nothing, or nothing is left to maintain.
    """

    def __init__(self, model: nn.Module, only: tuple[str, ...], skip: tuple[str, ...]) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
        self.model, self._only, self._skip = model, only, skip
        self._dicts: list[dict[str, Any]] = []  # every module's parameters and children, as torch keeps them
        self._seen: list[Any] = []  # the objects themselves: an id may be used again
        self.all: list[Entry] = []
        self.entries: list[Entry] = []
        self.computed: list[str] = []  # names of what was a parameter and is computed from others now
        quantised = _quantised_modules(model)
        names = [home.name for entry in walk(model) for home in (entry, *entry.aliases)] + list(quantised)
        for argument, patterns in (("only", only), ("skip", skip)):
            for pattern in patterns:
                if not any(matches(pattern, name) for name in names):
                    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
                    raise ValueError(f"`{argument}`: pattern {pattern!r} matches no parameter; names are {shown}")
        for name, kind in quantised.items():
            if self._chosen([name]):
                raise TypeError(
                    f"{name!r} is quantised ({kind}) and cannot be renewed: maintain the floating-point model, "
                    f"or leave it out with skip={name!r}"
                )
        self.refresh()
        if not any(entry.parameter.requires_grad for entry in self.entries):
            raise ValueError("no trainable parameter to maintain: check `only`, `skip` and requires_grad")

    def refresh(self) -> bool:
        """Look at the model again if any of its parameters is another object than before; True if so."""
        if not self.stale():
            return False
        shards.reshard(self.model)
        if not self.stale():
            return False
        before = self.entries
        self._dicts = [part for m in self.model.modules() for part in (m._parameters, m._modules)]
        self._seen = self._present()
        self.all = walk(self.model)
        self.entries = [e for e in self.all if self._chosen([h.name for h in (e, *e.aliases)])]
        self.computed += [e.name for e in before if e.name not in self.computed and _is_computed(e)]
        for entry in self.entries:
            _refuse(entry)
        return True

    def stale(self) -> bool:
        """Is any parameter or module of the model another object than when last looked at?"""
        now = self._present()
        return not self._seen or len(self._seen) != len(now) or not all(map(operator.is_, self._seen, now))

    @property
    def sharded(self) -> bool:
        """Does any of the parameters lie in shards?"""
        return any(shards.is_sharded(entry.parameter) for entry in self.entries)

    def skipped(self) -> list[str]:
        """Names of the parameters that `skip` names."""
        homes = [home.name for entry in self.all for home in (entry, *entry.aliases)]
        return [name for name in homes if any(matches(pattern, name) for pattern in self._skip)]

    def _present(self) -> list[Any]:
        # At every update: walking the modules afresh would take as long as a small network's update.
        return [value for part in self._dicts for value in part.values()]

    def trainable(self) -> list[Entry]:
        """Entries that require a gradient now."""
        return [entry for entry in self.entries if entry.parameter.requires_grad]

    def _chosen(self, names: list[str]) -> bool:
        def fits(patterns: tuple[str, ...]) -> bool:
            return any(matches(pattern, name) for pattern in patterns for name in names)

        return (not self._only or fits(self._only)) and not fits(self._skip)


def _refuse(entry: Entry) -> None:
    w: Tensor = entry.parameter
    if isinstance(w, UninitializedParameter):
        raise ValueError(f"{entry.name!r} is not initialised yet: run one forward of the lazy module first")
    if w.is_complex():
        raise TypeError(
            f"{entry.name!r} is complex ({_short(w.dtype)}): laws and utilities are defined for real tensors; "
            f"store real and imaginary parts, or leave it out with skip={entry.name!r}"
        )
    quantised = w.is_quantized or (w.is_floating_point() and w.element_size() < 2)
    if quantised or (w.requires_grad and not w.is_floating_point()):
        raise TypeError(
            f"{entry.name!r} is quantised ({_short(w.dtype)}) and cannot be renewed: maintain the floating-point "
            f"model, or leave it out with skip={entry.name!r}"
        )
    if w.requires_grad and (why := unsupported(w)):
        raise TypeError(
            f"{entry.name!r} cannot be renewed because it is {why}; or leave it out with skip={entry.name!r}"
        )


def _is_computed(entry: Entry) -> bool:
    """Is it no parameter any more, but computed from others: pruned, weight-normed, parametrised?"""
    return entry.attribute not in entry.module._parameters and hasattr(entry.module, entry.attribute)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _quantised_modules(model: nn.Module) -> dict[str, str]:
    """Modules of torch's quantised families hold packed weights that are no parameters: {name: type}."""
    return {
        name: type(module).__name__
        for name, module in model.named_modules()
        if ".quantized." in type(module).__module__ + "." and hasattr(module, "_packed_params")
    }
