"""Find the hidden units of a model."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from .. import check
from . import example_run, grouping, known_blocks
from .flow import Flow, Shapes
from .modules import Catalog
from .trace import Regions
from .units import Units


class Found(list[Units]):
    """The units that were found, a layer each; and what was left out.

    Args:
        units: of each layer.
        sizes: number of units of each layer.
        left_out: layers that hold no units, by name, and why.
    """

    def __init__(self, units: Iterable[Units], sizes: Sequence[int], left_out: Mapping[str, str]) -> None:
        super().__init__(units)
        self.sizes = tuple(sizes)
        self.left_out = dict(left_out)

    def __repr__(self) -> str:
        lines = [f"{sum(self.sizes)} units in {len(self)} {'layer' if len(self) == 1 else 'layers'}"]
        lines += [f"  {n} {units!r}" for units, n in zip(self, self.sizes, strict=False)]
        if self.left_out:
            lines += ["  left out:", *(f"    {line}" for line in _lines(self.left_out))]
        return "\n".join(lines)


def _lines(reasons: Mapping[str, str]) -> list[str]:
    """A line for each reason; layers whose names and reasons differ in numbers alone share one."""
    alike: dict[tuple[str, str], list[str]] = {}
    reasons = {name or "the model": reason for name, reason in reasons.items()}
    for name, reason in reasons.items():
        alike.setdefault((re.sub(r"\d+", "*", name), re.sub(r"\d+", "*", reason)), []).append(name)
    lines = []
    for (name, reason), names in alike.items():
        if len({reasons[n] for n in names}) == 1:
            reason = reasons[names[0]]
        lines.append(f"{names[0]}: {reason}" if len(names) == 1 else f"{name} ({len(names)} layers): {reason}")
    return lines


def find_units(model: nn.Module, example_input: Any = None, kinds: str | Sequence[str] = ("hidden",)) -> Found:
    """Find the hidden units of a model, layer by layer.

    A hidden unit is an output of a linear or convolutional layer that reaches, through an activation (and dropout,
    pooling, flattening, norms, or the product with another layer's output), nothing but layers that read it each
    through weights of its own. So residual streams, outputs, and tied or shared weights hold none.

    The forward is followed by torch.fx; where it cannot be, its parts are, each on its own and taken to be called as a
    whole. Images are taken to come in batches, and a norm of channels that follows a linear layer to see (batch,
    features), where no example shows otherwise. `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer` are known
    by their structure, and so is attention: torch's, this package's, and that of GPT-2, Llama, Mistral, Qwen2 and ViT
    of Hugging Face.

    Args:
        model: any module, wrapped or not; not changed.
        example_input: a batch to run the model on once, in evaluation mode and without gradient: a tensor, a tuple of
            arguments or a dict of named ones. It confirms what the forward alone leaves open (reshapes to a batch of
            -1, dimensions counted from the front) and that each activation is where it is said to be.
        kinds: "hidden", and "attention" for the value channels of attention heads; one or both.

    Returns:
        A list of `Units`, a layer each, in the order of the model's modules. It also has `sizes`, the number of units
        of each, and `left_out`, a reason for each other layer; its repr shows all three.

    Raises:
        ValueError: where none is found, or for an unknown kind.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> find_units(net)
        8 units in 1 layer
          8 Units(0.weight -> 2.weight, h: output of 1)
          left out:
            2: its output leaves the model

    Reference:
        Hernandez-Garcia et al. 2025, section 2: what renewing a unit renews.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in kinds:
        check.choice("kinds", kind, _KINDS)
    catalog = Catalog(model)
    regions = Regions(catalog)
    shapes = {} if example_input is None else example_run.shapes(catalog.root, example_input)
    found: list[Units] = []
    reasons: dict[str, str] = {}
    for kind, units_of in _KINDS.items():
        units, left = units_of(catalog, regions, shapes)
        if kind in kinds:
            found += units
            reasons |= left
        else:
            reasons |= dict.fromkeys(map(_maker, units), f"its units are found with kinds={kind!r}")
    if example_input is not None:
        wrong = example_run.unseen(catalog.root, found, example_input)
        found = [units for units in found if units not in wrong]
        reasons |= {_maker(units): reason for units, reason in wrong.items()}
    left_out = _left_out(catalog, regions, found, reasons)
    if not found:
        why = "; ".join(_lines(left_out)) or "it has no linear or convolutional layer"
        raise ValueError(
            f"no units found in {type(catalog.root).__name__} ({why}): give an example_input, or name them with "
            "units=[regrow.Units(weight_in=..., bias=..., norm=..., weight_out=..., activation=...)]"
        )
    order = {name: i for i, name in enumerate(catalog.modules)}
    found.sort(key=lambda units: order[_maker(units)])
    return Found(found, [units.count(model) for units in found], left_out)


def _maker(units: Units) -> str:
    """Name of the module with the first incoming weights."""
    return units.weight_in[0].name.rpartition(".")[0]


def _hidden(catalog: Catalog, regions: Regions, shapes: Shapes) -> tuple[list[Units], dict[str, str]]:
    """Hidden units, and why other layers hold none."""
    found: list[Units] = []
    reasons: dict[str, str] = {}
    for region in regions.found:
        if shapes and id(region.module) not in shapes:
            inside = (layer for layer in catalog.candidates() if layer.startswith(f"{region.name}."))
            reasons |= dict.fromkeys(inside, f"the example does not call {region.name!r}")
            continue
        flow = Flow(region, catalog, shapes)
        reasons |= flow.stopped
        found += grouping.units_of(flow, catalog, reasons)
    return _with_blocks(found, reasons, known_blocks.hidden(catalog))


def _attention(catalog: Catalog, regions: Regions, shapes: Shapes) -> tuple[list[Units], dict[str, str]]:
    """Value channels of attention, and why other attention has none."""
    return _with_blocks([], {}, known_blocks.attention(catalog))


_KINDS = {"hidden": _hidden, "attention": _attention}


def _with_blocks(
    found: list[Units], reasons: dict[str, str], known: Iterable[known_blocks.Known]
) -> tuple[list[Units], dict[str, str]]:
    for block in known:
        if block.units is not None:
            found.append(block.units)
        else:
            reasons[block.layer] = block.reason
    return found, reasons


def _left_out(catalog: Catalog, regions: Regions, found: Sequence[Units], reasons: Mapping[str, str]) -> dict[str, str]:
    """Why each layer that might hold units holds none."""
    taken = {place.name.rpartition(".")[0] for units in found for place in units.weight_in}
    names = dict.fromkeys([*catalog.candidates(), *reasons])
    return {name: reasons.get(name) or _unreached(catalog, regions, name) for name in names if name not in taken}


def _unreached(catalog: Catalog, regions: Regions, name: str) -> str:
    """Why nothing that was followed tells about a layer."""
    module = catalog.modules[name]
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return "recurrent: its units read each other"
    reason = catalog.unfit(module)
    if reason or catalog.dense(module) is None:
        return reason or f"a {type(module).__name__}, unknown here"
    while name:
        name = name.rpartition(".")[0]
        around = catalog.modules[name]
        if type(around).__module__.startswith("torch.nn") and not isinstance(around, nn.Sequential):
            return f"part of a {type(around).__name__}"
        if name in regions.failed:
            return f"the forward of {repr(name) if name else 'the model'} could not be followed: {regions.failed[name]}"
    return "no layer reads its output"
