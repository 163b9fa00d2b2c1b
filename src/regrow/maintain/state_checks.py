"""Reading a stored state: complete and of the right types, or one clear line and nothing changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..check import field
from ..names import Entry
from ..shards import local

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


def shapes_of(entries: list[Entry]) -> dict[str, str]:
    """What a state describes: the shape of each parameter by name, as text.

    Example:
        >>> from regrow.names import walk
        >>> shapes_of(walk(torch.nn.Linear(4, 2)))
        {'weight': '2x4', 'bias': '2'}
    """
    return {entry.name: "x".join(map(str, entry.parameter.shape)) for entry in entries}


def refuse_other_network(state: Mapping[str, Any], entries: list[Entry], bits: Mapping[str, Tensor]) -> None:
    """Refuse the state of a maintainer of another network.

    Args:
        state: the stored one; an old one without shapes is judged by the rest.
        entries: what is maintained here.
        bits: of overlaps, by name.

    Raises:
        ValueError: for a parameter that is missing there or here, or of another shape.
    """
    here, there = shapes_of(entries), field(state, "shapes", Mapping) if "shapes" in state else None
    for name, shape in (there or {}).items():
        if not isinstance(shape, str):
            raise TypeError(f"state_dict['shapes'][{name!r}] must be str; got {type(shape).__name__}")
    laws = field(state, "laws", Mapping) if "laws" in state else {}
    unknown = [name for name in (*(there or ()), *laws, *bits) if name not in here]
    missing = [name for name in here if there is not None and name not in there]
    differing = [name for name in here if there is not None and there.get(name, here[name]) != here[name]]
    shape_of = {entry.name: entry.parameter.shape for entry in entries}
    sizes = {name: (-(-shape.numel() // 8),) for name, shape in shape_of.items()}  # a flag each if stored in shards
    differing += [n for n, b in bits.items() if n in here and b.shape not in (shape_of[n], sizes[n])]
    if unknown:
        raise ValueError(
            f"state_dict is of another network: it holds {unknown[0]!r}, which is not maintained here: make the "
            "maintainer for the model, `only` and `skip` that it was stored with"
        )
    if missing:
        raise ValueError(
            f"state_dict is of another network: it lacks {missing[0]!r}, which is maintained here: make the "
            "maintainer for the model, `only` and `skip` that it was stored with"
        )
    if differing:
        name = differing[0]
        got = f", stored as {there[name]}" if there is not None else ""
        raise ValueError(
            f"state_dict is of another network: {name!r} is of shape {here[name]}{got}: make the maintainer for the "
            "model that it was stored with"
        )


def read_restarts(state: Mapping[str, Any], entries: list[Entry]) -> dict[str, Tensor]:
    """Step counts at which entries began anew, of the tensors where any did; checked."""
    stored = field(state, "restarts", Mapping) if "restarts" in state else {}
    shapes = {entry.name: entry.parameter.shape for entry in entries}
    for name, born in stored.items():
        if not isinstance(born, Tensor) or born.dtype != torch.int32 or born.shape != shapes.get(name):
            raise ValueError(f"state_dict['restarts'][{name!r}] must hold an int32 for each entry of the parameter")
    return {name: born.clone() for name, born in stored.items() if local(born).any()}


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
    if "skipped_no_signal" in tally:  # older states have none
        field(tally, "skipped_no_signal", int, low=0)
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
