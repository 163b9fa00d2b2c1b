"""Group what reaches each reading layer into `Units`, one per layer."""

from collections.abc import Sequence

from .activation import activation
from .entries import Place
from .flow import Flow, Use
from .modules import Catalog
from .unit_tensor import Rows
from .units import Units, reading_of

Parts = frozenset[Rows]


def units_of(flow: Flow, catalog: Catalog, reasons: dict[str, str]) -> list[Units]:
    """The units of one region.

    Args:
        flow: of the region.
        catalog: of the model.
        reasons: why layers hold none, by name; further reasons are added.
    """
    groups: dict[Parts, list[Use]] = {}
    for use in flow.uses:
        groups.setdefault(use.run.parts, []).append(use)
    _drop_torn(groups, reasons)
    for parts, uses in groups.items():
        if len({use.run.act for use in uses}) > 1:
            different = "its readers see it through different activations"
            reasons |= dict.fromkeys((part.layer.name for part in parts), different)
    layers = []
    for parts, uses in groups.items():
        names = [part.layer.name for part in parts]
        stopped = next((name for name in names if name in reasons), None)
        if stopped is None:
            layers.append(_units(flow, catalog, parts, uses))
        else:
            for name in names:
                reasons.setdefault(name, f"forms units together with {stopped!r}: {reasons[stopped]}")
    return layers


def _drop_torn(groups: dict[Parts, list[Use]], reasons: dict[str, str]) -> None:
    """A row of a layer must belong to the same units wherever it is read."""
    rows: list[tuple[Rows, int, Parts]] = [(p, use.run.n, parts) for parts, (use, *_) in groups.items() for p in parts]
    for i, (part, n, parts) in enumerate(rows):
        for other, m, others in rows[:i]:
            if parts != others and part.layer == other.layer and _overlap(part, n, other, m):
                reasons[part.layer.name] = "its readers see it combined with different layers"


def _overlap(a: Rows, n: int, b: Rows, m: int) -> bool:
    first, second = a.start or 0, b.start or 0
    return first < second + m and second < first + n


def _units(flow: Flow, catalog: Catalog, parts: Parts, uses: Sequence[Use]) -> Units:
    order = {name: i for i, name in enumerate(catalog.modules)}
    rows = sorted(parts, key=lambda part: (order[part.layer.name], part.start or 0))
    norms = sorted(frozenset().union(*(use.run.norms for use in uses)))
    outgoing = tuple(dict.fromkeys(use.place for use in uses))
    read, axis = activation(flow, catalog, uses[0])
    fields = (
        tuple(Place(part.layer.weight, part.layer.dim_out, part.start) for part in rows),
        tuple(Place(part.layer.bias, 0, part.start) for part in rows if part.layer.bias is not None),
        tuple(norms),
        outgoing,
        read,
        outgoing[0].positions,
    )
    units = Units(*fields)
    derived = reading_of(units, catalog.root, uses[0].run.n).axis
    return units if derived == axis else Units(*fields, axis=axis)
