"""Search the forward of one mode, training or evaluation, for units, and reconcile the two modes."""

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from . import grouping, known_blocks
from .flow import Flow, Shapes
from .modules import Catalog
from .trace import Regions
from .units import Units

_UNCALLED = "does not call it"


class Search:
    """The forward of a model in one mode, and the units in it.

    Args:
        model: any module; not changed.
        training: the mode.
        frozen: also find frozen units.

    Set `shapes` to what an example showed, if there is one.
    """

    def __init__(self, model: nn.Module, training: bool, frozen: bool = False) -> None:
        self.catalog = Catalog(model, frozen)
        self._regions = Regions(self.catalog, training)
        self._mode = "training" if training else "evaluation"
        self.shapes: Shapes = {}
        self.root = self.catalog.root

    @property
    def outline(self) -> object:
        """Equal for two searches whose forwards are of one structure."""
        return self._regions.outline

    @property
    def followed_all(self) -> bool:
        """Could the whole forward be followed?"""
        return not self._regions.failed

    def units(self, kinds: Sequence[str]) -> tuple[list[Units], dict[str, str]]:
        """The units of some kinds, and why other layers have none."""
        layers: list[Units] = []
        reasons: dict[str, str] = {}
        for kind, units_of in KINDS.items():
            units, left = units_of(self.catalog, self._regions, self.shapes)
            if kind in kinds:
                layers += units
                reasons |= left
            else:
                reasons |= dict.fromkeys(map(maker, units), f"its units are found with kinds={kind!r}")
        return layers, reasons

    def agreed(
        self, layers: Sequence[Units], reasons: dict[str, str], other: "Search", kinds: Sequence[str]
    ) -> tuple[list[Units], dict[str, str]]:
        """Units in both modes, or in the only mode that calls their layers."""
        others, other_reasons = other.units(kinds)
        theirs = {units.weight_in: units for units in others}
        ours = {units.weight_in: units for units in layers}
        kept: list[Units] = []
        for rows in dict.fromkeys([*ours, *theirs]):
            a, b = ours.get(rows), theirs.get(rows)
            if a is not None and b is not None:
                units = _larger(a, b)
                reason = "read by other layers in training than in evaluation"
            else:
                units = a or b
                assert units is not None
                search, why = (other, other_reasons) if b is None else (self, reasons)
                reason = "" if search._leaves_alone(units) else search._reason(maker(units), why)
            if units is None or reason and (a is None or b is None):
                reasons |= dict.fromkeys(_makers(a or b), reason)
            else:
                kept.append(units)
        return kept, reasons

    def _leaves_alone(self, units: Units) -> bool:
        """Is it known that this mode's forward calls none of the layers that make the units?"""
        return all(
            self._regions.follows(name) and not self.catalog.calls.get(id(self.catalog.modules[name]))
            for name in _makers(units)
        )

    def _reason(self, name: str, reasons: Mapping[str, str]) -> str:
        return f"{reasons.get(name) or self._unreached(name)} (in {self._mode} mode)"

    def left_out(self, layers: Sequence[Units], reasons: Mapping[str, str]) -> dict[str, str]:
        """Why each layer that might hold units holds none."""
        taken = {name for units in layers for name in _makers(units)}
        names = dict.fromkeys([*self.catalog.candidates(), *reasons])
        why = {name: reasons.get(name) or self._unreached(name) for name in names if name not in taken}
        return {name: reason + self._read_elsewhere(name, reason, layers) for name, reason in why.items()}

    def _read_elsewhere(self, name: str, reason: str, layers: Sequence[Units]) -> str:
        """What renewal would do to a layer that only another method than a forward calls; "" for other layers."""
        dense = self.catalog.dense(self.catalog.modules[name])
        if dense is None or not reason.endswith(_UNCALLED):
            return ""
        counts = {units.layer: units.count(self.root) for units in layers}
        same = [layer for layer, n in counts.items() if n == dense.n_in]
        before = same or [layer for layer, n in counts.items() if dense.n_in % n == 0]  # flattened, it may be
        if not before:
            return ""
        first, more = before[:3], "" if len(before) <= 3 else f" or {len(before) - 3} more"
        return (
            f"; where another method has it read the units of {' or '.join(map(repr, first))}{more}, renewing them "
            "does not set its weights on them to 0: to leave those units out, give units=[u for u in "
            f"regrow.find_units(model) if u.layer not in {first}]"
        )

    def _unreached(self, name: str) -> str:
        """Why no traced forward says anything about a layer."""
        module, failed = self.catalog.modules[name], self._regions.failed
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            return "recurrent: its units read each other"
        reason = self.catalog.unfit(module)
        if reason or self.catalog.dense(module) is None:
            return reason or f"a {type(module).__name__}, unknown here"
        reason = ""
        while name:
            called = self.catalog.calls.get(id(self.catalog.modules[name]))
            name = name.rpartition(".")[0]
            around = self.catalog.modules[name]
            if "Attention" in type(around).__name__:
                return f"projects in attention ({type(around).__name__})"
            if known_blocks.writes_to_stream(around, module):
                return "added to another tensor, as in a residual stream"
            if type(around).__module__.startswith("torch.nn") and not isinstance(around, nn.Sequential):
                return f"part of a {type(around).__name__}"
            if not called and any(region.name == name for region in self._regions.followed):
                return f"the forward of {_quoted(name)} {_UNCALLED}"
            if name == "" in failed and module is list(self.catalog.candidates().values())[-1]:
                return f"its output leaves the model, it seems: the last of what could not be followed: {failed['']}"
            if name in failed:
                reason = reason or f"the forward of {_quoted(name)} could not be followed: {failed[name]}"
        return reason or "no layer reads its output"


def maker(units: Units) -> str:
    """Name of the module with the first incoming weights."""
    return units.weight_in[0].name.rpartition(".")[0]


def _makers(units: Units | None) -> list[str]:
    return [place.name.rpartition(".")[0] for place in units.weight_in] if units is not None else []


def _quoted(name: str) -> str:
    return repr(name) if name else "the model"


def _larger(a: Units, b: Units) -> Units | None:
    """Whichever of the same units in two modes has the readers and norms of both; None if neither does."""
    for units, other in ((a, b), (b, a)):
        if set(other.weight_out) <= set(units.weight_out) and set(other.norm) <= set(units.norm):
            return units
    return None


def _hidden(catalog: Catalog, regions: Regions, shapes: Shapes) -> tuple[list[Units], dict[str, str]]:
    """Hidden units, and why other layers hold none."""
    layers: list[Units] = []
    reasons: dict[str, str] = {}
    for region in regions.followed:
        if shapes and id(region.module) not in shapes:
            inside = (layer for layer in catalog.candidates() if layer.startswith(f"{region.name}."))
            reasons |= dict.fromkeys(inside, f"the example does not call {region.name!r}")
            continue
        flow = Flow(region, catalog, shapes)
        reasons |= flow.stopped
        layers += grouping.units_of(flow, catalog, reasons)
    return _with_blocks(layers, reasons, known_blocks.hidden(catalog))


def _attention(catalog: Catalog, regions: Regions, shapes: Shapes) -> tuple[list[Units], dict[str, str]]:
    """Value channels of attention, and why other attention has none."""
    return _with_blocks([], {}, known_blocks.attention(catalog))


KINDS = {"hidden": _hidden, "attention": _attention}


def _with_blocks(
    layers: list[Units], reasons: dict[str, str], known: Iterable[known_blocks.Known]
) -> tuple[list[Units], dict[str, str]]:
    for block in known:
        if block.units is not None:
            layers.append(block.units)
        else:
            reasons[block.layer] = block.reason
    return layers, reasons
