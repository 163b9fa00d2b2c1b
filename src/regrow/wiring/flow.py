"""Follow hidden units through a traced forward, from the layers that make them to those that read them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from . import ops, unit_tensor
from .entries import Place
from .modules import Catalog, Dense
from .trace import Region
from .transfer import Arguments, Pieces, through_function, through_module
from .unit_tensor import Carrier, Rows, Span, Stop

Shapes = Mapping[int, tuple[tuple[int, ...], tuple[int, ...]]]
"""Shapes of a module's first input and of its output, by the module's id, where an example was run."""


BY_NATURE = (
    "added to another tensor, as in a residual stream", "frozen", "its output leaves the model", "its units are found",
    "no activation between it and", "tied: ", "projects in attention", "concatenated with another tensor, without",
)  # fmt: skip
"""How the reasons begin where a layer has no hidden units by its nature, and was not merely overlooked."""


@dataclass(frozen=True)
class Use:
    """Units arrive at a layer that reads them."""

    run: Span
    reader: Dense
    place: Place


class Flow:
    """The units of one region.

    Args:
        region: a traced module.
        catalog: of the model.
        shapes: seen in an example; empty without one.

    `uses` holds every arrival of units at a layer that reads them, `stopped` why the units of a layer (by name) are
    none, `value` what each node carries.
    """

    def __init__(self, region: Region, catalog: Catalog, shapes: Shapes) -> None:
        self.region, self._catalog, self._shapes = region, catalog, shapes
        self.value: dict[fx.Node, Carrier | Pieces | None] = {}
        self.uses: list[Use] = []
        self.stopped: dict[str, str] = {}
        self._numbers = _numbers(region.graph)
        for node in region.graph.nodes:
            try:
                self.value[node] = self._visit(node)
            except Stop as stop:
                self._stop(node, str(stop))
                self.value[node] = None
            self.value[node] = self._made(node) or self.value[node]

    def _visit(self, node: fx.Node) -> Carrier | Pieces | None:
        """What becomes of the units that a node receives."""
        if all(self.value[n] is None for n in node.all_input_nodes):
            return None
        module, name = self.region.called(node), ops.function_name(node)
        if node.op == "output":
            raise Stop(self._leaving(node))
        if name in ops.QUESTIONS:
            return None
        if name in ("cat", "concat"):
            return self._concatenated(node)
        if name == "getitem":
            value, index = (self.value.get(node.args[0]), node.args[1])  # type: ignore[arg-type]
            if isinstance(value, tuple) and isinstance(index, int):
                return value[index]
            raise Stop("indexed")
        tensors = [n for n in node.all_input_nodes if n not in self._numbers]
        if name in ops.PRODUCTS | ops.SUMS and len(tensors) > 1:
            return self._combined(node, name, tensors)
        return self._alone(node, name, module, tensors)

    def _alone(
        self, node: fx.Node, name: str, module: nn.Module | None, tensors: Sequence[fx.Node]
    ) -> Carrier | Pieces | None:
        """The result of a node whose only tensor carries units, as its first argument or after a number (2 * h)."""
        first = node.args[0] if node.args else next(iter(node.kwargs.values()), None)
        c = self.value.get(tensors[0])
        if not isinstance(c, Carrier) or len(tensors) > 1 or (first is not tensors[0] and name not in ops.COMMUTING):
            raise Stop(f"read by {self._describe(node)} together with other numbers")
        if module is not None:
            dense = self._catalog.dense(module)
            if dense is not None:
                self._read(c, dense)
                return None
            value = through_module(c, node, module, self._catalog)
        elif name in ("view", "reshape"):
            value = self._reshaped(c, node)
        else:
            value = through_function(c, node, name)
        if value is None:
            raise Stop(f"read by {self._describe(node)}, unknown here")
        return value

    def _leaving(self, node: fx.Node) -> str:
        """Why units that leave the region are none."""
        name = self.region.name
        if not name:
            return "its output leaves the model"
        runs = [run for n in node.all_input_nodes for run in _runs(self.value[n])]
        if all(run.act is None for run in runs):
            return f"no activation between it and the end of {name!r}"
        return f"its output leaves {name!r}, whose surroundings could not be followed"

    def _goes_on(self, node: fx.Node) -> bool:
        """Is a node, or what follows from it, computed with parameters? Else it is an output: probabilities, a loss."""
        seen, left, leaves = {node}, [node], False
        while left:
            node = left.pop()
            module = self.region.called(node)
            if (module is not None and any(True for _ in module.parameters())) or any(
                n.op == "get_attr" for n in node.all_input_nodes
            ):
                return True
            leaves = leaves or node.op == "output"
            left += [user for user in node.users if user not in seen]
            seen.update(node.users)
        return not leaves  # it may have been written into another tensor

    def _stop(self, node: fx.Node, reason: str) -> None:
        if not (self.region.name or reason.startswith(BY_NATURE) or self._goes_on(node)):
            reason = f"its output leaves the model: {reason}"
        for run in (run for n in node.all_input_nodes for run in _runs(self.value.get(n))):
            for part in run.parts:
                self.stopped.setdefault(part.layer.name, reason)

    def _made(self, node: fx.Node) -> Carrier | None:
        """The units that a node creates, if it calls a layer that may have some."""
        module = self.region.called(node)
        dense = None if module is None else self._catalog.dense(module)
        if dense is None:
            return None
        reason = self._catalog.unfit(dense.module)
        if reason:
            self.stopped.setdefault(dense.name, reason)
            return None
        seen = self._shapes.get(id(module))
        rank = len(seen[1]) if seen else None if dense.axis == -1 else 1 - dense.axis
        return Carrier((Span(frozenset({Rows(dense)}), dense.n_out),), dense.axis, rank)

    def _read(self, c: Carrier, reader: Dense) -> None:
        """Units arrive at a layer."""
        reason = self._catalog.unfit(reader.module)
        if reason:
            raise Stop(f"read by {reader.name!r}, which is {reason}")
        if c.axis != reader.axis:
            raise Stop(f"read by {reader.name!r} along another dimension")
        if any(run.act is None for run in c.runs):
            raise Stop(f"no activation between it and {reader.name!r}")
        if c.doubt and not self._confirmed(c, reader):
            raise Stop(c.doubt)
        places = c.places(reader.weight, reader.dim_in, reader.n_in)
        self.uses += [Use(run, reader, place) for run, place in zip(c.runs, places, strict=True)]

    def _confirmed(self, c: Carrier, reader: Dense) -> bool:
        """Did the example keep its batch size from the layers that make the units to the one that reads them?"""
        made = [self._shapes.get(id(part.layer.module)) for part in c.parts]
        read = self._shapes.get(id(reader.module))
        return read is not None and len(read[0]) == 2 and all(m is not None and m[1][0] == read[0][0] for m in made)

    def _concatenated(self, node: fx.Node) -> Carrier:
        given = Arguments(node)
        tensors = given(0, "tensors")
        values = [self.value.get(t) for t in tensors] if isinstance(tensors, (list, tuple)) else []
        carriers = [v for v in values if isinstance(v, Carrier)]
        if not carriers or len(carriers) != len(values):
            active = any(run.act is not None for c in carriers for run in c.runs)
            raise Stop("concatenated with another tensor" + ("" if active else ", without an activation"))
        return unit_tensor.concatenate(carriers, given(1, "dim", 0), node)

    def _combined(self, node: fx.Node, name: str, tensors: Sequence[fx.Node]) -> Carrier:
        """A product of units that gate each other, or a sum of functions of the very same units (x + x ** 3)."""
        total = name in ops.SUMS
        other = "added to another tensor, as in a residual stream" if total else "multiplied by another tensor"
        first, second = self.value.get(tensors[0]), self.value.get(tensors[1])
        if not isinstance(first, Carrier) or not isinstance(second, Carrier) or len(tensors) > 2:
            raise Stop(other)
        if not first.alongside(second) or (total and [r.parts for r in first.runs] != [r.parts for r in second.runs]):
            raise Stop(other)
        value = unit_tensor.product(first, second, node)
        linear = total and all(run.act is None for run in (*first.runs, *second.runs))
        return value.acted(None) if linear else value

    def _reshaped(self, c: Carrier, node: fx.Node) -> Carrier:
        sizes = Arguments(node).rest("size" if node.target == "view" else "shape")
        size = sizes[0] if sizes else None
        source = node.args[0]
        assert isinstance(source, fx.Node)
        same = isinstance(size, fx.Node) and self._origin(self._sized(size)) is self._origin(source)
        return unit_tensor.reshape(c, sizes, same)

    def _sized(self, size: fx.Node) -> fx.Node | None:
        """The tensor whose first dimension has this size: x.size(0), x.shape[0] or x.size()[0]."""
        name, (source, *index) = ops.function_name(size), size.args or (None,)
        if name == "getitem" and index == [0] and isinstance(source, fx.Node) and source.args:
            name, source = ops.function_name(source), source.args[0]
        elif name != "size" or index != [0]:
            return None
        return source if isinstance(source, fx.Node) and name in ("shape", "size") else None

    def _origin(self, node: fx.Node | None) -> fx.Node | None:
        """The tensor whose first dimension, the batch, a node still has, through steps that leave it alone."""
        while node is not None and node.args and isinstance(node.args[0], fx.Node):
            module, name = self.region.called(node), ops.function_name(node)
            kept = name in ops.LINEAR | ops.NONLINEAR | ops.POOLS or (
                name == "flatten" and Arguments(node)(1, "start_dim", 0) == 1
            )
            if not kept and (module is None or not ops.keeps_batch(module) and self._catalog.dense(module) is None):
                break
            node = node.args[0]
        return node

    def _describe(self, node: fx.Node) -> str:
        module = self.region.called(node)
        if module is not None:
            return f"{self._catalog.name(module)!r} ({type(module).__name__})"
        return f"{ops.function_name(node) or getattr(node.target, '__name__', node.target)}(…)"


def _numbers(graph: fx.Graph) -> set[fx.Node]:
    """The sizes, and what is computed from nothing but sizes and constants."""
    numbers: set[fx.Node] = set()
    for node in graph.nodes:  # in order: what a node is computed from comes before it
        plain = node.op == "call_function" and getattr(node.target, "__module__", "") in (
            "_operator",
            "math",
            "builtins",
        )
        if ops.function_name(node) in ops.QUESTIONS or (plain and numbers.issuperset(node.all_input_nodes)):
            numbers.add(node)
    return numbers


def _runs(value: Carrier | Pieces | None) -> Iterator[Span]:
    """What a node carries, unit by unit."""
    for c in value if isinstance(value, tuple) else (value,):
        yield from c.runs if c else ()
