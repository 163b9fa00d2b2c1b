"""What training is measured against: the speed of plain matrix products, and the work that an update is made of.

Shapes: C members, B images a batch, P pixels, H units a layer.
"""

import statistics
import time
from collections.abc import Callable

import torch

from .problems.permuted import MNIST

PIXELS, CLASSES = 784, 10
_MOMENT = 0.04  # seconds


def nominal_flop(hidden: int) -> int:
    """Floating-point operations of one update of one network, as if no pixel were dark.

    2 B (3 sum_l I_l O_l - I_1 O_1): forward, slopes of the weights and, but for the first layer, of the inputs

    Args:
        hidden: units a layer, H.

    Example:
        >>> nominal_flop(100), nominal_flop(10)
        (13188000, 994800)
    """
    sizes = [(PIXELS, hidden), (hidden, hidden), (hidden, hidden), (hidden, CLASSES)]
    return 2 * MNIST.batch * (3 * sum(i * o for i, o in sizes) - PIXELS * hidden)


def seconds(work: Callable[[], object]) -> float:
    """Processor time that it takes: what it takes on a free core, since it waits for nothing but the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


class Sgemm:
    """The speed of matrix products in float32: of a large one, and of those that an update of a stack is made of.

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
        """One round: each product over and over for some 40 ms."""
        for name, (flop, product) in self._products.items():
            times, spent = 0, 0.0
            some = 1 if flop > 1e9 else 10
            while spent < _MOMENT:
                spent += seconds(lambda p=product, n=some: [p() for _ in range(n)])
                times += some
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
