"""Units of blocks whose forwards torch.fx cannot follow but whose structure is known: transformer layers, attention."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from . import ops
from .entries import Place
from .modules import Catalog, Dense, join
from .units import Units

# The layer that makes the values (alone, or as the last of what it makes) and the one that reads them mixed.
_ATTENTION = {
    "regrow.lab.nets.vit.Attention": ("qkv", "out"),
    "transformers.models.gpt2.modeling_gpt2.GPT2Attention": ("c_attn", "c_proj"),
    "transformers.models.llama.modeling_llama.LlamaAttention": ("v_proj", "o_proj"),
    "transformers.models.mistral.modeling_mistral.MistralAttention": ("v_proj", "o_proj"),
    "transformers.models.qwen2.modeling_qwen2.Qwen2Attention": ("v_proj", "o_proj"),
    "transformers.models.vit.modeling_vit.ViTAttention": ("v_proj", "o_proj"),
}


class Known(NamedTuple):
    """The units of a block, or the reason why its layer has none."""

    layer: str
    units: Units | None
    reason: str = ""


def hidden(catalog: Catalog) -> Iterator[Known]:
    """The MLPs of `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer`: linear1, activation, linear2."""
    for name, block in catalog.by_first_name():
        for kind in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer):
            if isinstance(block, kind):
                first, second = (catalog.dense(block.get_submodule(child)) for child in ("linear1", "linear2"))
                layer = join(name, "linear1")
                reason = _reason(catalog, first, second)
                if not catalog.once(block):
                    reason = "shared: the forward calls its block more than once"
                if (type(block).forward, type(block)._ff_block) != (kind.forward, kind._ff_block):
                    reason = f"part of {type(block).__name__}, whose forward is its own"
                elif not ops.is_activation(block.activation):
                    reason = "its activation is unknown here"
                if reason or first is None or second is None:
                    yield Known(layer, None, reason)
                else:
                    bias = None if first.bias is None else (first.bias, 0)
                    read = f"input of {join(name, 'dropout')}"
                    yield Known(layer, Units((first.weight, 0), bias, None, (second.weight, 1), read))


def writes_to_stream(block: nn.Module, layer: nn.Module) -> bool:
    """Is this the second layer of the MLP of a transformer layer of torch, whose output is added to its input?"""
    return isinstance(block, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) and layer is block.linear2


def attention(catalog: Catalog) -> Iterator[Known]:
    """Value channels: a row of the value projection, and the columns of the output projection that read it.

    A head mixes each channel of its values over the tokens by itself, so row i of a head's values reaches channel i of
    what the head gives and nothing else, and the output projection's column there is its only way out. Where r query
    heads share one value head, r channels read it, one head dimension apart, so the unit owns r columns.
    """
    for name, module in catalog.by_first_name():
        kind = type(module)
        if isinstance(module, nn.MultiheadAttention):
            yield _torch_attention(catalog, name, module)
        elif f"{kind.__module__}.{kind.__qualname__}" in _ATTENTION:
            yield _projected_attention(catalog, name, module)


def _torch_attention(catalog: Catalog, name: str, module: nn.MultiheadAttention) -> Known:
    """`nn.MultiheadAttention`, its projections packed or separate."""
    width = module.embed_dim
    out = catalog.dense(module.out_proj)
    reason = catalog.unfit(module) or _reason(catalog, out)
    if type(module).forward is not nn.MultiheadAttention.forward:
        reason = f"{type(module).__name__} has a forward of its own"
    if reason or out is None:
        return Known(name, None, reason)
    value = Place(join(name, "v_proj_weight"), 0)
    if module.in_proj_weight is not None:
        value = Place(join(name, "in_proj_weight"), 0, 2 * width)
    biases = []
    if module.in_proj_bias is not None:
        biases.append(Place(join(name, "in_proj_bias"), 0, 2 * width))
    if module.bias_v is not None:  # one more value that every query may mix in
        biases.append(Place(join(name, "bias_v"), 2))
    return Known(name, Units(value, biases, None, (out.weight, 1), f"values of {name}"))


def _projected_attention(catalog: Catalog, name: str, module: nn.Module) -> Known:
    """Attention whose projections are layers."""
    kind = type(module)
    children = _ATTENTION[f"{kind.__module__}.{kind.__qualname__}"]
    value, out = (catalog.dense(module.get_submodule(child)) for child in children)
    reason = _reason(catalog, value, out)
    if reason or value is None or out is None:
        return Known(name, None, reason)
    shared_by, width = (getattr(module, key, 1) for key in ("num_key_value_groups", "head_dim"))
    n = out.n_in // shared_by
    start = None if value.n_out == n else value.n_out - n
    column = Place(out.weight, out.dim_in, None, shared_by, width if shared_by > 1 else 1)
    bias = None if value.bias is None else Place(value.bias, 0, start)
    read = f"input of {out.name}"
    return Known(name, Units(Place(value.weight, value.dim_out, start), bias, None, column, read, shared_by))


def _reason(catalog: Catalog, *layers: Dense | None) -> str:
    """Why layers cannot make or read units; "" where they can."""
    for layer in layers:
        if layer is None:
            return "made of layers unknown here"
        if catalog.unfit(layer.module):
            return f"{layer.name!r} is {catalog.unfit(layer.module)}"
    return ""
