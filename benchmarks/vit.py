"""How fast is a vision transformer trained? Our update against an eager loop, renewals' share, and matrix products.

    python benchmarks/vit.py [--width 384] [--depth 8] [--pairs 5] [--renewals] [--json FILE]
    python benchmarks/vit.py --device cuda [--precision tf32] [--compiled] [--graphs] [--updates 2000]

The loop trains the same network as one writes it: `net(images)`, dropout and attention of torch, its SGD, its one-cycle
schedule, the decay set again at each update, the images made one after the other in the same process. "without data"
hands both sides a ready batch of 90.

On a CPU the two alternate in one process with one thread, and processor time counts: what it takes on a free core. Both
sides keep freed memory, as the workers of `regrow run` do. "of sgemm" is the share of the speed of a 2048 x 2048
product, by the operations of the whole network, and by those that are made: the last block has work for the class token
alone. On CUDA the time of all updates counts, the device waited for, without renewals or evaluation.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from augment import one_image
from timing import Rows, tell
from torch import Tensor
from torch.nn import functional as F

import regrow
from regrow.lab.data.cifar import LabelledImages
from regrow.lab.nets import ViT
from regrow.lab.problems.incremental import BATCH, ClassIncremental
from regrow.lab.speed import seconds
from regrow.lab.studies import VIT_SETTINGS, Member, StackPlan
from regrow.lab.studies.vit_values import chosen
from regrow.lab.vit.job import keep_memory
from regrow.lab.vit.options import Options
from regrow.lab.vit.trainer import ViTTrainer

TOKENS, UPDATES = 65, 2_500
DUE: dict[str, dict[str, Any]] = {  # knobs with which something is due at each update
    "swr": {"every": 1},
    "redo": {"every": 1},
    "cbp": {"maturity": 0},  # and a rate for one unit a layer
}


def make_problem(device: str) -> ClassIncremental:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(100).repeat_interleave(68)
    pixels = torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator)
    images = LabelledImages(pixels, labels)
    return ClassIncremental(images, images, seed=0, images_per_class=18, device=device)


class Ready:
    """A problem whose batches are made already."""

    def __init__(self, problem: ClassIncremental) -> None:
        self._problem = problem
        self._batch = problem.batch(problem.epoch(0, 0)[0], problem.words(0, 0)[0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def batch(self, *_: Any) -> tuple[Tensor, Tensor]:
        return self._batch

    def with_seed(self, seed: int) -> "Ready":
        del seed
        return self


def ours(problem: Any, options: Options, system: str = "base", **changed: Any) -> Callable[[], object]:
    """One update of a trainer, in the task's middle."""
    config = dict(chosen("vit-reparam", system)) | changed
    plan = StackPlan("bench", VIT_SETTINGS["vit-reparam"], 0, (Member(system, config, 0),))
    trainer = ViTTrainer(plan, problem, options=options)
    trainer.descent.begin_task(UPDATES)
    trainer._passes.begin_task(problem.task(0).seen)
    order, words = problem.epoch(0, 0)[0], problem.words(0, 0)[0]

    def update() -> None:
        trainer._update(order, words, 1000)
        trainer.method.after()

    return update


def eager(problem: ClassIncremental, options: Options, ready: bool) -> Callable[[], object]:
    """One update of a loop as one writes it."""
    device = problem.device
    net = options.network("reparam", 0.1, torch.Generator()).to(device, options.dtype).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=6e-6)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=10**6, anneal_strategy="linear")
    order, words = problem.epoch(0, 0)[0], problem.words(0, 0)[0]
    batch = problem.batch(order, words)
    pixels, labels = problem._pixels.cpu(), problem._labels.cpu()
    places = {int(label): place for place, label in enumerate(problem.task(0).classes)}

    def load() -> tuple[Tensor, Tensor]:
        made = []
        for index in order.tolist():
            flip, top, left = torch.rand(()) < 0.5, torch.randint(9, ()), torch.randint(9, ())
            made.append(one_image(pixels[index], flip, top, left, 15 * torch.rand(())))
        return torch.stack(made).to(device), labels[order.cpu()].to(device)

    def update() -> None:
        images, found = batch if ready else load()
        targets = torch.tensor([places[int(label)] for label in found], device=device)
        optimizer.zero_grad()
        F.cross_entropy(net(images)[:, problem.task(0).classes], targets).backward()
        optimizer.step()
        scheduler.step()
        optimizer.param_groups[0]["weight_decay"] = 6e-6 / scheduler.get_last_lr()[0]

    return update


def operations(net: ViT, made: bool) -> float:
    """Floating-point operations of an update of the whole network, or of what is made of it."""
    c, depth = net.width, len(net.blocks)
    block = (4 * c * c + 2 * c * net.mlp) * TOKENS + 2 * TOKENS * TOKENS * c
    last = 2 * c * c * TOKENS + (2 * c * c + 2 * c * net.mlp) + 2 * TOKENS * c
    total = (depth - 1) * block + (last if made else block) + 48 * c * (TOKENS - 1) + 100 * c
    return 6.0 * BATCH * total


def alternate(sides: dict[str, Callable[[], object]], pairs: int) -> dict[str, list[float]]:
    """Times of each side, by turns, after one that does not count."""
    for side in sides.values():
        side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(pairs):
        for name, side in sides.items():
            times[name].append(seconds(side))
    return times


def ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def steps(problem: ClassIncremental, options: Options, pairs: int) -> Rows:
    """Our update against the loop's, and against matrix products."""
    square = torch.rand(2048, 2048)
    sides = {
        "ours": ours(Ready(problem), options),
        "eager": eager(problem, options, ready=True),
        "ours, data": ours(problem, options),
        "eager, data": eager(problem, options, ready=False),
        "sgemm": lambda: square @ square,
    }
    times = alternate(sides, pairs)
    net = options.network("reparam", 0.1, torch.Generator())
    rate = 2 * 2048**3 / statistics.median(times["sgemm"])
    rows: Rows = {}
    for name in ("", ", data"):
        mine, theirs = times[f"ours{name}"], times[f"eager{name}"]
        milliseconds = 1e3 * statistics.median(mine)
        row = {"ours_ms": milliseconds, "eager_ms": 1e3 * statistics.median(theirs), "faster": ratio(theirs, mine)}
        for kind, made in (("of_sgemm", False), ("of_sgemm_made", True)):
            row[kind] = operations(net, made) / (milliseconds / 1e3) / rate
        rows[f"update{name or ', without data'}"] = row | {"sgemm_gflops": rate / 1e9, "pairs": pairs}
    return rows


def renewals(problem: ClassIncremental, options: Options, pairs: int) -> Rows:
    """What a method adds to an update at which something is due; and its share of a step at the paper's frequency."""
    units = 4 * options.width
    every = {"swr": 128.0, "redo": 128.0, "cbp": 1 / (1e-7 * units)}
    sides = {"base": ours(Ready(problem), options)}
    for system, knobs in DUE.items():
        rate = {"replacement_rate": 1 / units} if system == "cbp" else {}
        sides[system] = ours(Ready(problem), options, system, **knobs, **rate)
    times = alternate(sides, pairs)
    rows: Rows = {}
    for system, frequency in every.items():
        extra = statistics.median(a - b for a, b in zip(times[system], times["base"], strict=True))
        share = extra / statistics.median(times["base"]) / frequency
        rows[f"{system}, due once in {frequency:,.0f}"] = {"extra_ms": 1e3 * extra, "share": share, "pairs": pairs}
    return rows | {"shrink-perturb, at each update": noise(options, statistics.median(times["base"]), max(pairs, 21))}


def noise(options: Options, step: float, pairs: int) -> dict[str, float]:
    """The noise alone, which is added at each update."""
    net = options.network("reparam", 0.1, torch.Generator())
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    perturb = regrow.ShrinkPerturb(net, noise_variance=1e-8, seed=0).step
    extra = statistics.median(alternate({"noise": perturb}, pairs)["noise"])
    return {"extra_ms": 1e3 * extra, "share": extra / step, "pairs": pairs}


def on_device(problem: ClassIncremental, options: Options, updates: int) -> Rows:
    """Milliseconds an update over many, all in but evaluation."""
    rows: Rows = {}
    net = options.network("reparam", 0.1, torch.Generator())
    for name, side, count in (
        ("ours", ours(problem, options), updates),
        ("eager, image after image", eager(problem, Options(width=options.width, depth=options.depth), False), 20),
    ):
        for _ in range(10):
            side()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            side()
        torch.cuda.synchronize()
        spent = (time.perf_counter() - start) / count
        rows[name] = {"ms": 1e3 * spent, "tflops": operations(net, False) / spent / 1e12, "updates": count}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--renewals", action="store_true", help="also what the methods add")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--graphs", action="store_true")
    parser.add_argument("--updates", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    options = Options(
        width=arguments.width, depth=arguments.depth, precision=arguments.precision,
        compiled=arguments.compiled, graphs=arguments.graphs,
    )  # fmt: skip
    problem = make_problem(arguments.device)
    with options.products():
        if arguments.device == "cuda":
            rows = on_device(problem, options, arguments.updates)
        else:
            keep_memory()
            rows = steps(problem, options, arguments.pairs)
            rows |= renewals(problem, options, arguments.pairs) if arguments.renewals else {}
    tell(rows, f"python benchmarks/vit.py --device {arguments.device}", arguments.json)


if __name__ == "__main__":
    main()
