"""Making maintainers for a model that continues from a checkpoint.

A maintainer takes laws from the values that it is made on. Those of a resumed model are trained, and may fit no law,
although the stored state brings the right ones. So while maintainers are made, draws from the stored laws stand in.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..core import random
from ..laws import Law, law_from_dict
from ..names import walk
from ..shards import local


@contextmanager
def fresh_values(model: nn.Module, states: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Let parameters hold fresh values for a while, drawn from the laws in these states of maintainers.

    Args:
        model: holds the modules that the maintainers are to be made for.
        states: their stored `state_dict()`s; without any, nothing happens.
    """
    if not states:
        yield
        return
    parameters = {home.name: entry.parameter for entry in walk(model) for home in (entry, *entry.aliases)}
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for parameter, name, law in _matches(parameters, states):
                here = local(parameter.detach())
                kept.append((here, here.clone()))
                here.copy_(_draw(law, name, here))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of guessed laws: the stored ones win
            yield
    finally:
        with torch.no_grad():
            for here, values in reversed(kept):
                here.copy_(values)


def _matches(
    parameters: Mapping[str, Tensor], states: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Tensor, str, Law]]:
    """The parameters that a state has laws of, wherever in the model the module lies that it names them from."""
    for state in states:
        laws: Mapping[str, Any] = state.get("laws", {})
        for prefix in _prefixes(parameters, laws):
            for name, law in laws.items():
                yield parameters[prefix + name], prefix + name, law_from_dict(law)


def _prefixes(parameters: Mapping[str, Tensor], laws: Mapping[str, Any]) -> list[str]:
    first = next(iter(laws), None)
    if first is None:
        return []
    candidates = [n.removesuffix(first) for n in parameters if n == first or n.endswith(f".{first}")]
    return [prefix for prefix in candidates if all(prefix + name in parameters for name in laws)]


def _draw(law: Law, name: str, like: Tensor) -> Tensor:
    key = random.key("fresh", name)
    return law.draw(random.bits(key, torch.arange(like.numel(), device=like.device))).reshape(like.shape)
