"""Keep what modules hold in Python containers through a forward that is only followed, not run."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_CONTAINERS = (list, dict, set, deque)


@contextmanager
def containers_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Restore on exit, in place, the attributes of modules and the contents of every list, dict, set and deque there.

    Containers within containers or tuples count, and so do modules that only a container holds. Other objects are
    left as they are.

    Args:
        modules: whose forwards may write.
    """
    kept = [(held, _items(held)) for held in _containers(modules)]
    try:
        yield
    finally:
        for held, before in kept:
            now = _items(held)
            if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
                _refill(held, before)


def _containers(modules: Iterable[nn.Module]) -> list[Any]:
    """Every container in the modules' attributes, once."""
    found: dict[int, Any] = {}
    left: list[Any] = list(modules)
    while left:
        held = left.pop()
        if isinstance(held, nn.Module):
            held = () if isinstance(held, torch.jit.ScriptModule) else vars(held)
        if id(held) not in found:
            found[id(held)] = held
            values = held.values() if isinstance(held, dict) else held
            left += [value for value in values if isinstance(value, (*_CONTAINERS, tuple, nn.Module))]
    return [held for held in found.values() if isinstance(held, _CONTAINERS)]


def _items(held: Any) -> list[Any]:
    """The contents in order; of a dict the keys, then the values."""
    return [*held.keys(), *held.values()] if isinstance(held, dict) else list(held)


def _refill(held: Any, items: list[Any]) -> None:
    held.clear()
    if isinstance(held, dict):
        half = len(items) // 2
        held.update(zip(items[:half], items[half:], strict=True))
    elif isinstance(held, set):
        held.update(items)
    else:
        held.extend(items)
