"""How loops are compiled and cached, and which tensors they support."""

import hashlib
import inspect
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
    file.__class__ = type("Verified", (_Verified, type(file)), {})


class _Verified:
    """Files of Numba's cache that end with their SHA-256: a damaged one is compiled anew, and never run."""

    _index_path: str

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[io.BytesIO]:
        with super()._open_for_write(path) as file:  # type: ignore[misc]
            content = io.BytesIO()
            yield content
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())

    def _load_index(self) -> Any:
        return super()._load_index() if _is_sound(self._index_path) else {}  # type: ignore[misc]

    def _load_data(self, name: str) -> Any:
        if not _is_sound(self._data_path(name)):  # type: ignore[attr-defined]
            raise FileNotFoundError(name)  # so it is compiled, and written anew
        return super()._load_data(name)  # type: ignore[misc]


def _is_sound(path: str) -> bool:
    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-32]).digest() == content[-32:]


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
