"""What does a renewal cost? SWR on the tensors of the paper's ViT, side by side with what it is measured against.

    python benchmarks/swr_step.py [--pairs 11] [--forward-backward 10] [--json FILE]

Every comparison alternates the two sides in one process with one thread and gives the median of the ratios of its
pairs, since machines drift. Memory is the rise of the peak resident size of a fresh process around one step on a
single large tensor.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import torch
from timing import Rows, compare, tell
from torch import Tensor, nn

import regrow
from regrow.core import select, utility
from regrow.lab.nets import ViT

EVERY = 128  # the paper's, for the ViT
BATCH = 90


def vit_with_gradients(zero_share: float) -> ViT:
    """The paper's ViT with random gradients, of which a share is exactly zero, as on real data."""
    torch.manual_seed(0)
    model = ViT()
    for w in model.parameters():
        w.grad = torch.randn_like(w) * (torch.rand_like(w) >= zero_share)
    return model


def authors_step(parameters: list[Tensor], factor: float, prune: str, std: float = 0.05) -> None:
    """The authors' way: a mask or a full argsort, a boolean or integer index, and torch.normal for what it picks."""
    for w in parameters:
        assert w.grad is not None
        flat, u = w.view(-1), (w.grad * w).abs().flatten()
        if prune == "threshold":
            chosen = u <= factor * u.mean()
            count = int(chosen.sum())
        else:
            count = int(factor * u.numel())
            chosen = u.argsort()[:count]
        flat[chosen] = torch.normal(0.0, std, (count,))


def selection(pairs: int) -> Rows:
    model = vit_with_gradients(0.3)
    weights, grads = [w.detach() for w in model.parameters()], [w.grad for w in model.parameters()]
    utilities = [utility.gradient(w, g) for w, g in zip(weights, grads, strict=True)]
    orders = [torch.randint(2**31, u.shape, dtype=torch.int32) for u in utilities]

    def sweep() -> None:
        for w, g in zip(weights, grads, strict=True):
            w.add_(g)

    def threshold() -> None:
        for u in utilities:
            select.threshold(u, 1e-2)

    def argsort() -> None:
        for u in utilities:
            u.flatten().argsort()

    rows: Rows = {"threshold selection / p.add_(g) sweep": compare(threshold, sweep, max(pairs, 21))}
    for share in (0.01, 0.2, 0.5):

        def proportional(share: float = share) -> None:
            for u, order in zip(utilities, orders, strict=True):
                select.proportional(u, share, order=order)

        rows[f"proportional selection of {share:.0%} / argsort"] = compare(proportional, argsort, pairs)
    return rows


@torch.no_grad()
def whole_steps(pairs: int) -> Rows:
    rows: Rows = {}
    for prune in ("threshold", "proportional"):
        for share in (0.01, 0.5):
            factor = 1e-9 if prune == "threshold" else share
            model, other = vit_with_gradients(share), vit_with_gradients(share)
            swr = regrow.SWR(model, every=1, factor=factor, prune=prune, seed=0)
            parameters = list(other.parameters())
            row = compare(swr.step, lambda p=parameters, f=factor, k=prune: authors_step(p, f, k), pairs)
            rows[f"whole step, {prune}, {share:.0%} renewed / authors' way"] = row
            assert abs(swr.report()["share_last"] - share) < 0.02, swr.report()
    return rows


def against_training(pairs: int) -> Rows:
    rows: Rows = {}
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(100, (BATCH,))
    learner = ViT()

    def forward_backward() -> None:
        learner.zero_grad()
        nn.functional.cross_entropy(learner(images), labels).backward()

    for share in (0.01, 0.5):
        model = vit_with_gradients(share)
        swr = regrow.SWR(model, every=1, factor=1e-9, seed=0)
        row = compare(swr.step, forward_backward, pairs)
        row |= {f"share_of_training_at_every_{EVERY}": row["ratio"] / EVERY}
        rows[f"whole step, {share:.0%} renewed / forward-backward at batch {BATCH}"] = row
    return rows


def memory_probe(prune: str, share: float) -> None:
    """In a fresh process: the rise of the peak resident size during one step on one large tensor."""
    torch.set_num_threads(1)
    n = 32_000_000
    model = nn.ParameterDict({"small": torch.zeros(10), "large": torch.zeros(n).uniform_(-1, 1)})
    small, large = model["small"], model["large"]
    small.grad, large.grad = torch.ones(10), torch.zeros(n).uniform_(-1, 1)
    large.grad[: int(share * n)] = 0
    laws = {"*": regrow.laws.Normal(0.0, 1.0)}
    factor = 1e-9 if prune == "threshold" else share
    regrow.SWR(model, every=1, factor=factor, prune=prune, only="small", laws=laws).step()  # loads all code
    swr = regrow.SWR(model, every=1, factor=factor, prune=prune, only="large", laws=laws)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    swr.step()
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({"rise_over_tensor": rise / (4 * n), "tensor_mib": 4 * n / 2**20}))


def memory() -> Rows:
    rows: Rows = {}
    for prune in ("threshold", "proportional"):
        for share in (0.01, 0.5):
            command = [sys.executable, __file__, "--memory-probe", prune, str(share)]
            out = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ}).stdout
            rows[f"peak extra memory of a step, {prune}, {share:.0%} renewed / the tensor"] = json.loads(out)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--forward-backward", type=int, default=10, help="pairs that include a forward-backward")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory-probe", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_probe:
        return memory_probe(arguments.memory_probe[0], float(arguments.memory_probe[1]))
    rows = memory()  # first: a process that a large one starts reports the large one's peak
    rows |= selection(arguments.pairs) | whole_steps(arguments.pairs)
    rows |= against_training(arguments.forward_backward)
    tell(rows, "python benchmarks/swr_step.py", arguments.json)


if __name__ == "__main__":
    main()
