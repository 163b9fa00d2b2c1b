"""Find the hidden units of a model."""

import re
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from .. import check
from ..shards import as_made
from . import example_run
from .flow import BY_NATURE
from .modules import Catalog
from .search import KINDS, Search, maker
from .units import Units


class Found(list[Units]):
    """The units of a model, one entry per layer, and the layers left out.

    Args:
        units: of each layer.
        sizes: number of units of each layer.
        left_out: {layer without units: the reason}.

    `overlooked` holds those left out that look like hidden layers: not outputs, residual streams, frozen or tied ones.
    """

    def __init__(self, units: Iterable[Units], sizes: Sequence[int], left_out: Mapping[str, str]) -> None:
        super().__init__(units)
        self.sizes = tuple(sizes)
        self.left_out = dict(left_out)

    @property
    def overlooked(self) -> dict[str, str]:
        """{layer that looks hidden but yields no units: the reason}; for a warning."""
        return {name: reason for name, reason in self.left_out.items() if not reason.startswith(BY_NATURE)}

    @property
    def why(self) -> str:
        """`left_out` in one line."""
        return "; ".join(_lines(self.left_out)) or "it has no linear or convolutional layer"

    def warn_of_overlooked(self, who: str, besides: Container[str] = (), stacklevel: int = 2) -> None:
        """Warn of what is overlooked, in one line.

        Args:
            who: renews the units.
            besides: names of layers that nobody need be warned of.
            stacklevel: of the warning, from the caller on.
        """
        overlooked = {name: reason for name, reason in self.overlooked.items() if name not in besides}
        if overlooked:
            lines = _lines(overlooked)
            more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
            warnings.warn(
                f"{who} leaves out layers that may have hidden units: {'; '.join(lines[:3])}{more}. To add them, give "
                "units=[*regrow.find_units(model), regrow.Units(...)]; to leave them out without this warning, give "
                "units=regrow.find_units(model)",
                stacklevel=stacklevel + 1,
            )

    def __repr__(self) -> str:
        lines = [f"{sum(self.sizes)} units in {len(self)} {'layer' if len(self) == 1 else 'layers'}"]
        lines += [f"  {n} {units!r}" for units, n in zip(self, self.sizes, strict=False)]
        if self.left_out:
            lines += ["  left out:", *(f"    {line}" for line in _lines(self.left_out))]
        return "\n".join(lines)


def _lines(reasons: Mapping[str, str]) -> list[str]:
    """One line per reason; layers whose names and reasons differ only in numbers share a line."""
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

    The forward is followed by torch.fx, in training mode and in evaluation mode whatever mode the model is in: units
    must be units in both, or in the one that calls their layers. Where it cannot be followed its parts are, each on
    its own and treated as one call. A module that has several names is one module. Images are taken to come
    in batches, and a norm of channels that follows a linear layer to see (batch, features), where no example shows
    otherwise. `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer` are known by their structure, and so is
    attention: torch's, this package's, and that of GPT-2, Llama, Mistral, Qwen2 and ViT of Hugging Face.

    Args:
        model: any module, wrapped or not; not changed.
        example_input: a batch to run the model on, in evaluation mode and without gradient: a tensor, a tuple of
            arguments or a dict of named ones. Where the forward differs in training mode it is run there too, with
            norms and dropout still evaluating. It confirms what the forward alone leaves open (reshapes to a batch of
            -1, dimensions counted from the front) and that each activation is where it is said to be.
        kinds: "hidden", and "attention" for the value channels of attention heads; one or both.

    Returns:
        A list of `Units`, a layer each, in the order of the model's modules. It also has `sizes`, the number of units
        of each, and `left_out`, a reason for each other layer; its repr shows all three. `overlooked` are those of
        the latter that look hidden.

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
        Hernandez-Garcia et al. 2025, section 4: what renewing a unit renews.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in kinds:
        check.choice("kinds", kind, KINDS)
    layers, reasons, catalog = _search(model, example_input, kinds)
    found = _found(model, layers, reasons, catalog)
    if not found:
        raise ValueError(
            f"no units found in {type(catalog.root).__name__} ({found.why}): give an example_input, or name them with "
            "units=[regrow.Units(weight_in=..., bias=..., norm=..., weight_out=..., activation=...)]"
        )
    return found


def find_measurable(model: nn.Module, example_input: Any) -> Found:
    """The units of a model whatever is frozen, since measuring changes none; it may be empty.

    Args:
        model, example_input: as for `find_units`.
    """
    return _found(model, *_search(model, example_input, ("hidden",), frozen=True))


def _found(model: nn.Module, layers: list[Units], reasons: Mapping[str, str], catalog: Catalog) -> Found:
    order = {name: i for i, name in enumerate(catalog.modules)}
    layers = sorted(layers, key=lambda units: order[maker(units)])
    return Found(layers, [units.count(model) for units in layers], reasons)


def left_out(model: nn.Module, example_input: Any = None) -> dict[str, str]:
    """The layers that look hidden but yield no units, by name, with the reason.

    Outputs, residual streams, frozen and tied layers do not count as hidden. Unit maintainers do not renew the layers
    listed here: name their units with `units=[...]`, or give `find_units` an `example_input`.

    Args:
        model, example_input: as for `find_units`.

    Example:
        >>> lstm = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.LSTM(8, 8))
        >>> left_out(lstm)
        {'0': "read by '2' (LSTM), unknown here", '2': 'recurrent: its units read each other'}
    """
    layers, reasons, _ = _search(model, example_input, ("hidden",))
    return Found(layers, (), reasons).overlooked


def _search(
    model: nn.Module, example_input: Any, kinds: Sequence[str], frozen: bool = False
) -> tuple[list[Units], dict[str, str], Catalog]:
    """The units of these kinds in training and evaluation mode, and why other layers have none."""
    with as_made(model.modules()):
        return _search_as_made(model, example_input, kinds, frozen)


def _search_as_made(
    model: nn.Module, example_input: Any, kinds: Sequence[str], frozen: bool
) -> tuple[list[Units], dict[str, str], Catalog]:
    search = Search(model, training=True, frozen=frozen)
    other = Search(model, training=False, frozen=frozen)
    alike = search.outline == other.outline
    both = not (alike and search.followed_all)
    if example_input is not None:
        search.shapes = other.shapes = example_run.shapes(search.root, example_input, both)
    layers, reasons = search.units(kinds)
    if not alike:
        layers, reasons = search.agreed(layers, reasons, other, kinds)
    if example_input is not None:
        wrong = example_run.unseen(search.root, layers, example_input, both)
        layers = [units for units in layers if units not in wrong]
        reasons |= {maker(units): reason for units, reason in wrong.items()}
    return layers, search.left_out(layers, reasons), search.catalog
