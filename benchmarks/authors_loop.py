"""The authors' way to train on permuted MNIST, in plain PyTorch: one network, a data loader, a loop.

It does what their published code does at each update, in its order: images and labels are fetched one by one and
collated, labels are one-hot, gradients are set to None, unit methods renew within the backward pass, then come the
optimizer's step, SWR, the noise and the log. Theirs permutes every image anew as it is fetched; here all images are
permuted when a task begins, which is several times cheaper, unless `permute="sample"` asks for the literal way.

    python benchmarks/authors_loop.py [--data DIR] [--updates 500] [--repeats 5]

Shapes: N images, B images a batch, H hidden units, I inputs of a layer, O outputs of a layer.
"""

import argparse
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from timing import seconds
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from regrow.lab.data.mnist import Images
from regrow.lab.speed import like_mnist

SYSTEMS = ("base", "l2", "shrink-perturb", "cbp", "redo", "swr")
BATCH, WINDOW = 30, 10
SHRINK, NOISE = 1e-4, 1e-7  # the paper's for the large network
CBP, REDO = {"maturity": 500, "rate": 1e-4}, {"every": 16, "threshold": 1e-4}
SWR = {"every": 2048, "factor": 1e-5}


class PermutedImages(Dataset):
    """One sample at a time: an image, its pixels in the order of the task, and its label as a row of ten."""

    def __init__(self, images: Images, permute: str) -> None:
        self.plain = self.images = images.scaled()
        self.labels = F.one_hot(images.labels, 10).float()
        self.permute = permute

    def next_task(self) -> None:
        self.permutation = torch.randperm(self.plain.shape[1]).numpy()
        if self.permute == "task":
            self.images = self.plain[:, self.permutation]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = self.images[index]
        return {"image": image[self.permutation] if self.permute == "sample" else image, "label": self.labels[index]}


class Renewal(nn.Module, ABC):
    """Between two layers: lets activations pass, looks at them, and renews units when the backward pass comes by."""

    def __init__(self, incoming: nn.Linear, outgoing: nn.Linear, norm: nn.LayerNorm | None) -> None:
        super().__init__()
        self.incoming, self.outgoing, self.norm = incoming, outgoing, norm
        self.std = (2 / incoming.in_features) ** 0.5
        self.renewed = 0
        self.register_forward_hook(self._look)
        self.register_full_backward_hook(self._renew)

    def forward(self, h: Tensor) -> Tensor:
        return h

    def _look(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.activations = inputs[0].detach()

    def _renew(self, *_: object) -> None:
        units = self.due()
        if len(units) == 0:
            return
        self.renewed += len(units)
        self.incoming.weight.data[units] = torch.empty(len(units), self.incoming.in_features).normal_(0.0, self.std)
        self.incoming.bias.data[units] = 0.0
        self.outgoing.weight.data[:, units] = 0.0
        if self.norm is not None:
            self.norm.weight.data[units] = 1.0
            self.norm.bias.data[units] = 0.0

    @abstractmethod
    def due(self) -> Tensor:
        """Indices of the units to renew now."""


class CBPRenewal(Renewal):
    """Of the units older than `maturity`, a share of `rate` an update, those of lowest contribution."""

    def __init__(self, *layers: nn.Module, maturity: int, rate: float) -> None:
        super().__init__(*layers)  # type: ignore[arg-type]
        self.maturity, self.rate = maturity, rate
        self.register_buffer("ages", torch.zeros(self.incoming.out_features))
        self.register_buffer("owed", torch.zeros(1))

    def due(self) -> Tensor:
        self.ages += 1
        eligible = torch.where(self.ages > self.maturity)[0]
        self.owed += self.rate * len(eligible)
        if self.owed < 1:
            return eligible[:0]
        count = int(self.owed)
        self.owed -= count
        utility = self.outgoing.weight.data.abs().mean(0) * self.activations.abs().mean(0)
        units = eligible[utility[eligible].topk(count, largest=False)[1]]
        self.ages[units] = 0
        return units


class ReDoRenewal(Renewal):
    """Every `every` updates the units whose activation is at most `threshold` times the layer's mean."""

    def __init__(self, *layers: nn.Module, every: int, threshold: float) -> None:
        super().__init__(*layers)  # type: ignore[arg-type]
        self.every, self.threshold = every, threshold
        self.register_buffer("updates", torch.zeros(1))

    def due(self) -> Tensor:
        self.updates += 1
        if self.updates % self.every != 0:
            return torch.empty(0, dtype=torch.long)
        utility = self.activations.abs().mean(0)
        return torch.where(utility <= self.threshold * utility.mean())[0]


class Network(nn.Module):
    """Three hidden layers of ReLU units; layer norm, where there is one, after the activation and its renewal."""

    def __init__(self, hidden: int, layer_norm: bool, renewal: Callable[..., Renewal] | None, inputs: int) -> None:
        super().__init__()
        sizes = (inputs, hidden, hidden, hidden, 10)
        self.linears = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        for linear in self.linears:
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3)) if layer_norm else [None] * 3
        triples = zip(self.linears[:3], self.linears[1:], self.norms, strict=True)
        self.renewals = nn.ModuleList(renewal(*triple) for triple in triples) if renewal else [None] * 3

    def forward(self, x: Tensor) -> Tensor:
        for linear, act, renewal, norm in zip(self.linears, self.acts, self.renewals, self.norms, strict=False):
            x = act(linear(x))
            if renewal is not None:
                x = renewal(x)
            if norm is not None:
                x = norm(x)
        return self.linears[-1](x)


class AuthorsLoop:
    """One network of one system, trained as the authors do.

    Args:
        images: what to learn; permuted anew after each pass.
        system: base, l2, shrink-perturb, cbp, redo or swr.
        hidden: units a layer.
        layer_norm: normalise each layer after its activation.
        permute: all images when a "task" begins, or each "sample" as it is fetched.
        shuffle: see the images of a pass in random order; False: in their own.
        log_gradients: keep the mean absolute gradient of each update too, as figures 10 to 14 of the paper need.
    """

    def __init__(
        self,
        images: Images,
        system: str = "base",
        *,
        hidden: int = 100,
        layer_norm: bool = False,
        step_size: float = 0.05,
        permute: str = "task",
        shuffle: bool = True,
        log_gradients: bool = True,
    ) -> None:
        self.dataset = PermutedImages(images, permute)
        self.loader = DataLoader(self.dataset, batch_size=BATCH, shuffle=shuffle, drop_last=True)
        renewal = {
            "cbp": lambda *layers: CBPRenewal(*layers, **CBP),
            "redo": lambda *layers: ReDoRenewal(*layers, **REDO),
        }.get(system)
        self.net = Network(hidden, layer_norm, renewal, images.pixels.shape[1])
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=step_size)
        self.keep = 1 - SHRINK if system in ("l2", "shrink-perturb") else 1.0
        self.noise_std = NOISE**0.5 if system == "shrink-perturb" else 0.0
        self.swr, self.log_gradients = system == "swr", log_gradients
        self.loss = nn.CrossEntropyLoss()
        self.updates = 0
        self.log: dict[str, list[float]] = {"accuracy": [], "loss": [], "gradient": []}
        self._sums: dict[str, Tensor | float] = dict.fromkeys(self.log, 0.0)
        self._samples = self._stream()

    def _stream(self) -> Iterator[dict[str, Tensor]]:
        while True:
            self.dataset.next_task()
            yield from self.loader

    def run(self, updates: int) -> None:
        """Train on; a new task begins where a pass ends."""
        for _ in range(updates):
            self._update(next(self._samples))

    def _update(self, sample: dict[str, Tensor]) -> None:
        images, labels = sample["image"].reshape(BATCH, -1), sample["label"]
        for parameter in self.net.parameters():
            parameter.grad = None
        predictions = self.net(images)
        loss = self.loss(predictions, labels)
        loss.backward()
        self._step()
        self.updates += 1
        if self.log_gradients:
            self._sums["gradient"] += self._gradient_magnitude()
        self._sums["loss"] += loss.detach().clone()
        self._sums["accuracy"] += (predictions.argmax(1) == labels.argmax(1)).float().mean().detach()
        if self.updates % WINDOW == 0:
            for name, total in self._sums.items():
                self.log[name].append(float(total) / WINDOW)
                self._sums[name] = 0.0

    @torch.no_grad()
    def _step(self) -> None:
        if self.keep != 1:
            for parameter in self.net.parameters():
                parameter.mul_(self.keep)
        self.optimizer.step()
        if self.swr and (self.updates + 1) % SWR["every"] == 0:
            self._renew_weights()
        if self.noise_std:
            for parameter in self.net.parameters():
                parameter.add_(torch.randn(parameter.shape) * self.noise_std)

    def _renew_weights(self) -> None:
        for name, parameter in self.net.named_parameters():
            utility = (parameter.grad * parameter).abs().flatten()  # type: ignore[operator]
            lowest = torch.where(utility <= SWR["factor"] * utility.mean())[0]
            weight = name.startswith("linears") and name.endswith("weight")
            mean = 1.0 if name.startswith("norms") and name.endswith("weight") else 0.0
            std = (2 / parameter.shape[1]) ** 0.5 if weight else 0.0
            parameter.view(-1)[lowest] = torch.normal(mean, std, lowest.shape) if std else mean

    def _gradient_magnitude(self) -> float:
        total, count = 0.0, 0
        for parameter in self.net.parameters():
            if parameter.grad is not None:
                total += parameter.grad.abs().sum()
                count += parameter.numel()
        return float(total / count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds mnist/; default: embedded digits, enlarged")
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = like_mnist(arguments.data, quick=False)
    loops = {f"large {system}": AuthorsLoop(images, system) for system in SYSTEMS}
    loops["large-ln base"] = AuthorsLoop(images, layer_norm=True)
    loops["small base"] = AuthorsLoop(images, hidden=10)
    loops["large base, no gradients logged"] = AuthorsLoop(images, log_gradients=False)
    loops["large base, permuted as fetched"] = AuthorsLoop(images, permute="sample")
    loops["small base, permuted as fetched"] = AuthorsLoop(images, hidden=10, permute="sample")
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(arguments.repeats + 1):  # the first warms up
        for name, loop in loops.items():
            times[name].append(1e3 * seconds(lambda loop=loop: loop.run(arguments.updates)) / arguments.updates)
    for name, ms in times.items():
        print(f"{name:32s} {statistics.median(ms[1:]):.3f} ms an update, {min(ms[1:]):.3f} to {max(ms[1:]):.3f}")


if __name__ == "__main__":
    main()
