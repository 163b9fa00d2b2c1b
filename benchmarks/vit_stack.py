"""What stacking the seeds of a small vision transformer as one network gains on a CPU.

    python benchmarks/vit_stack.py [--seeds 3] [--width 48] [--depth 2] [--pairs 15]

Forward and backward passes of a batch of 90, dropout and loss included: the laboratory's own, one network after the
other, and all as one whose tensors lead with an axis of seeds. Both are timed in turns, by processor time, on one
thread; printed are the median times and the ratio of each pair. Before that their losses are compared.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regrow.lab.nets import ViT
from regrow.lab.vit.forward import HostDropout, logits
from regrow.lab.vit.job import keep_memory
from regrow.lab.vit.options import Options

BATCH, PATCH = 90, 4


class Stacked:
    """S vision transformers of the standard norm as one: every product is a batch of S."""

    def __init__(self, nets: list[ViT]) -> None:
        named = [dict(net.named_parameters()) for net in nets]
        self.parameters = {n: torch.stack([own[n].detach() for own in named]).requires_grad_() for n in named[0]}
        block: Any = nets[0].blocks[0]
        self.heads, self.depth = block.attention.heads, len(nets[0].blocks)

    def _linear(self, x: Tensor, name: str, rows: slice = slice(None)) -> Tensor:
        """(S, B, T, I) -> (S, B, T, O), or only some of the outputs."""
        w, b = self.parameters[f"{name}.weight"][:, rows], self.parameters[f"{name}.bias"][:, rows]
        return torch.baddbmm(b.unsqueeze(1), x.flatten(1, 2), w.flatten(2).mT).view(*x.shape[:3], -1)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        scale, shift = (self.parameters[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), scale)

    def logits(self, images: Tensor, drop: HostDropout) -> Tensor:
        """(S, B, classes) of one batch for each, (S, B, 3, 32, 32); the last block answers for the class token."""
        s, b = images.shape[:2]
        patches = F.unfold(images.flatten(0, 1), PATCH, stride=PATCH).mT
        x = self._linear(patches.reshape(s, b, patches.shape[1], -1), "patch")
        token = self.parameters["class_token"].expand(s, b, 1, -1)
        x = drop(torch.cat([token, x], 2) + self.parameters["position"])
        for i in range(self.depth):
            inputs = self._norm(x, f"blocks.{i}.norm1")
            name, width, asked = f"blocks.{i}.attention.qkv", x.shape[-1], inputs
            if i == self.depth - 1:
                x, asked = x[:, :, :1], inputs[:, :, :1]
            q = self._linear(asked, name, slice(width)).flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            both = self._linear(inputs, name, slice(width, None)).flatten(0, 1).unflatten(-1, (2, self.heads, -1))
            k, v = both.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = drop((q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)) @ v
            mixed = mixed.transpose(1, 2).flatten(2).unflatten(0, (s, b))
            x = x + drop(self._linear(mixed, f"blocks.{i}.attention.out"))
            hidden = drop(F.gelu(self._linear(self._norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")))
            x = x + drop(self._linear(hidden, f"blocks.{i}.mlp.fc2"))
        return self._linear(self._norm(x[:, :, :1], "norm"), "head").squeeze(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("seeds", 3), ("width", 48), ("depth", 2), ("pairs", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    size = Options(width=options.width, depth=options.depth)
    nets = [size.network("standard", 0.1, torch.Generator().manual_seed(i)) for i in range(options.seeds)]
    stack = Stacked(nets)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(options.seeds, BATCH, 3, 32, 32, generator=generator)
    labels = torch.randint(100, (options.seeds, BATCH), generator=generator)

    def one_by_one(drop: HostDropout) -> list[float]:
        losses = []
        for net, x, y in zip(nets, images, labels, strict=True):
            net.zero_grad()
            loss = F.cross_entropy(logits(net, x, drop), y)
            loss.backward()
            losses.append(loss.item())
        return losses

    def together(drop: HostDropout) -> list[float]:
        for p in stack.parameters.values():
            p.grad = None
        answers = stack.logits(images, drop)
        losses = F.cross_entropy(answers.flatten(0, 1), labels.flatten(), reduction="none").view(options.seeds, -1)
        losses.mean(1).sum().backward()
        return losses.mean(1).tolist()

    none = HostDropout(0.0)
    torch.testing.assert_close(torch.tensor(one_by_one(none)), torch.tensor(together(none)), rtol=1e-4, atol=1e-5)
    drop, times = HostDropout(0.1), {one_by_one: [], together: []}
    for _ in range(options.pairs + 1):
        for work, spent in times.items():
            start = time.process_time()
            work(drop)
            spent.append(time.process_time() - start)
    alone, stacked = (spent[1:] for spent in times.values())
    ratios = sorted(a / b for a, b in zip(alone, stacked, strict=True))
    print(f"{options.seeds} networks of width {options.width} and {options.depth} blocks, torch {torch.__version__}:")
    print(f"one by one {1e3 * statistics.median(alone):.0f} ms, stacked {1e3 * statistics.median(stacked):.0f} ms")
    print(f"gain {statistics.median(ratios):.2f} times (of {len(ratios)} pairs: {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
