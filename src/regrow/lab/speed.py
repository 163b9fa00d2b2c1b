"""How fast a stack trains, and how fast a machine can multiply matrices: what `regrow bench` and benchmarks measure."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from .data.mnist import Images, load_images
from .mlp.trainer import Trainer
from .problems.permuted import MNIST, Course
from .studies import SETTINGS, Member, StackPlan
from .studies.permuted_values import chosen

PIXELS, CLASSES = 784, 10
_MOMENT = 0.04  # seconds
STACK = 8
"""Members per stack where systems are compared."""


def nominal_flop(hidden: int) -> int:
    """Floating-point operations of one update of one network, as if no pixel were black.

    2 B (3 sum_l I_l O_l - I_1 O_1): forward, gradients of the weights and, except in the first layer, of the inputs

    Args:
        hidden: units per layer, H.

    Example:
        >>> nominal_flop(100), nominal_flop(10)
        (13188000, 994800)
    """
    sizes = [(PIXELS, hidden), (hidden, hidden), (hidden, hidden), (hidden, CLASSES)]
    return 2 * MNIST.batch * (3 * sum(i * o for i, o in sizes) - PIXELS * hidden)


def seconds(work: Callable[[], object]) -> float:
    """Processor time of a call: its elapsed time on a free core, since it only computes."""
    start = time.process_time()
    work()
    return time.process_time() - start


class Sgemm:
    """The speed of matrix products in float32: of a large one, and of those in an update of a stack.

    Args:
        members: C, of the stack.
        hidden: H.

    Example:
        >>> sgemm = Sgemm(members=2, hidden=10)
        >>> sgemm.measure()
        >>> len(sgemm.peak), 1 < sgemm.peak[0] < 10_000
        (1, True)
    """

    def __init__(self, members: int = 8, hidden: int = 100) -> None:
        def random(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=generator)

        generator = torch.Generator().manual_seed(0)
        c, b, p, h, wide = members, MNIST.batch, PIXELS, hidden, members * hidden
        square, x, w, d = random(1024, 1024), random(b, p), random(p, wide), random(wide, b)
        a, v, u = random(c, b, h), random(c, h, h), random(c, h, b)
        into, each = random(wide, p), random(c, h, h)
        self._products: dict[str, tuple[float, Callable[[], object]]] = {
            "1024³": (2 * 1024**3, lambda: square @ square),
            f"({b}, {p}) x ({p}, {wide})": (2 * b * p * wide, lambda: x @ w),
            f"({wide}, {b}) x ({b}, {p})": (2 * b * p * wide, lambda: into.addmm_(d, x)),
            f"{c} x ({b}, {h}) x ({h}, {h})": (2 * c * b * h * h, lambda: torch.bmm(a, v)),
            f"{c} x ({h}, {b}) x ({b}, {h})": (2 * c * b * h * h, lambda: each.baddbmm_(u, a)),
        }
        self.rates: dict[str, list[float]] = {name: [] for name in self._products}
        """GFLOP/s of each product, in each round"""

    def measure(self) -> None:
        """One round: each product repeatedly for about 40 ms."""
        for name, (flop, product) in self._products.items():
            times, spent = 0, 0.0
            repeats = 1 if flop > 1e9 else 10
            while spent < _MOMENT:
                spent += seconds(lambda p=product, n=repeats: [p() for _ in range(n)])
                times += repeats
            self.rates[name].append(flop * times / 1e9 / spent)

    @property
    def medians(self) -> dict[str, float]:
        """GFLOP/s of each product."""
        return {name: statistics.median(rates) for name, rates in self.rates.items()}

    @property
    def best(self) -> str:
        """The product with the highest median."""
        return max(self.medians, key=self.medians.__getitem__)

    @property
    def peak(self) -> list[float]:
        """GFLOP/s of the best product, in each round."""
        return self.rates[self.best]


def like_mnist(data: Path | None, quick: bool) -> Images:
    """MNIST, or as many images of its size made from the embedded digits; 1,800 of them if quick."""
    name, images = load_images(data)
    if name != "mnist":
        side = images.pixels.view(-1, 8, 8).repeat_interleave(3, 1).repeat_interleave(3, 2)
        pixels = torch.nn.functional.pad(side, (2, 2, 2, 2)).flatten(1)
        order = torch.arange(MNIST.images) % len(pixels)
        images = Images(pixels[order], images.labels[order], images.white)
    return Images(images.pixels[:1800], images.labels[:1800], images.white) if quick else images


class TimedStack:
    """Equal members of one system, trained without end."""

    def __init__(self, images: Images, setting: str, system: str = "base", members: int = STACK) -> None:
        member = Member(system, chosen(setting, system), 0)
        plan = StackPlan("bench", SETTINGS[setting], 0, (member,) * members)
        self.trainer = Trainer(plan, images, course=Course(len(images.labels), MNIST.batch))
        self.members = members

    def ms(self, updates: int) -> float:
        """Per network-update, over the next updates, without the measures taken once per task."""
        return self._time(lambda: self.trainer.run_updates(updates), updates)

    def task_ms(self) -> float:
        """Per network-update, over a task as in a run, with all measures."""
        return self._time(self.trainer.run_task, self.trainer.problem.course.updates_a_task)

    def _time(self, work: Callable[[], object], updates: int) -> float:
        return 1e3 * seconds(work) / (updates * self.members)
