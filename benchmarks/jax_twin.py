"""A straightforward JAX twin of a stack: the same networks, vmap over members, scan over updates, one jit.

    python benchmarks/jax_twin.py [--data DIR] [--members 8 32 128] [--windows 2] [--repeats 5]

Single-threaded XLA on the CPU. Members share images and order, as those of one seed do, and each has its own weights
and step size. A task's images become floats and change the order of their pixels when it begins. Images are columns,
W x + b: with rows, x W + b, XLA is slower by a quarter, and large stacks lose half.

Shapes: M members, U updates, B images a batch, I inputs and O outputs of a layer.
"""

import argparse
import os
import statistics
from functools import partial
from itertools import pairwise
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false " + os.environ.get("XLA_FLAGS", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from timing import seconds

from regrow.lab.data.mnist import Images
from regrow.lab.speed import like_mnist

BATCH = 30
Weights = list[tuple[jax.Array, jax.Array]]
"""[(weight (M, O, I), bias (M, O)) of each layer]"""


def initial(key: jax.Array, members: int, hidden: int, inputs: int = 784) -> Weights:
    """Weights from Normal(0, 2 / I), biases 0."""
    sizes = list(pairwise((inputs, hidden, hidden, hidden, 10)))
    keys = jax.random.split(key, len(sizes))
    return [
        (jax.random.normal(k, (members, o, i)) * (2 / i) ** 0.5, jnp.zeros((members, o)))
        for k, (i, o) in zip(keys, sizes, strict=True)
    ]


def logits(weights: Weights, x: jax.Array) -> jax.Array:
    """Of one member: (10, B) of images (I, B)."""
    for weight, bias in weights[:-1]:
        x = jax.nn.relu(weight @ x + bias[:, None])
    weight, bias = weights[-1]
    return weight @ x + bias[:, None]


def loss(weights: Weights, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean cross entropy, and the accuracy."""
    z = logits(weights, x)
    log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(z, axis=0), y[None], axis=0)
    return -log_likelihood.mean(), (z.argmax(0) == y).mean()


def update(weights: Weights, step_size: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Weights, jax.Array, jax.Array]:
    """One member, one step of plain SGD; loss and accuracy are those before it."""
    (cost, right), slopes = jax.value_and_grad(loss, has_aux=True)(weights, x, y)
    return jax.tree.map(lambda w, g: w - step_size * g, weights, slopes), cost, right


@partial(jax.jit, donate_argnums=0)
def train(weights: Weights, step_sizes: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Weights, jax.Array, jax.Array]:
    """All members through the batches x (U, I, B) and y (U, B): the new weights, losses and accuracies (U, M)."""

    def step(weights: Weights, batch: tuple[jax.Array, jax.Array]) -> tuple[Weights, tuple[jax.Array, jax.Array]]:
        weights, cost, right = jax.vmap(update, in_axes=(0, 0, None, None))(weights, step_sizes, *batch)
        return weights, (cost, right)

    weights, (costs, rights) = jax.lax.scan(step, weights, (x, y))
    return weights, costs, rights


class JaxTwin:
    """M members of plain SGD on one stream of permuted images.

    Args:
        images: what to learn; permuted anew by `next_task`.
        members: M.
        hidden: units a layer.
        step_size: of all members.
        window: updates in one call of the compiled function.
    """

    def __init__(
        self, images: Images, members: int, *, hidden: int = 100, step_size: float = 0.05, window: int = 100
    ) -> None:
        self.pixels, self.labels, self.white = images.pixels.numpy(), images.labels.numpy(), images.white
        self.weights = initial(jax.random.key(0), members, hidden, self.pixels.shape[1])
        self.step_sizes = jnp.full(members, step_size)
        self.window, self.random = window, np.random.default_rng(0)
        self.accuracy: list[np.ndarray] = []
        self.next_task()

    def next_task(self) -> None:
        """New order of pixels, new order of images."""
        permutation = self.random.permutation(self.pixels.shape[1])
        shown = len(self.labels) // (BATCH * self.window) * BATCH * self.window
        order = self.random.permutation(len(self.labels))[:shown]
        x = self.pixels[order][:, permutation].astype(np.float32) / self.white
        x = x.reshape(-1, self.window, BATCH, x.shape[1]).swapaxes(2, 3)
        y = self.labels[order].reshape(-1, self.window, BATCH)
        self.windows = [(jnp.asarray(images), jnp.asarray(labels)) for images, labels in zip(x, y, strict=True)]
        self.done = 0

    def run(self, windows: int = 1) -> None:
        """The next windows of this task, from its start again at its end."""
        for _ in range(windows):
            x, y = self.windows[self.done % len(self.windows)]
            self.weights, _, accuracy = train(self.weights, self.step_sizes, x, y)
            self.accuracy.append(np.asarray(accuracy))
            self.done += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds mnist/; default: embedded digits, enlarged")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--windows", type=int, default=2, help="of 100 updates")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    images = like_mnist(arguments.data, quick=False)
    for name, hidden, scale in (("large", 100, 1), ("small", 10, 8)):
        for members in arguments.members:
            twin = JaxTwin(images, scale * members, hidden=hidden)
            twin.run()
            count = arguments.windows * twin.window * scale * members
            ms = [1e3 * seconds(lambda t=twin: t.run(arguments.windows)) / count for _ in range(arguments.repeats)]
            shown = f"{statistics.median(ms):.4f} ms a network-update, {min(ms):.4f} to {max(ms):.4f}"
            print(f"{name} {scale * members:4d} members: {shown}; task {seconds(twin.next_task):.2f} s")


if __name__ == "__main__":
    main()
