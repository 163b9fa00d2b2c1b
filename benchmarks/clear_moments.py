"""What should Adam remember of renewed entries? Online accuracy under each `clear_moments`, on permuted digits.

    python benchmarks/clear_moments.py [--tasks 40] [--seeds 3] [--networks NAME …] [--json FILE]

Networks of the setting "large-adamw" (100 units a hidden layer, the laboratory's values for digits) and of the demo
(32 units and its values, with AdamW in place of SGD), trained by the laboratory as one stack for each seed: initial
weights, data and random numbers are shared by all methods and policies, so differences are paired. A task has 224
updates. Accuracy is that of the later half of the tasks.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timing import Rows, tell
from torch import Tensor

from regrow.lab.data.mnist import load_digits_images
from regrow.lab.mlp.network import StackedMLP
from regrow.lab.mlp.trainer import Trainer
from regrow.lab.optimizers import OPTIMIZERS, CompiledAdamW
from regrow.lab.problems.permuted import DIGITS
from regrow.lab.studies import Member, Setting, StackPlan
from regrow.maintain import moments, restart

POLICIES: dict[str, bool | str] = {"True": True, "'restart'": "restart", "'zero'": "zero", "False": False}
COMMON = {"decay": 0.0, "noise_variance": 0.0, "beta1": 0.9, "beta2": 0.999, "source": "ours"}
SWR = {"utility": "gradient", "prune": "threshold", "reinit": "resample"}
NETWORKS: dict[str, tuple[int, float, dict[str, dict[str, Any]]]] = {
    "large-adamw": (100, 5e-4, {
        "swr": SWR | {"every": 229, "factor": 1e-6},
        "cbp": {"replacement_rate": 1 / 112, "maturity": 1, "utility": "contribution"},
        "redo": {"every": 2, "threshold": 1e-5, "utility": "activation"},
    }),
    "demo": (32, 1e-3, {
        "swr": SWR | {"every": 256, "factor": 1e-3},
        "cbp": {"replacement_rate": 1e-3, "maturity": 10, "utility": "contribution"},
        "redo": {"every": 64, "threshold": 3e-3, "utility": "activation"},
    }),
}  # fmt: skip
"""name: (hidden units, step size, {method: its config})"""


class Clearing(CompiledAdamW):
    """AdamW whose memory of renewed entries is cleared by each member's own `clear_moments`."""

    def __init__(self, net: StackedMLP, configs: Any, seeds: Any, alone: Sequence[int] = ()) -> None:
        super().__init__(net, configs, seeds, alone)
        self._policies = [config["clear_moments"] for config in configs]
        restarting = [i for i, policy in enumerate(self._policies) if policy == "restart"]
        shapes = {name: w[0].shape for name, w in net.parameters.items()}
        self._born = {i: {n: torch.zeros(s, dtype=torch.int32) for n, s in shapes.items()} for i in restarting}
        net.remembers, net.forget = True, self._forget_entries
        net.twin = lambda method: None  # the compiled loops know nothing of an optimizer's memory

    def _state(self, name: str, member: int) -> dict[str, Tensor]:
        return {key: of[name][member] for key, of in self._memory.items()}

    def _forget_entries(self, name: str, places: Sequence[int], mask: Tensor) -> None:
        for member, own in zip(places, mask, strict=True):
            policy = self._policies[member]
            if policy:
                moments.clear(self._state(name, member), own, "mean" if policy is True else "zero")
            if member in self._born:
                self._born[member][name].masked_fill_(own, int(self._steps[member]))

    def step(self, gradients: Mapping[str, Tensor] | None) -> None:
        super().step(gradients)
        for member, of in self._born.items():
            config = self.configs[member]
            group = {"lr": config["step_size"], "betas": (config["beta1"], config["beta2"]), "eps": 1e-8}
            for name, born in of.items():
                if born.any():
                    state = self._state(name, member) | {"step": self._steps[member]}
                    restart._correct(self.net.parameters[name][member], born, state, group, None)

    def permute(self, name: str, shuffle: Tensor) -> None:
        super().permute(name, shuffle)
        for of in self._born.values():
            of[name] = of[name].index_select(1, shuffle)


def accuracies(network: str, seed: int, tasks: int) -> dict[tuple[str, str], float]:
    """Online accuracy over the later half of the tasks, by method and policy."""
    hidden, step_size, methods = NETWORKS[network]
    common = COMMON | {"step_size": step_size}
    of = {("base", ""): Member("base", common | {"clear_moments": False}, seed)} | {
        (method, name): Member(method, common | knobs | {"clear_moments": policy}, seed)
        for method, knobs in methods.items()
        for name, policy in POLICIES.items()
    }
    plan = StackPlan(f"{network}.{seed}", Setting(network, hidden, False, "clearing"), seed, tuple(of.values()))
    trainer = Trainer(plan, load_digits_images(), course=DIGITS, measure_every=1_000)
    rows = [trainer.run_task() for _ in range(tasks)]
    late = [[row["online_accuracy"] for row in task] for task in rows[tasks // 2 :]]
    return dict(zip(of, map(statistics.mean, zip(*late, strict=True)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    OPTIMIZERS["clearing"] = Clearing
    rows: Rows = {}
    for network in options.networks:
        seeds = [accuracies(network, seed, options.tasks) for seed in range(options.seeds)]
        for method, policy in seeds[0]:
            values = [of[method, policy] for of in seeds]
            more = [of[method, policy] - of.get((method, "True"), of[method, policy]) for of in seeds]
            spread = [statistics.stdev(x) if len(x) > 1 else 0.0 for x in (values, more)]
            rows[f"{network}, {method} {policy}".strip()] = {
                "accuracy": statistics.mean(values), "sd": spread[0],
                "more_than_true": statistics.mean(more), "sd_of_that": spread[1], "n": len(seeds),
            }  # fmt: skip
        command = " ".join(["python benchmarks/clear_moments.py", *sys.argv[1:]])
        tell(rows, command, options.json)


if __name__ == "__main__":
    main()
