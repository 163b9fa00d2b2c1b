"""The law of each parameter of each module type, as its `reset_parameters` in `torch.nn` has it."""

import math
from collections.abc import Callable
from operator import attrgetter

import torch
from torch import nn

from ..names import Entry
from .distributions import Constant, Law, Normal, Uniform


def fans(shape: torch.Size) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of 2 or more dimensions, by the rule of `torch.nn.init`.

    Example:
        >>> fans(torch.Size([8, 4, 3, 3]))
        (36, 72)
    """
    receptive = shape[2:].numel()
    return shape[1] * receptive, shape[0] * receptive


def symmetric(bound: float) -> Uniform:
    """Uniform(-bound, bound)"""
    return Uniform(-bound, bound)


def module_law(home: Entry) -> Law | None:
    """The law that the module type gives one of its parameters; None where it has none.

    A container that initialises what is in it (`nn.MultiheadAttention`, `nn.Transformer`) has the last word.

    Args:
        home: where the parameter lives, from `names.walk`.

    Example:
        >>> from regrow.names import walk
        >>> [module_law(entry) for entry in walk(nn.Linear(4, 2))]
        [Uniform(low=-0.5, high=0.5), Uniform(low=-0.5, high=0.5)]
    """
    for name, module in reversed(home.ancestors):
        for kinds, law in _LAWS:
            if isinstance(module, kinds) and (given := law(module, name)) is not None:
                return given
    return None


def _fan_in(module: nn.Module, name: str) -> Law | None:
    """Linear, convolutions: kaiming_uniform_(a=sqrt(5)), a bound of 1 / sqrt(fan_in); the bias has the same one."""
    if name not in ("weight", "bias"):
        return None
    fan_in, _ = fans(_shape(module, "weight"))
    return symmetric(1 / math.sqrt(fan_in) if fan_in else 0.0)


def _bilinear(module: nn.Module, name: str) -> Law | None:
    return symmetric(1 / math.sqrt(_shape(module, "weight")[1])) if name in ("weight", "bias") else None


def _embedding(module: nn.Module, name: str) -> Law | None:
    return Normal() if name == "weight" else None  # the row of padding_idx is 0, and never has a gradient


def _norm(module: nn.Module, name: str) -> Law | None:
    return {"weight": Constant(1.0), "bias": Constant(0.0)}.get(name)


def _recurrent(module: nn.RNNBase | nn.RNNCellBase, name: str) -> Law | None:
    own = name in module._parameters and name.startswith(("weight_", "bias_"))
    return symmetric(1 / math.sqrt(module.hidden_size)) if own else None


def _prelu(module: nn.PReLU, name: str) -> Law | None:
    return Constant(module.init) if name == "weight" else None


def _attention(module: nn.MultiheadAttention, name: str) -> Law | None:
    if name in ("in_proj_bias", "out_proj.bias"):
        return Constant(0.0)
    if name in ("bias_k", "bias_v"):
        return Normal(0.0, _xavier_std(_shape(module, name)))
    if name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
        return symmetric(math.sqrt(3) * _xavier_std(_shape(module, name)))
    return None


def _transformer(module: nn.Transformer, name: str) -> Law | None:
    if not name.startswith(("encoder.", "decoder.")) or len(shape := _shape(module, name)) < 2:
        return None
    return symmetric(math.sqrt(3) * _xavier_std(shape))


def _shape(module: nn.Module, name: str) -> torch.Size:
    return attrgetter(name)(module).shape  # of a parametrised weight too, which is no parameter


def _xavier_std(shape: torch.Size) -> float:
    return math.sqrt(2 / sum(fans(shape)))


_LAWS: tuple[tuple[tuple[type[nn.Module], ...], Callable[..., Law | None]], ...] = (
    ((nn.Transformer,), _transformer),
    ((nn.MultiheadAttention,), _attention),
    ((nn.Linear, nn.modules.conv._ConvNd), _fan_in),
    ((nn.Bilinear,), _bilinear),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    ((nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), _norm),
    ((nn.RNNBase, nn.RNNCellBase), _recurrent),
    ((nn.PReLU,), _prelu),
)
