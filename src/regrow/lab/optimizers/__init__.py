"""The optimizers of a stack: one step for all members, each with its own hyper-parameters.

    SGD    theta <- (1 - decay) theta - step_size g
    SGDW   b <- momentum b + g;  theta <- (1 - decay) theta - step_size b
    AdamW  theta <- (1 - decay) theta - step_size m / (sqrt(v) + 1e-8)

Decay is decoupled and not multiplied by the step size. The noise of shrink and perturb is added where it shrinks.
"""

from collections.abc import Callable, Sequence

from .base import SGD, Configs, Stack, StackOptimizer
from .compiled import CompiledAdamW, CompiledOptimizer, CompiledSGDW, serves
from .fused import TorchAdamW, TorchOptimizer, TorchSGDW


def sgdw(net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> StackOptimizer:
    """SGD with momentum and decoupled decay, by the fastest code for a stack."""
    return (CompiledSGDW if serves(net) else TorchSGDW)(net, configs, seeds, alone)


def adamw(net: Stack, configs: Configs, seeds: Sequence[int], alone: Sequence[int] = ()) -> StackOptimizer:
    """AdamW with a decay that the step size does not multiply, by the fastest code for a stack."""
    return (CompiledAdamW if serves(net) else TorchAdamW)(net, configs, seeds, alone)


OPTIMIZERS: dict[str, Callable[..., StackOptimizer]] = {"sgd": SGD, "sgdw": sgdw, "adamw": adamw}

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "CompiledAdamW",
    "CompiledOptimizer",
    "CompiledSGDW",
    "Stack",
    "StackOptimizer",
    "TorchAdamW",
    "TorchOptimizer",
    "TorchSGDW",
    "adamw",
    "sgdw",
]
