"""Where is the activation of some units read? At the output of their last nonlinearity, however it is written."""

from collections.abc import Callable

from torch import fx, nn

from . import formula, ops
from .flow import Flow, Use
from .modules import Catalog
from .unit_tensor import Carrier, Rows

Parts = frozenset[Rows]

_AS_IT_IS = frozenset(
    "cat chunk clone concat contiguous detach flatten getitem permute reshape split squeeze swapaxes transpose "
    "unflatten unsqueeze view".split()
)
"""Functions that keep every value and may only reorder them."""


def activation(flow: Flow, catalog: Catalog, use: Use) -> tuple[str, int]:
    """The text for `Units.activation`, and the axis of the units there.

    The first of these that exists: the nonlinearity itself, if it is a module used for these units only; a module that
    receives its output unchanged; a formula of modules' outputs; a module that receives it pooled, scaled or with
    dropout. The last is the fallback where the value cannot be recomputed because it depends on random numbers.
    """
    act = _holder(flow, use)
    module, c = flow.region.called(act), flow.value[act]
    if module is not None and catalog.once(module) and isinstance(c, Carrier) and _plain(c):
        return catalog.name(module), c.axis

    def as_it_is(node: fx.Node) -> bool:
        passed = flow.region.called(node)
        return ops.function_name(node) in _AS_IT_IS or isinstance(passed, (nn.Flatten, nn.Identity))

    read = (
        _receiver(flow, catalog, act, use, as_it_is)
        or _formula(flow, catalog, act, use.run.parts)
        or _receiver(flow, catalog, act, use, lambda node: True)
    )
    assert read is not None, f"no module reads {use.place.name!r}"
    return read


def _holder(flow: Flow, use: Use) -> fx.Node:
    """The node that holds the activation: the last nonlinearity, or the piece of it that these units are."""
    act = use.run.act
    assert act is not None
    pieces = act.users if isinstance(flow.value[act], tuple) else ()
    return next((node for node in pieces if _carried(flow.value[node], use)), act)


def _carried(c: object, use: Use) -> bool:
    """Are the units among those that a tensor carries, with no nonlinearity since?"""
    return isinstance(c, Carrier) and any(run.parts == use.run.parts and run.act is use.run.act for run in c.runs)


def _receiver(
    flow: Flow, catalog: Catalog, act: fx.Node, use: Use, passes: Callable[[fx.Node], bool]
) -> tuple[str, int] | None:
    """The first module that receives the units, through nodes that pass them on."""
    reached: dict[fx.Node, Carrier | None] = {act: c if isinstance(c := flow.value[act], Carrier) else None}
    for node in flow.region.graph.nodes:
        source = next((n for n in node.all_input_nodes if n in reached), None)
        if source is None or node is act:
            continue
        module, c = flow.region.called(node), reached[source]
        if module is not None and catalog.once(module) and c is not None:
            if _plain(c) or _carried(c, use) and catalog.dense(module) is not None:
                return f"input of {catalog.name(module)}", c.axis
        c = flow.value[node]
        if passes(node) and isinstance(c, Carrier) and _carried(c, use):
            reached[node] = c
    return None


def _formula(flow: Flow, catalog: Catalog, act: fx.Node, parts: Parts) -> tuple[str, int] | None:
    """The value as a formula, cut down to these units."""
    c = flow.value[act]
    if not isinstance(c, Carrier):
        return None
    text = formula.write(act, flow.region, catalog, lambda node: flow.value[node] is not None)
    at = [i for i, run in enumerate(c.runs) if run.parts == parts]
    if text is None or len(at) != 1:
        return None
    axis, n = c.axis, c.runs[at[0]].n
    if c.flat == "major":
        if len(c.runs) > 1:
            return None
        text = f"Tensor.unflatten({text}, -1, [-1, {n}])"
    elif len(c.runs) > 1:
        if c.flat:
            return None
        text = f"torch.narrow({text}, {axis}, {sum(run.n for run in c.runs[: at[0]])}, {n})"
    return (text, axis) if formula.is_formula(text) else None


def _plain(c: Carrier) -> bool:
    """The axis holds these units alone, in order."""
    return len(c.runs) == 1 and c.flat != "major"
