"""Claim: whatever a forward does, units that are found have no way out but their outgoing weights.

Random programs of layers, activations, norms, gates, sums, concatenations, cuts and reshapes, most of which hold no
units at all, are searched with an example; every unit found passes the exact checks.
"""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from wiring_checks import check_apart, check_units, hold_statistics, prepared

from regrow.wiring import find_units

Layer = Callable[[random.Random, Tensor], nn.Module]
LAYERS: dict[str, Layer] = {
    "linear": lambda rng, v: nn.Linear(v.shape[-1], rng.choice([4, 6, 8, v.shape[-1]])),
    "conv": lambda rng, v: nn.Conv2d(v.shape[1], rng.choice([3, 4, 6]), rng.choice([1, 2])),
    "transposed": lambda rng, v: nn.ConvTranspose2d(v.shape[1], 3, 2),
    "grouped": lambda rng, v: nn.Conv2d(v.shape[1], v.shape[1], 1, groups=v.shape[1]),
    "layer norm": lambda rng, v: nn.LayerNorm(v.shape[-rng.randint(1, max(1, v.dim() - 2)) :]),
    "batch norm": lambda rng, v: (nn.BatchNorm2d if v.dim() == 4 else nn.BatchNorm1d)(v.shape[1]),
    "group norm": lambda rng, v: nn.GroupNorm(1, v.shape[1]),
    "instance norm": lambda rng, v: nn.InstanceNorm2d(v.shape[1], affine=True, track_running_stats=True),
    "prelu": lambda rng, v: nn.PReLU(rng.choice([1, v.shape[1]])),
}
STEPS: dict[str, Callable[[Tensor, Tensor, int], Tensor | tuple[Tensor, ...]]] = {
    "relu": lambda v, w, d: F.relu(v),
    "tanh": lambda v, w, d: v.tanh(),
    "swish": lambda v, w, d: v * torch.sigmoid(v),
    "square": lambda v, w, d: v**2,
    "gelu": lambda v, w, d: F.gelu(v),
    "own sum": lambda v, w, d: v + 0.1 * v.tanh(),
    "mul": lambda v, w, d: v * w,
    "add": lambda v, w, d: v + w,
    "cat": lambda v, w, d: torch.cat([v, w], d),
    "chunk": lambda v, w, d: v.chunk(2, d),
    "split": lambda v, w, d: v.split(3, dim=d),
    "glu": lambda v, w, d: F.glu(v, d),
    "flatten": lambda v, w, d: torch.flatten(v, 1) if d != 2 else torch.flatten(v, 2),
    "view": lambda v, w, d: v.reshape(v.shape[0], -1),
    "fold": lambda v, w, d: v.reshape(-1, 12),
    "transpose": lambda v, w, d: v.transpose(1, d),
    "mean": lambda v, w, d: v.mean(d),
    "keep": lambda v, w, d: v.mean(d, keepdim=True),
    "pool": lambda v, w, d: F.max_pool2d(v, 2) if v.dim() == 4 else F.avg_pool1d(v, 2),
    "global": lambda v, w, d: F.adaptive_avg_pool2d(v, 1).squeeze(-1).squeeze(-1),
    "index": lambda v, w, d: v[:, 0],
    "softmax": lambda v, w, d: v.softmax(d),
    "unflatten": lambda v, w, d: v.unflatten(-1, (2, -1)),
}
COMMON = ["linear", "conv", "relu", "tanh", "swish", "gelu"] * 6


class Program(nn.Module):
    """A random program that runs on an input; steps that fail on their values are left out."""

    def __init__(self, rng: random.Random, x: Tensor) -> None:
        super().__init__()
        self.layers, self.steps = nn.ModuleList(), []
        values = [x]
        for _ in range(rng.randint(12, 24)):
            last = len(values) - 1
            i, j = (last if rng.random() < 0.8 else rng.randint(max(0, last - 3), last) for _ in range(2))
            name, d = rng.choice([*COMMON, *LAYERS, *STEPS]), rng.choice([-1, -1, 1, 2])
            try:
                layer = LAYERS[name](rng, values[i]) if name in LAYERS else None
                with torch.no_grad():
                    new = layer.eval()(values[i]) if layer else STEPS[name](values[i], values[j], d)
            except (RuntimeError, IndexError, ValueError):
                continue
            new = new if isinstance(new, tuple) else (new,)
            if any(not 2 <= v.dim() <= 4 or v.shape[0] != len(x) or not 0 < v.numel() < 4000 for v in new):
                continue
            if layer:
                self.layers.append(layer)
            self.steps.append((name, i, j, d, len(self.layers) - 1))
            values += new
        self.head = nn.Linear(values[-1].shape[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for name, i, j, d, layer in self.steps:
            new = self.layers[layer](values[i]) if name in LAYERS else STEPS[name](values[i], values[j], d)
            values += new if isinstance(new, tuple) else (new,)
        return self.head(values[-1])


@pytest.mark.parametrize("block", range(4))
def test_random_programs(block: int) -> None:
    layers = 0
    for seed in range(60 * block, 60 * block + 60):
        rng = random.Random(seed)
        x = torch.randn(rng.choice([(3, 6), (3, 5, 6), (3, 2, 5, 7), (3, 3, 7, 5), (3, 5, 4)]))
        model, args = prepared(lambda rng=rng, x=x: (Program(rng, x), (x,)))
        try:
            found = find_units(model, x)
        except ValueError as error:
            assert str(error).startswith("no units found in Program")
            continue
        hold_statistics(model, found)
        check_apart(model, found)
        for units in found:
            check_units(model, units, args, whole=False)
        layers += len(found)
    assert layers >= 10
