"""Something that learns like a trainer does, but fast and only by chance: to test what stores, stops and resumes."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from regrow.lab.runs.store import Store
from regrow.lab.runs.training import train_stack
from regrow.lab.studies import Member, Setting, StackPlan

SMALL = Setting("small", 10, False, "sgd")
UPDATES = 10


def plans(count: int, systems: tuple[str, ...] = ("base", "swr")) -> list[StackPlan]:
    """Stacks of one seed each."""
    config = {"step_size": 0.1}
    return [
        StackPlan(f"small.seed{seed}.0", SMALL, seed, tuple(Member(system, config, seed) for system in systems))
        for seed in range(count)
    ]


@dataclass(frozen=True)
class MakeWalk:
    """Makes walks; picklable. `fails` and `dies`: {stack: task} that raises, or whose process is killed."""

    pause: float = 0.0
    fails: tuple[tuple[str, int], ...] = ()
    dies: tuple[tuple[str, int], ...] = ()

    def __call__(self, plan: StackPlan, progress: Callable[[int], None]) -> "Walk":
        return Walk(plan, progress, self.pause, dict(self.fails).get(plan.id), dict(self.dies).get(plan.id))


class Walk:
    """A random walk for each member; its place is what the next task depends on."""

    def __init__(
        self, plan: StackPlan, progress: Callable[[int], None], pause: float, fails: int | None, dies: int | None
    ) -> None:
        self._plan, self._progress, self._pause, self._fails, self._dies = plan, progress, pause, fails, dies
        self._generator = torch.Generator().manual_seed(plan.seed)
        self._place = torch.zeros(len(plan.members), 100, dtype=torch.float64)
        self.task = 0

    def run_task(self) -> list[dict[str, Any]]:
        for _ in range(UPDATES):
            self._place += torch.randn(self._place.shape, generator=self._generator, dtype=torch.float64)
            self._progress(len(self._place))
            time.sleep(self._pause / UPDATES)
        if self.task == self._fails:
            raise ArithmeticError("the walk fell\ninto a hole")
        if self.task == self._dies:
            os.kill(os.getpid(), signal.SIGKILL)
        rows = [
            {"setting": "small", "system": member.system, "config_id": member.config_id, "config": "{}"}
            | {"seed": member.seed, "task": self.task, "diverged": False}
            | {"online_accuracy": place.cos().mean().item(), "loss": place.sum().item()}
            for member, place in zip(self._plan.members, self._place)
        ]
        self.task += 1
        return rows

    def state_dict(self) -> dict[str, Any]:
        return {"task": self.task, "place": self._place.clone(), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.task = state["task"]
        self._place.copy_(state["place"])
        self._generator.set_state(state["generator"])


def train_here(store: Store, stacks: list[StackPlan], tasks: int) -> None:
    """Train stacks one after another in this process."""
    for plan in stacks:
        train_stack(plan, MakeWalk(), store, tasks)
