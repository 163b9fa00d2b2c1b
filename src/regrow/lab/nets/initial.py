"""Initial values straight from the declared laws, so that the two cannot disagree."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import skip_init

from ...laws import Constant, Law, Normal, Uniform
from ...nn import ReparamLayerNorm

Module = TypeVar("Module", bound=nn.Module)


def blank(kind: type[Module], *args: Any, **options: Any) -> Module:
    """A module whose parameters are not filled yet, so that no random numbers are drawn in vain."""
    return skip_init(kind, *args, device=torch.get_default_device(), **options)  # type: ignore[return-value]


def resting_laws(net: nn.Module) -> dict[str, Law]:
    """Laws that set every parameter to 0, except the scales of norms, which are 1."""
    laws: dict[str, Law] = {name: Constant(0.0) for name, _ in net.named_parameters()}
    for name, module in net.named_modules():
        if isinstance(module, nn.LayerNorm) and not isinstance(module, ReparamLayerNorm):
            laws[f"{name}.weight"] = Constant(1.0)
    return laws


def fill(net: nn.Module, laws: Mapping[str, Law], generator: torch.Generator | None = None) -> None:
    """Draw every parameter from its law, in the order of `named_parameters`.

    Args:
        net: changed in place.
        laws: parameter name -> Constant, Normal or Uniform, for every parameter.
        generator: where the random numbers come from; None: torch's default generator.
    """
    for name, parameter in net.named_parameters():
        match laws[name]:
            case Constant(value=value):
                nn.init.constant_(parameter, value)
            case Normal(mean=mean, std=std):
                nn.init.normal_(parameter, mean, std, generator)
            case Uniform(low=low, high=high):
                nn.init.uniform_(parameter, low, high, generator)
            case law:
                raise AssertionError(f"no initial values for {law}")
