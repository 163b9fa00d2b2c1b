"""How long training takes here, from a few seconds of it."""

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
    """A trainer that can be tried for a while."""

    def sample(self, seconds: float) -> float:
        """Seconds that an update of the whole stack takes, tried for about so long."""
        ...


def structure(plan: StackPlan) -> Structure:
    """What decides how long an update of a stack takes."""
    name = "vit" if isinstance(plan.setting, ViTSetting) else plan.setting.name
    return name, plan.ln_position, tuple(sorted(member.system for member in plan.members))


def calibrate(plans: Sequence[StackPlan], make: Callable[[StackPlan], Sampled], seconds: float = 1.0) -> Speeds:
    """How long an update of each stack takes on one core, all its members together.

    Trains a stack of each structure for a moment. When the time is over, at least one of each setting is measured, and
    `estimate` derives the others from these.

    Args:
        plans: the stacks.
        make: makes a trainer, which is thrown away.
        seconds: for all structures together, beside what must be compiled.
    """
    of_structure = {structure(plan): plan for plan in reversed(plans)}
    speeds: dict[Structure, float] = {}
    share, start = seconds / max(1, len(of_structure)), time.perf_counter()
    with as_workers_do(), kernels.compiling() as compiled:
        for found, plan in _settings_in_turn(of_structure):
            known = {name for name, _, _ in speeds}
            if found[0] not in known or time.perf_counter() - start - compiled() < seconds:
                speeds[found] = make(plan).sample(max(share, 0.02))
    return speeds


def _settings_in_turn(of_structure: Mapping[Structure, StackPlan]) -> Iterator[tuple[Structure, StackPlan]]:
    """One structure of each setting, then a second of each, …: time may run out."""
    rank: dict[Structure, int] = {}
    seen: dict[str, int] = {}
    for found in of_structure:
        rank[found] = seen[found[0]] = seen.get(found[0], -1) + 1
    yield from sorted(of_structure.items(), key=lambda item: rank[item[0]])


def estimate(plan: StackPlan, speeds: Speeds) -> float:
    """Seconds that an update of a stack takes.

    Where its structure was not measured, each member counts as one does on average in the stacks of its setting that
    have its system, or in all of its setting.

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
    each = [(found[2], cost / len(found[2])) for found, cost in speeds.items() if found[0] == wanted[0]]
    total = 0.0
    for system in wanted[2]:
        alike = [cost for systems, cost in each if system in systems] or [cost for _, cost in each]
        total += sum(alike) / len(alike)
    return total


@contextmanager
def as_workers_do() -> Iterator[None]:
    """Within it, train as a worker process does: one thread, and tiny numbers are 0."""
    threads = torch.get_num_threads()
    use_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def makespan(costs: Sequence[float], workers: int) -> float:
    """When the last of some workers is done, where they take the last stacks in turns.

    max(max_i c_i, sum_i c_i / W), with costs c and W workers: no order of work, however it is broken, ends sooner

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
