"""One vision transformer, trained task by task on classes that come a few at a time."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ...core import random
from ..nets import ViT
from ..problems.incremental import BATCH, ClassIncremental, Task
from ..studies import Member, StackPlan, ViTSetting
from . import measures
from .forward import make_dropout
from .methods import make_method
from .optimizer import DESCENTS, guard_
from .options import Options
from .step import Passes, Shown
from .task_metrics import Sums, finite, renewed

PROBE = 1_500  # images on which dead units and ranks are measured, at most
_SHARE = 10  # one image of so many is tried, where all would take too long


class ViTTrainer:
    """Trains the one member of a stack on class-incremental CIFAR-100.

    Every random number is a function of the seed and its purpose: dropout, like the order of the images, is the same
    for all systems of a seed, and a network resumed from a stored state continues bit for bit (on a CPU).

    At the end of a task the parameters go back to those of the epoch with the best validation accuracy; the optimizer
    and what renews stay as they are. A network whose loss is not finite stops: its later rows say `diverged`.

    Args:
        plan: setting, seed and one member.
        problem: the images, of any seed; with as many classes per task as `classes_a_task` returns.
        options: size, length and precision.
        measure_every: the gradient's magnitude is measured at every so many updates of an epoch.
        progress: called after each update with the number of updates.

    Raises:
        ValueError: for a plan of several members, or options that the device of the images does not support.

    Reference:
        Hernandez-Garcia et al. 2025, section 5 and appendices D and E.
    """

    def __init__(
        self,
        plan: StackPlan,
        problem: ClassIncremental,
        *,
        options: Options | None = None,
        measure_every: int = 20,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        if len(plan.members) != 1 or not isinstance(plan.setting, ViTSetting):
            raise ValueError(f"a vision transformer trains alone; got {len(plan.members)} members of {plan.setting}")
        self.plan, self.member = plan, plan.members[0]
        self.options, self.problem = options or Options(), problem.with_seed(plan.seed)
        self.options.check_device(problem.device)
        self.between: Callable[[], None] | None = None
        """Called after each epoch but a task's last, when a state can be stored too."""
        self._measure_every, self._progress = measure_every, progress or (lambda count: None)
        self.task = self.epoch = self.step = 0
        self.diverged = False
        self._sums = Sums()
        self._best: dict[str, Tensor] = {}
        self._build(random.key(plan.seed, "initial"))

    def _build(self, key: int | Tensor) -> None:
        """A new network, with an optimizer and a method of its own."""
        setting, config, device = self.plan.setting, self.member.config, self.problem.device
        assert isinstance(setting, ViTSetting)
        generator = torch.Generator().manual_seed(int(key))
        net = self.options.network(setting.norm, float(config["dropout"]), generator)
        self.net: ViT = net.to(device, self.options.dtype)
        self.descent = DESCENTS[str(config["optimizer"])](self.net, setting, config)
        self.method = make_method(self.member.system, self.net, config, self.plan.seed, self.descent)
        self._parameters: list[Tensor] = list(self.net.parameters())
        self._entries = sum(p.numel() for p in self._parameters)
        self._drop = make_dropout(float(config["dropout"]), device)
        self._passes = Passes(self.net, self.problem, self.options, self._drop)

    def updates(self, task: int) -> int:
        """The number of updates of a task."""
        return self.options.epochs_per_task * self.problem.updates(task)

    # One task.

    def run_task(self) -> dict[str, list[dict[str, Any]]]:
        """Train the next task, or the rest of it; returns a row of the results, and one for each epoch."""
        while not self.diverged and self.epoch < self.options.epochs_per_task:
            self.run_epoch()
            if self.between is not None and not self.diverged and self.epoch < self.options.epochs_per_task:
                self.between()
        return self._end_task()

    def run_epoch(self) -> None:
        """Train one epoch of the current task."""
        with self._apart():
            task = self.problem.task(self.task)
            if self.epoch == 0:
                self._begin_task(task)
            self._passes.begin_task(task.seen)
            losses, right = self._show()
            self.diverged = not math.isfinite(losses.sum().item())
            self._end_epoch(task, losses.mean().item(), right / (len(losses) * BATCH))

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """Within it, products have the chosen precision; torch's generators are restored at the end."""
        device = self.problem.device
        generators = torch.random.fork_rng([device]) if device.type == "cuda" else contextlib.nullcontext()
        with generators, self.options.products():
            yield

    def _begin_task(self, task: Task) -> None:
        if self.task > 0 and self.member.system == "scratch":
            self._build(random.key(self.plan.seed, "scratch", self.task))
        self.descent.begin_task(self.updates(self.task))
        self._best, self._sums = {}, Sums(counts=self.method.counts(), before=self._probe(task))

    def _probe(self, task: Task) -> dict[str, Any]:
        """Measures of activations before the first update."""
        key = random.key(self.plan.seed, "probe", self.task)
        order = random.bits(key, torch.arange(len(task.train), device=task.train.device)).argsort()[:PROBE]
        batches = self.problem.evaluation(task.train[order])
        return measures.activations(self.net, (images.to(self.options.dtype) for images, _ in batches))

    def _show(self) -> tuple[Tensor, float]:
        """Train on all batches of an epoch; returns their losses (U), and the number of correctly classified images."""
        order, words = self.problem.epoch(self.task, self.epoch), self.problem.words(self.task, self.epoch)
        start, losses, gradients, fired = self.epoch * len(order), [], [], []
        right = torch.zeros((), dtype=torch.int64, device=self.problem.device)
        for u in range(len(order)):
            shown = self._update(order[u], words[u], start + u)
            losses.append(shown.loss)
            right += shown.right
            if u % self._measure_every == 0:
                gradients.append(measures.magnitude([p.grad for p in self._parameters if p.grad is not None]))
            if self.method.after():
                fired.append(u)
            self._progress(1)
        losses = torch.stack(losses).double()
        self._sums.add(losses, right, [gradient / self._entries for gradient in gradients], fired)
        return losses, right.item()

    def _update(self, indices: Tensor, words: Tensor, update: int) -> Shown:
        shown = self._pass(indices, words)
        self._step(update)
        return shown

    def _pass(self, indices: Tensor, words: Tensor) -> Shown:
        """Leave the gradient of a batch in the parameters."""
        self.step += 1
        self._drop.seed(int(random.key(self.plan.seed, "dropout", self.step)))
        whole = self.method.watching
        self.method.before()
        return self._passes.train(indices, words, whole)

    def _step(self, update: int) -> None:
        self.descent.step(update)
        if self.options.flush_below > 0 or self.options.clip_at < math.inf:
            guard_(self._parameters, self.options.flush_below, self.options.clip_at)

    def _end_epoch(self, task: Task, loss: float, accuracy: float) -> None:
        """Evaluate, and keep the parameters if they are the best."""
        row = self._row() | {"epoch": self.epoch, "train_loss": finite(loss), "train_accuracy": accuracy}
        if not self.diverged:
            validation, test = (
                self._passes.right(part).double().mean().item() for part in (task.validation, task.test)
            )
            row |= {"validation_accuracy": validation, "test_accuracy": test}
            if validation > self._sums.best_validation:
                self._sums.best_validation, self._sums.best_epoch = validation, self.epoch
                self._best = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        magnitudes = measures.weights(self.net)
        row |= {name: finite(magnitudes[name]) for name in ("weight_magnitude", "ln_scale")}
        self._sums.rows.append(row)
        self.epoch += 1

    @torch.no_grad()
    def _end_task(self) -> dict[str, list[dict[str, Any]]]:
        """Restore the best parameters; the rows of the task."""
        sums, self._sums = self._sums, Sums()
        left = self.updates(self.task) - len(sums.rows) * self.problem.updates(self.task)
        if left:
            self._progress(left)  # of a network that ended
        for name, p in self.net.named_parameters():
            if name in self._best:
                p.copy_(self._best[name])
        row = self._row() | {"diverged": self.diverged, "classes": self.problem.classes_a_task * (self.task + 1)}
        if sums.rows:
            row |= sums.results() | sums.before | renewed(sums.counts, self.method.counts(), self.member.system)
            row |= {name: finite(value) for name, value in measures.weights(self.net).items()}
        if self._best:
            task = self.problem.task(self.task)
            with self._apart():
                self._passes.begin_task(task.seen)
                right = self._passes.right(task.test).view(len(task.classes), -1).double().mean(1)
            row |= {"class_accuracy": right.tolist(), "test_accuracy": right.mean().item()}
        self._best = {}
        self.task, self.epoch = self.task + 1, 0
        return {"results": [row], "epochs": sums.rows}

    def _row(self) -> dict[str, Any]:
        """The columns that every row begins with."""
        member: Member = self.member
        return {
            "study": "", "setting": self.plan.setting.name, "system": member.system, "config_id": member.config_id,
            "config": json.dumps(dict(member.config), sort_keys=True), "seed": member.seed, "task": self.task,
        }  # fmt: skip

    # How it is stored.

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch needs: tensors, numbers, strings."""
        return {
            "task": self.task, "epoch": self.epoch, "step": self.step, "diverged": self.diverged,
            "parameters": {name: p.detach().cpu().clone() for name, p in self.net.named_parameters()},
            "best": {name: w.cpu().clone() for name, w in self._best.items()},
            "descent": self.descent.state_dict(), "method": self.method.state_dict(), "sums": self._sums.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state, bit for bit."""
        self.task, self.epoch, self.step = state["task"], state["epoch"], state["step"]
        self.diverged = state["diverged"]
        with torch.no_grad():
            for name, p in self.net.named_parameters():
                p.copy_(state["parameters"][name])
        self._best = {name: w.to(self.problem.device, copy=True) for name, w in state["best"].items()}
        self.descent.load_state_dict(state["descent"])
        self.method.load_state_dict(state["method"])
        self._sums = Sums(**state["sums"])

    # How fast it is.

    def sample(self, seconds: float) -> float:
        """Seconds per update, including its share of the evaluations, measured for about `seconds`.

        On a CPU a tenth of the images is used, if all would take longer.
        """
        with self._apart():
            on_host = self.problem.device.type == "cpu"
            if on_host and (measured := self._tried(seconds / _SHARE, _SHARE)) > seconds:
                return measured
            return self._tried(seconds)

    def _tried(self, seconds: float, share: int = 1) -> float:
        """Seconds per update, estimated from one in `share` of its images: the time is proportional to their number."""
        task = self.problem.task(self.task)
        self.descent.begin_task(self.updates(self.task))
        self._passes.begin_task(task.seen)
        order, words = self.problem.epoch(self.task, 0), self.problem.words(self.task, 0)
        sampled, part = (order[0][::share], words[0][::share]), task.validation[: 250 // share]

        def step() -> None:
            self._step(0)
            self.method.after()

        passed, stepped = self._time(seconds, lambda: self._pass(*sampled), step)
        (answered,) = self._time(0.0, lambda: self._passes.right(part))
        evaluated = len(task.validation) + len(task.test)
        return share * passed + stepped + answered * evaluated / len(part) / len(order)

    def _time(self, least: float, *works: Callable[[], object]) -> list[float]:
        """Seconds that each of some works takes, done by turns for at least so long, after once that does not count."""
        spent, turns = [0.0] * len(works), -1
        while turns < 1 or sum(spent) < least:
            turns += 1
            for i, work in enumerate(works):
                start = time.perf_counter()
                work()
                self._wait()
                if turns:
                    spent[i] += time.perf_counter() - start
        return [total / turns for total in spent]

    def _wait(self) -> None:
        if self.problem.device.type == "cuda":
            torch.cuda.synchronize()
