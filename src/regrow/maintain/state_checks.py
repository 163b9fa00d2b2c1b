"""Reading a stored state: complete and of the right types, or one clear line and nothing changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..check import field

VERSION = 1

_TALLY = {"renewals": int, "skipped_no_grad": int, "past": Tensor, "last": Tensor, "bits": Mapping}


@dataclass(frozen=True)
class Stored:
    """The part of a state that all maintainers have."""

    step: int
    attempts: int
    seed: int
    knobs: Mapping[str, Any]
    tally: Mapping[str, Any]


def read(state: Any, method: str) -> Stored:
    """The common part of a state, checked.

    Raises:
        TypeError, ValueError: where something is missing, of another type, version or method.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"load_state_dict takes what state_dict() returned, a dict; got {type(state).__name__}")
    version = field(state, "version", int)
    if version != VERSION:
        raise ValueError(f"state_dict is of version {version}, this regrow reads version {VERSION}: update regrow")
    if field(state, "method", str) != method:
        raise ValueError(f"state_dict is of method {state['method']!r}; this maintainer is {method!r}")
    step = field(state, "step", int, low=0)
    tally = field(state, "tally", Mapping)
    for key, kind in _TALLY.items():
        field(tally, key, kind, low=0 if kind is int else None)
    for key in ("past", "last"):
        if tally[key].shape != (5,) or tally[key].dtype != torch.int64:
            got = f"{tally[key].dtype} of shape {tuple(tally[key].shape)}"
            raise ValueError(f"state_dict['tally'][{key!r}] must hold 5 counts, int64; got {got}")
    for name, bits in tally["bits"].items():
        if not isinstance(bits, Tensor):
            raise TypeError(f"state_dict['tally']['bits'][{name!r}] must be a tensor; got {type(bits).__name__}")
    return Stored(
        step=step,
        attempts=field(state, "attempts", int, low=step),
        seed=field(state, "seed", int, low=0),
        knobs=field(state, "knobs", Mapping),
        tally=tally,
    )
