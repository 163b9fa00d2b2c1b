"""How a loop is compiled, and what it may work on."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    return made


@contextmanager
def compiling() -> Iterator[Callable[[], float]]:
    """Within it, what is given answers how many seconds went into compiling so far."""
    with event.install_listener("numba:compile", event.TimingListener()) as listener:
        yield lambda: listener.duration if listener.done else 0.0


def fit(x: Tensor) -> bool:
    """May the loops work on this tensor?"""
    return looking_is_free(x) and x.dtype in (torch.float32, torch.float64)
