"""One stack of networks, trained task by task.

Shapes: C members, U updates a task, B images a batch.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...core import random
from ...methods import REGISTRY, Method, StackedMethod, from_config
from .. import kernels
from ..cuda_graph import Captured
from ..data.mnist import Images
from ..nets import MLP
from ..optimizers import OPTIMIZERS
from ..problems.permuted import DIGITS, MNIST, Course, PermutedImages, Task
from ..studies import StackPlan
from ..studies.systems import System
from . import measures
from .loss import CrossEntropy
from .network import StackedMLP
from .online_metrics import Online


class Trainer:
    """Trains the members of one stack on permuted images.

    Args:
        plan: setting, seed and members.
        images: what they learn from; or the problem made of them, to share it among stacks.
        device: where, if not where the problem is.
        measure_every: the gradient's magnitude is measured at every so many updates.
        progress: called now and then with the number of network-updates just made.
        course: how a task shows the images; None: the paper's, scaled where there are few images.
        dtype: of parameters and all arithmetic.

    Example:
        >>> from regrow.lab.data.mnist import load_digits_images
        >>> from regrow.lab.studies import Member, Setting, StackPlan
        >>> config = {"step_size": 0.05, "decay": 0.0, "noise_variance": 0.0, "source": "paper"}
        >>> plan = StackPlan("one", Setting("small", 10, False, "sgd"), 0, (Member("base", config, 0),))
        >>> row, = Trainer(plan, load_digits_images()).run_task()
        >>> row["task"], 0.2 < row["online_accuracy"] < 0.9
        (0, True)

    Reference:
        Hernandez-Garcia et al. 2025, sections 3 and 4.
    """

    def __init__(
        self,
        plan: StackPlan,
        images: Images | PermutedImages,
        *,
        device: torch.device | str = "cpu",
        measure_every: int = 20,
        progress: Callable[[int], None] | None = None,
        course: Course | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.plan, self.measure_every = plan, measure_every
        if not isinstance(images, PermutedImages):
            images = PermutedImages(images, course or course_for(images), device, plan.standardized)
        if images.standardized != plan.standardized:
            raise ValueError("pixels of a plan and of its images must be alike, raw or standardized; got one of each")
        self.problem, device = images, images.device
        self._progress = progress or (lambda count: None)
        self.task = self.step = 0
        self._task: tuple[int, Task] | None = None  # that `run_updates` trains on
        members, configs = len(plan.members), [dict(m.config) for m in plan.members]
        seeds = [plan.seed] * members
        self.net = StackedMLP(self._fresh(random.key(plan.seed, "initial")), members, device=device, dtype=dtype)
        self._scratch = [i for i, member in enumerate(plan.members) if member.system == "scratch"]
        self.descent = OPTIMIZERS[plan.setting.optimizer](self.net, configs, seeds, self._scratch)
        self.net.units_read = plan.units_read
        self.renewals = self._renewals(configs, seeds)
        if not self.descent.needs_gradient:
            self.net.scale = self.descent.scale().to(device, dtype)
        self._loss = CrossEntropy(self.descent.scale().to(device, dtype))
        self._online = Online(members, self.problem.course.updates_a_task, self.problem.course.batch, device)
        self._observers = [renewal for renewal, _ in self.renewals if renewal.observes]
        self._captured = Captured(self.plain_update) if device.type == "cuda" and self._repeats else None

    @property
    def _repeats(self) -> bool:
        """Are updates at which nothing is due the same work, but for what the optimizer draws?"""
        draws = (r.kind.before is not Method.before and any(m.draws for m in r.methods) for r, _ in self.renewals)
        return not self._observers and not any(draws)

    def _fresh(self, key: int | Tensor) -> MLP:
        setting = self.plan.setting
        generator = torch.Generator().manual_seed(int(key))
        return MLP(
            setting.hidden, setting.layer_norm, self.plan.ln_position, self.problem.pixels, self.problem.classes,
            generator=generator,
        )  # fmt: skip

    def _renewals(self, configs: list[dict[str, Any]], seeds: list[int]) -> list[tuple[StackedMethod, bool]]:
        """Each method with all of its members; and whether it acts inside the backward pass, as the authors' does."""
        systems = [System.of(member.system) for member in self.plan.members]
        renewals = []
        for row in REGISTRY.values():
            for order in ("after", "authors"):
                places = [i for i, s in enumerate(systems) if s.method == row.method.name and s.order == order]
                if places and not row.method.is_noise:  # decay and noise are the optimizer's
                    methods = [from_config(row.method, configs[i]) for i in places]
                    own = StackedMethod(
                        methods, places, [seeds[i] for i in places], self.net,
                        device=self.problem.device, track_overlap=not row.method.by_unit,
                    )  # fmt: skip
                    renewals.append((own, order == "authors"))
        return renewals

    # One task.

    @torch.no_grad()
    def run_task(self) -> list[dict[str, Any]]:
        """Train one task; returns a row of the result table for every member."""
        task = self._begin_task()
        before = measures.activations(self.net, self.problem.probe(self.plan.seed, self.task))
        self._online.begin()
        for renewal, _ in self.renewals:
            renewal.begin_task()
        for u in range(len(task.active_pixels)):
            self._update(task, u, measure=u % self.measure_every == 0)
            if (u + 1) % 100 == 0 or u + 1 == len(task.active_pixels):
                self._progress(self.net.members * (u % 100 + 1))
        rows = self._rows(before)
        self.task += 1
        return rows

    def _begin_task(self) -> Task:
        """Permute the pixels anew: all that belongs to the first layer's weights follows."""
        task = self.problem.task(self.plan.seed, self.task)
        self.net.permute(task.shuffle)
        first = next(iter(self.net.parameters))
        self.descent.permute(first, task.shuffle)
        for renewal, _ in self.renewals:
            renewal.permute(first, task.shuffle)
        if self.task > 0 and self._scratch:
            fresh = self._fresh(random.key(self.plan.seed, "scratch", self.task))
            for member in self._scratch:
                self.net.fill(member, fresh)
                self.descent.forget(member)
        return task

    def _update(self, task: Task, u: int, measure: bool = False) -> None:
        """One update of all members; every reported number is from before it."""
        self.step += 1
        due = [(renewal, inside, which) for renewal, inside in self.renewals if (which := renewal.due(self.step))]
        if self._captured and not due and not measure:
            step = torch.full((), self.step, device=self.problem.device)
            self._online.add(u, self._captured(task.order[u], task.labels[u], step))
            return
        metrics, grad = self._look(task.order[u], task.active_pixels[u], task.labels[u])
        self._online.add(u, metrics)
        inside = [(renewal, which) for renewal, acts_inside, which in due if acts_inside]
        self.net.backward(grad, (lambda i, place: self._renew_inside(u, inside, i, place)) if inside else None)
        gradients = None
        readers = [*self._observers, *(renewal for renewal, _, _ in due)]
        if measure or self.descent.needs_gradient or any(renewal.needs_gradient for renewal in readers):
            gradients = self.net.gradients()
        if measure:
            assert gradients is not None
            self._online.add_gradient(measures.mean_magnitude(gradients))
        self._before_step()
        self.descent.shrink_and_perturb(self.step)
        self.descent.step(gradients)
        for renewal in self._observers:
            renewal.observe(self.step, self.net, gradients)
        for renewal, acts_inside, which in due:
            if not acts_inside:
                self._renew(u, renewal, which, gradients)

    def _look(self, order: Tensor, active_pixels: int, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Metrics of a batch, and the gradient at its logits."""
        return self._loss(self.net.forward(self.problem.inputs(order, active_pixels)), labels)

    def plain_update(self, order: Tensor, labels: Tensor, step: int | Tensor) -> Tensor:
        """An update at which nothing is due and nothing is measured, of fixed shapes, without looking at a value."""
        metrics, grad = self._look(order, self.problem.pixels, labels)
        self.net.backward(grad)
        gradients = self.net.gradients() if self.descent.needs_gradient else None
        self._before_step()
        self.descent.shrink_and_perturb(step)
        self.descent.step(gradients)
        return metrics

    def _before_step(self) -> None:
        for renewal, _ in self.renewals:
            renewal.before(self.step, self.net)

    def _renew(self, u: int, renewal: StackedMethod, which: list[int], gradients: Mapping[str, Tensor] | None) -> None:
        fired = renewal.renew(self.step, self.net, gradients, which)
        self._online.fire(u, [renewal.members[i] for i in which], fired)

    def _renew_inside(self, u: int, due: list[tuple[StackedMethod, list[int]]], layer: int, place: str) -> None:
        """The authors' way: renew one layer's units in the middle of the backward pass."""
        if place != self.plan.units_read:
            return
        for renewal, which in due:
            fired = renewal.renew(self.step, self.net, None, which, [layer])
            self._online.fire(u, [renewal.members[i] for i in which], fired)

    # What comes out.

    def _rows(self, before: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        columns: dict[str, list[Any]] = {name: values.tolist() for name, values in before.items()}
        columns |= {name: values.tolist() for name, values in self._online.results(self._unit()).items()}
        columns["loss_jump"] = [jump if jump == jump else None for jump in columns["loss_jump"]]  # NaN: none
        magnitude = measures.mean_magnitude(self.net.parameters)
        columns["weight_magnitude"] = magnitude.tolist()
        lost = ~magnitude.isfinite() | ~torch.tensor(columns["loss"], device=magnitude.device).isfinite()
        columns["diverged"] = lost.tolist()
        columns |= self._renewed()
        scales = [layer.activation.parameters[1] for layer in self.net.hidden if self.net.normed]
        columns["ln_scale"] = [None] * self.net.members
        if scales:
            columns["ln_scale"] = torch.cat(scales, 1).abs().double().mean(1).tolist()
        rows = []
        for i, member in enumerate(self.plan.members):
            row = {
                "study": "", "setting": self.plan.setting.name, "system": member.system,
                "config_id": member.config_id, "config": json.dumps(dict(member.config), sort_keys=True),
                "seed": member.seed, "task": self.task,
            }  # fmt: skip
            rows.append(row | {name: values[i] for name, values in columns.items()})
        return rows

    def _unit(self) -> Tensor:
        """1 / scale: from gradients of the scaled loss to those of the loss, (C)."""
        return 1 / self._loss.scale.double()

    def _renewed(self) -> dict[str, list[Any]]:
        n = self.net.members
        columns: dict[str, list[Any]] = {name: [0] * n for name in ("renewed", "renewed_units", "renewed_zero")}
        columns |= {"overlap": [None] * n, "mature": [None] * n}
        for renewal, _ in self.renewals:
            mature = renewal.mature(self.step)
            counts = {name: count.tolist() for name, count in renewal.counts.items()}
            for j, i in enumerate(renewal.members):
                for name in ("renewed", "renewed_units", "renewed_zero"):
                    columns[name][i] = counts[name][j]
                if not renewal.kind.by_unit and counts["renewed"][j]:
                    columns["overlap"][i] = counts["again"][j] / counts["renewed"][j]
                if mature is not None:
                    columns["mature"][i] = int(mature[j])
        return columns

    # How it is stored.

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next task needs: tensors, numbers, strings."""
        return {
            "task": self.task,
            "step": self.step,
            "parameters": {name: w.cpu().clone() for name, w in self.net.parameters.items()},
            "slots": self.net.slots.cpu().clone(),
            "descent": self.descent.state_dict(),
            "renewals": [renewal.state_dict() for renewal, _ in self.renewals],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state, bit for bit."""
        self.task, self.step = state["task"], state["step"]
        for name, w in self.net.parameters.items():
            w.copy_(state["parameters"][name])
        self.net.slots.copy_(state.get("slots", self.net.slots))  # older states hold no system that needs them
        self.descent.load_state_dict(state["descent"])
        for (renewal, _), stored in zip(self.renewals, state["renewals"], strict=True):
            renewal.load_state_dict(stored)
        if self._captured:
            self._captured.forget()

    # How fast it is.

    @torch.no_grad()
    def run_updates(self, count: int) -> None:
        """Train so many updates of the current task without measuring, starting over at its end."""
        task = self._current_task()
        for _ in range(count):
            self._update(task, self.step % len(task.active_pixels))

    def _current_task(self) -> Task:
        if self._task is None or self._task[0] != self.task:
            self._task = self.task, self.problem.task(self.plan.seed, self.task)
        return self._task[1]

    def sample(self, seconds: float) -> float:
        """Seconds per update of the whole stack, measured for about `seconds`, compilation not included."""
        self.run_updates(10)
        done = 0
        with kernels.compiling() as compiled:
            start = time.perf_counter()
            while (spent := time.perf_counter() - start - compiled()) < seconds:
                self.run_updates(10)
                done += 10
        return spent / max(done, 1)


def course_for(images: Images) -> Course:
    """The paper's course if there are enough images for it, else the one scaled to the embedded digits."""
    return MNIST if len(images.labels) >= MNIST.images else DIGITS
