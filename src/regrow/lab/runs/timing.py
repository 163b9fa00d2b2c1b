"""Estimates how long training takes on this machine, from a short sample."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch

from .. import kernels
from ..studies import StackPlan, ViTSetting
from .worker import use_one_thread

Structure = tuple[str, str, tuple[str, ...]]
"""Setting, place of its layer norm, systems of all members. All vision transformers count as one setting."""

Speeds = Mapping[Structure, float]
"""{structure: seconds that an update of the whole stack takes}"""


class Sampled(Protocol):
    """A trainer that can be timed."""

    def sample(self, seconds: float) -> float:
        """Seconds per update of the whole stack, measured for about the given time."""
        ...


def structure(plan: StackPlan) -> Structure:
    """Everything that decides how long an update of a stack takes."""
    name = "vit" if isinstance(plan.setting, ViTSetting) else plan.setting.name
    return name, plan.ln_position, tuple(sorted(member.system for member in plan.members))


def calibrate(plans: Sequence[StackPlan], make: Callable[[StackPlan], Sampled], seconds: float = 1.0) -> Speeds:
    """Time an update of each stack on one core, all its members together.

    Trains a stack of each structure for a moment. At least one of each setting is measured; where time runs out,
    `estimate` derives the others from these.

    Args:
        plans: the stacks.
        make: makes a trainer, discarded afterwards.
        seconds: for all structures together, compilation not counted.
    """
    of_structure = {structure(plan): plan for plan in reversed(plans)}
    speeds: dict[Structure, float] = {}
    share, start = seconds / max(1, len(of_structure)), time.perf_counter()
    with as_workers_do(), kernels.compiling() as compiled:
        for key, plan in _settings_in_turn(of_structure):
            measured = {name for name, _, _ in speeds}
            if key[0] not in measured or time.perf_counter() - start - compiled() < seconds:
                speeds[key] = make(plan).sample(max(share, 0.02))
    return speeds


def _settings_in_turn(of_structure: Mapping[Structure, StackPlan]) -> Iterator[tuple[Structure, StackPlan]]:
    """One structure of each setting, then a second of each, …: time may run out."""
    rank: dict[Structure, int] = {}
    seen: dict[str, int] = {}
    for key in of_structure:
        rank[key] = seen[key[0]] = seen.get(key[0], -1) + 1
    yield from sorted(of_structure.items(), key=lambda item: rank[item[0]])


def estimate(plan: StackPlan, speeds: Speeds) -> float:
    """Seconds per update of a stack.

    Where its structure was not measured, each member counts as much as the average member of the stacks of its setting
    that have its system, or of all stacks of its setting.

    Args:
        plan: the stack.
        speeds: of `calibrate`, with at least one stack of its setting.

    Example:
        >>> from regrow.lab.studies.packing import pack
        >>> base, swr = pack("optimizers", ["large"], ["base"]) + pack("optimizers", ["large"], ["swr"])
        >>> estimate(base, {structure(base): 0.001, structure(swr): 0.002})
        0.001
    """
    wanted = structure(plan)
    if wanted in speeds:
        return speeds[wanted]
    each = [(key[2], cost / len(key[2])) for key, cost in speeds.items() if key[0] == wanted[0]]
    total = 0.0
    for system in wanted[2]:
        alike = [cost for systems, cost in each if system in systems] or [cost for _, cost in each]
        total += sum(alike) / len(alike)
    return total


@contextmanager
def as_workers_do() -> Iterator[None]:
    """Within it, train as a worker process does: one thread, denormals are 0."""
    threads = torch.get_num_threads()
    use_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def makespan(costs: Sequence[float], workers: int) -> float:
    """When the last of W workers finishes, where they take the last stacks in turns.

    max(max_i c_i, sum_i c_i / W), with costs c: no schedule, preemptive or not, ends sooner

    Args:
        costs: c, seconds of each stack.
        workers: W >= 1.

    Returns:
        Seconds.

    Example:
        >>> makespan([3.0, 2.0, 2.0, 2.0], workers=2), makespan([3.0, 1.0], workers=2)
        (4.5, 3.0)

    Reference:
        McNaughton 1959, "Scheduling with deadlines and loss functions".
    """
    return max([*costs, sum(costs) / workers])
