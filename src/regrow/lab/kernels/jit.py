"""How loops are compiled and cached, and which tensors they support."""

import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numba
import numpy as np
import torch
from numba.core import event
from torch import Tensor

from ...core.eager import looking_is_free

# Sums may be reordered, so that they vectorize. NaN and infinity are kept.
_REORDERED = {"reassoc", "contract", "nsz"}


def compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """The same loop in machine code, compiled at the first call and cached on disk.

    The cache is valid for the sources that the loop was compiled from: its own module, and all of its package that this
    one imports, constants among them.
    """
    options: Any = {"error_model": "numpy", "fastmath": _REORDERED}
    try:
        made: Any = numba.njit(cache=True, **options)(loop)
        _key_cache(made._cache._cache_file, _digest(loop))
    except (RuntimeError, AttributeError, OSError):  # no writable folder, another Numba's way to cache, no sources
        return numba.njit(**options)(loop)
    return made


def _key_cache(file: Any, digest: str) -> None:
    """Have an index of Numba's cache refer to code of these sources only.

    Numba itself looks at the loop's own file alone. It also numbers its files without a lock: where two processes
    compile a loop for different types at once, one's file must not be taken for the other's.
    """
    file._source_stamp = file._source_stamp, digest
    file._data_name_pattern = file._data_name_pattern.replace("{number", f"{digest[:16]}-{os.getpid()}-{{number")


def _digest(loop: Callable[..., Any]) -> str:
    """A hash of all that a loop may be compiled from: sources, and numbers, whose sources are not known."""
    result = hashlib.sha256()
    for module in sorted(_sources(sys.modules[loop.__module__]), key=lambda m: m.__name__):
        numbers = {name: value for name, value in vars(module).items() if isinstance(value, (int, float, np.generic))}
        result.update(inspect.getsource(module).encode() + repr(numbers).encode())
    return result.hexdigest()


def _sources(module: ModuleType) -> set[ModuleType]:
    """A module, those of its package that it imports from, and so on; and this one, which has the options."""
    package, rest = module.__name__.split(".")[0], [module, sys.modules[__name__]]
    modules: set[ModuleType] = set()
    while rest:
        modules.add(module := rest.pop())
        for value in vars(module).values():
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            of = sys.modules.get(name) if isinstance(name, str) else None
            if of and of not in modules and of.__name__.split(".")[0] == package:
                rest.append(of)
    return modules


@contextmanager
def compiling() -> Iterator[Callable[[], float]]:
    """Yields a function that returns the seconds spent compiling so far."""
    with event.install_listener("numba:compile", event.TimingListener()) as listener:
        yield lambda: listener.duration if listener.done else 0.0


def supports(x: Tensor) -> bool:
    """Whether the loops can work on this tensor."""
    return looking_is_free(x) and x.dtype in (torch.float32, torch.float64)
