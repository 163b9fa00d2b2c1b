"""The state of a maintainer: what is in it, and how to go on from one."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import check
from .attachment import Attachment
from .maintained import Maintained
from .state_checks import VERSION, read, read_restarts, refuse_other_network, shapes_of
from .step_loop import StepLoop


def state_of(
    loop: StepLoop, maintained: Maintained, attachment: Attachment, knobs: Mapping[str, Any]
) -> dict[str, Any]:
    """All that the next update needs; every tensor of the same shape from the start, for checkpoints load in place."""
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
        bytes_of = {e.name: -(-e.parameter.numel() // 8) for e in entries}
        none = {name: torch.zeros(size, dtype=torch.uint8) for name, size in bytes_of.items()}
        state["tally"]["bits"] = none | state["tally"]["bits"]
    if maintained.laws is not None:
        state["laws"] = maintained.laws.state_dict()
    if attachment.restarts is not None:
        born = {name: born.cpu().clone() for name, born in attachment.restarts.born.items()}
        state["restarts"] = _never(maintained) | born
    memory = loop.stacked.dates.state(0)
    return state | ({loop.method.memory: memory} if memory else {})


def _never(maintained: Maintained) -> dict[str, Tensor]:
    return {e.name: torch.zeros(e.parameter.shape, dtype=torch.int32) for e in maintained.stored()}


def load(
    loop: StepLoop, maintained: Maintained, attachment: Attachment, knobs: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Go on from a state, or refuse all of it; a warning tells which knobs differ from those here.

    Raises:
        TypeError, ValueError: where it is something else.
    """
    stored, entries = read(state, loop.method.name), maintained.stored()
    refuse_other_network(state, entries, stored.tally["bits"])
    differing = {k: v for k, v in stored.knobs.items() if k in knobs and knobs[k] != v}
    if differing:
        listed = ", ".join(f"{k} stored {v!r}, here {knobs[k]!r}" for k, v in differing.items())
        who = type(loop.method).__name__
        warnings.warn(f"{who}: knobs differ from the stored ones and stay: {listed}", stacklevel=3)
    born = read_restarts(state, entries)
    laws = maintained.laws.read(state) if maintained.laws is not None else {}
    if loop.stacked.dates.state(0):
        loop.stacked.dates.load(0, check.field(state, loop.method.memory, Mapping))
    if maintained.laws is not None:
        maintained.laws.take(laws, maintained.coverage.entries)
    loop.stacked.seeds = [stored.seed]
    loop.counter.reset(stored.step, stored.attempts)
    loop.stacked.counters.load(0, stored.tally)
    if attachment.restarts is not None:
        attachment.restarts.born = born
