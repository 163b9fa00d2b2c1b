"""The state of a maintainer: what is in it, and how to go on from one."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import check
from ..methods.counters import pack, unpack
from ..names import Entry
from ..shards import local, part_for, whole
from .attachment import Attachment
from .maintained import Maintained
from .state_checks import VERSION, read, read_restarts, refuse_other_network, shapes_of
from .step_loop import StepLoop


def state_of(
    loop: StepLoop, maintained: Maintained, attachment: Attachment, knobs: Mapping[str, Any]
) -> dict[str, Any]:
    """All that the next update needs; tensors keep their shapes from the start, since checkpoints load in place."""
    entries, counters = maintained.stored(), loop.stacked.counters
    state: dict[str, Any] = {
        "version": VERSION,
        "method": loop.method.name,
        "step": loop.counter.steps,
        "attempts": loop.counter.attempts,
        "seed": loop.stacked.seeds[0],
        "knobs": dict(knobs),
        "shapes": shapes_of(entries),
        "tally": counters.state(0),
    }
    if counters.track_overlap:
        bits = state["tally"]["bits"]
        state["tally"]["bits"] = {e.name: _stored_bits(e.parameter, bits.get(e.name)) for e in entries}
    if maintained.laws is not None:
        state["laws"] = maintained.laws.state_dict()
    if attachment.restarts is not None:
        never = {e.name: torch.zeros(local(e.parameter).shape, dtype=torch.int32) for e in entries}
        born = {name: born.cpu().clone() for name, born in attachment.restarts.born.items()}
        state["restarts"] = _of_parameters(entries, never | born, whole)
    memory = _of_parameters(entries, loop.stacked.dates.state(0), whole)
    return state | ({loop.method.memory: memory} if memory else {})


def _of_parameters(
    entries: list[Entry], values: Mapping[str, Any], convert: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Any]:
    """Tensors of the shapes of parameters, which lie in shards where these do; all else as it is."""
    named = {e.name: e.parameter for e in entries}
    return {k: convert(named[k], v) if k in named and isinstance(v, Tensor) else v for k, v in values.items()}


def _stored_bits(parameter: Tensor, bits: Tensor | None) -> Tensor:
    """Flags of the last renewal, one for each entry, in shards where the parameter is: so any run can load them."""
    here = local(parameter)
    if bits is None:
        return whole(parameter, torch.zeros(here.shape, dtype=torch.uint8))
    return whole(parameter, unpack(bits.unsqueeze(0), here.numel()).view(here.shape).to(torch.uint8))


def _own_bits(parameter: Tensor, stored: Tensor) -> Tensor:
    """Eight flags in a byte, of the entries here; regrow 0.1 stored them so."""
    if stored.shape != parameter.shape:
        stored = unpack(stored.unsqueeze(0), parameter.numel()).view(parameter.shape)
    return pack(part_for(parameter, stored).reshape(1, -1).bool()).squeeze(0).cpu()


def load(
    loop: StepLoop, maintained: Maintained, attachment: Attachment, knobs: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Go on from a state, or refuse all of it; a warning names the knobs that differ from those here.

    Raises:
        TypeError, ValueError: where it is something else.
    """
    stored, entries = read(state, loop.method.name), maintained.stored()
    refuse_other_network(state, entries, stored.tally["bits"])
    differing = {k: v for k, v in stored.knobs.items() if k in knobs and knobs[k] != v}
    if differing:
        listed = ", ".join(f"{k} stored {v!r}, here {knobs[k]!r}" for k, v in differing.items())
        who = type(loop.method).__name__
        warnings.warn(f"{who}: the stored knobs differ from this maintainer's, which are kept: {listed}", stacklevel=3)
    born = _of_parameters(entries, read_restarts(state, entries), part_for)
    tally = {**stored.tally, "bits": _of_parameters(entries, stored.tally["bits"], _own_bits)}
    memory = loop.stacked.dates.state(0)
    if memory:
        memory = _of_parameters(entries, check.field(state, loop.method.memory, Mapping), part_for)
    laws = maintained.laws.read(state) if maintained.laws is not None else {}
    if memory:
        loop.stacked.dates.load(0, memory)
    if maintained.laws is not None:
        maintained.laws.take(laws, maintained.coverage.entries)
    loop.stacked.seeds = [stored.seed]
    loop.counter.reset(stored.step, stored.attempts)
    loop.stacked.counters.load(0, tally)
    if attachment.restarts is not None:
        attachment.restarts.born = born
