"""How libraries built on torch initialise parameters: Hugging Face's models, and LoRA in PEFT."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

from ..names import Entry
from .distributions import Constant, Law, Normal
from .torch_defaults import fans, module_law, symmetric

# Models of Hugging Face whose own `_init_weights` leaves layers of torch's types to the common one, but for GPT-2's.
_COMMON = frozenset({"PreTrainedModel", "ViTPreTrainedModel", "GPT2PreTrainedModel"})
_RANDOM = frozenset({"normal_", "trunc_normal_", "uniform_", "xavier_uniform_", "kaiming_uniform_", "ones_", "fill_"})


def module_laws(home: Entry, checked: bool) -> list[Law]:
    """Laws that a parameter may have, by its module and the library it comes from; the most likely first.

    Args:
        home: where the parameter lives, from `names.walk`.
        checked: the caller compares them with the values, so likely but uncertain laws are included.

    Example:
        >>> from regrow.names import walk
        >>> [module_laws(entry, checked=False) for entry in walk(nn.Linear(4, 2))]
        [[Uniform(low=-0.5, high=0.5)], [Uniform(low=-0.5, high=0.5)]]
    """
    for name, module in home.ancestors:
        if _is(module, "peft", "LoraLayer") and name.startswith("lora_"):
            return _lora(module, name, home, checked)
    own = module_law(home)
    model = next((module for _, module in home.ancestors if _is(module, "transformers", "PreTrainedModel")), None)
    law = None if model is None else _hugging_face(model, home)
    if model is not None and law is not None:
        return [law, *([own] if own else [])] if checked else [law] if _leaves_layers_alone(model) else []
    return [own] if own else []


def _is(module: nn.Module, package: str, kind: str) -> bool:
    """Is a module an instance of a library's class? Compared by name, so the library need not be installed."""
    return any(c.__name__ == kind and c.__module__.startswith(package + ".") for c in type(module).__mro__)


def _leaves_layers_alone(model: Any) -> bool:
    """Does the model's class keep the common initialisation for torch's layers?"""
    method = type(model)._init_weights
    names = frozenset(getattr(method, "__code__", _leaves_layers_alone.__code__).co_names)
    return method.__qualname__.split(".")[0] in _COMMON or ("super" in names and not names & _RANDOM)


def _hugging_face(model: Any, home: Entry) -> Law | None:
    """What `PreTrainedModel._init_weights` draws; None for modules that it leaves alone."""
    module, attribute, std = home.module, home.attribute, _initializer_range(model.config)
    kind = type(module).__name__
    if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)) or kind == "Conv1D":
        if attribute == "weight":
            return Normal(0.0, std * _gpt2_scale(model, home))
        return Constant(0.0) if attribute == "bias" else None
    if isinstance(module, (nn.GroupNorm, nn.modules.batchnorm._BatchNorm)) or "LayerNorm" in kind or "RMSNorm" in kind:
        return {"weight": Constant(1.0), "bias": Constant(0.0)}.get(attribute)
    return None


def _initializer_range(config: Any) -> float:
    """The standard deviation in a configuration."""
    for key in ("initializer_range", "init_std", "initializer_factor"):
        if hasattr(config, key):
            return float(getattr(config, key) or 0.02)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return float(getattr(text, "initializer_range", 0.02))


def _gpt2_scale(model: Any, home: Entry) -> float:
    """GPT-2 scales the projections that feed the residual stream by 1 / sqrt(2 * layers)."""
    around = {type(module).__name__ for _, module in home.ancestors[1:2]}
    residual = home.name.endswith("c_proj.weight") and around & {"GPT2Attention", "GPT2MLP"}
    return 1 / math.sqrt(2 * model.config.n_layer) if residual else 1.0


def _lora(layer: Any, name: str, home: Entry, checked: bool) -> list[Law]:
    """A: kaiming_uniform_(a=sqrt(5)), or normal with std 1 / rank. B: 0, so that a new adapter changes nothing."""
    part, _, adapter = name.partition(".")
    adapter = adapter.split(".")[0]
    how = _lora_init(home.ancestors, adapter)
    if how is False:  # both as torch has them
        own = module_law(home)
        return [own] if own else []
    if how is not True and how != "gaussian" and not checked:
        return []  # computed from the adapted weights
    if part == "lora_embedding_A" or part == "lora_B":
        return [Constant(0.0)]
    if part == "lora_embedding_B":
        return [Normal()]
    if part != "lora_A":
        return []
    if home.attribute == "bias":
        return [Constant(0.0)]
    if how == "gaussian":
        return [Normal(0.0, 1 / layer.r[adapter])]
    return [symmetric(1 / math.sqrt(fans(home.parameter.shape)[0]))]


def _lora_init(ancestors: Iterable[tuple[str, nn.Module]], adapter: str) -> Any:
    """`init_lora_weights` of an adapter's configuration; True, the default, if there is no configuration."""
    configs = (getattr(module, "peft_config", None) for _, module in ancestors)
    config = next((c[adapter] for c in configs if isinstance(c, dict) and adapter in c), None)
    return getattr(config, "init_lora_weights", True)
