"""How a loop is compiled, and what it may work on."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import torch
from numba.core import event
from torch import Tensor

from ...core.eager import looking_is_free

# Sums may be reordered, so as to be made in vectors. What is NaN or infinite stays so. Numba looks at the date of a
# loop's own file alone: after a change here, save those that hold loops anew, or what is kept on disk stays in use.
_REORDERED = {"reassoc", "contract", "nsz"}


def compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    """The same loop in machine code, made at the first call and kept on disk."""
    try:
        made = numba.njit(cache=True, error_model="numpy", fastmath=_REORDERED)(loop)
    except RuntimeError:  # no folder to keep it in may be written to
        return numba.njit(error_model="numpy", fastmath=_REORDERED)(loop)
    # Numba numbers the files it keeps without a lock. Where two processes compile a loop for different types at once,
    # one's file must not be taken for the other's.
    kept: Any = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_data_name_pattern"):
        kept._data_name_pattern = kept._data_name_pattern.replace("{number", f"{os.getpid()}-{{number")
        kept.__class__ = type("Verified", (_Verified, type(kept)), {})
    return made


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


@contextmanager
def compiling() -> Iterator[Callable[[], float]]:
    """Within it, what is given answers how many seconds went into compiling so far."""
    with event.install_listener("numba:compile", event.TimingListener()) as listener:
        yield lambda: listener.duration if listener.done else 0.0


def fit(x: Tensor) -> bool:
    """May the loops work on this tensor?"""
    return looking_is_free(x) and x.dtype in (torch.float32, torch.float64)
