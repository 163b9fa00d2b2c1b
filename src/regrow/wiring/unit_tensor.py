"""A tensor in a traced forward that carries hidden units: along which axis, and in which order.

Axes are counted from the end, so that they hold for any number of leading dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import fx

from .entries import Place
from .modules import Dense

ASK = "give an example_input"


class Stop(Exception):
    """The units end here; the reason is the text."""


class Rows(NamedTuple):
    """Rows start, start + 1, … of a layer; all of them where start is None."""

    layer: Dense
    start: int | None = None


@dataclass(frozen=True)
class Span:
    """n units side by side.

    Args:
        parts: the rows that together form the units: several for gated ones.
        n: number of units.
        act: the node of the last nonlinearity that they went through.
        norms: places in the norms that they went through.
    """

    parts: frozenset[Rows]
    n: int
    act: fx.Node | None = None
    norms: frozenset[Place] = frozenset()


@dataclass(frozen=True)
class Carrier:
    """What is known of one tensor.

    Args:
        runs: the units along the axis, in order; more than one after a concatenation.
        axis: of the units, < 0.
        rank: number of dimensions, where known.
        flat: "minor" where later dimensions were flattened into the axis (positions of a unit side by side), "major"
            where earlier ones were (positions n apart), else "".
        single: True where every dimension after the axis has size 1.
        doubt: what has been assumed and only an example can confirm.
    """

    runs: tuple[Span, ...]
    axis: int
    rank: int | None = None
    flat: str = ""
    single: bool = False
    doubt: str = ""

    @property
    def total(self) -> int:
        """Units along the axis."""
        return sum(run.n for run in self.runs)

    @property
    def parts(self) -> frozenset[Rows]:
        return frozenset().union(*(run.parts for run in self.runs))

    def alongside(self, other: "Carrier") -> bool:
        """Do as many units lie in the same order along the same axis?"""
        return (self.axis, self.flat, [r.n for r in self.runs]) == (other.axis, other.flat, [r.n for r in other.runs])

    def acted(self, node: fx.Node | None) -> "Carrier":
        """After a nonlinearity."""
        return replace(self, runs=tuple(replace(run, act=node) for run in self.runs))

    def normed(self, name: str, dim: int, width: int) -> "Carrier":
        """After a norm whose parameter has `width` entries along `dim`."""
        places = self.places(name, dim, width)
        runs = (replace(r, norms=r.norms | {p}) for r, p in zip(self.runs, places, strict=True))
        return replace(self, runs=tuple(runs))

    def places(self, name: str, dim: int, width: int) -> list[Place]:
        """The place of each run in a parameter with `width` entries along the dimension that meets the axis."""
        positions, rest = divmod(width, self.total)
        if rest or positions < 1 or (positions > 1 and not self.flat):
            raise Stop(f"its {self.total} units meet {width} entries of {name}")
        alone = len(self.runs) == 1
        if self.flat == "major" and positions > 1 and not alone:
            raise Stop(f"its units are interleaved with others in {name}")
        places, at = [], 0
        for run in self.runs:
            stride = run.n if self.flat == "major" and positions > 1 else 1
            places.append(Place(name, dim, None if alone else at * positions, positions, stride))
            at += run.n
        return places

    def dim(self, dim: Any) -> int:
        """A dimension, counted from the end."""
        if not isinstance(dim, int):
            raise Stop("a dimension is computed in the forward")
        if dim < 0:
            return dim
        if self.rank is None:
            raise Stop(f"dimension {dim} of a tensor with an unknown number of dimensions: {ASK}")
        return dim - self.rank


def product(a: Carrier, b: Carrier, node: fx.Node) -> Carrier:
    """Units that lie alongside each other and become one."""
    runs = (Span(r.parts | s.parts, r.n, node, r.norms | s.norms) for r, s in zip(a.runs, b.runs, strict=True))
    rank = a.rank if a.rank == b.rank else None
    return replace(a, runs=tuple(runs), rank=rank, doubt=a.doubt or b.doubt, single=a.single and b.single)


def concatenate(carriers: Sequence[Carrier], dim: Any, node: fx.Node) -> Carrier:
    """Units side by side."""
    first = carriers[0]
    if any((c.axis, c.flat, c.doubt) != (first.axis, "", "") for c in carriers) or first.dim(dim) != first.axis:
        raise Stop("concatenated with another tensor")
    runs = [run for c in carriers for run in c.runs]
    twice = {part for i, run in enumerate(runs) for other in runs[:i] for part in run.parts & other.parts}
    # Units that appear twice (CReLU) have their activation here, where both halves are.
    runs = [replace(run, act=node) if run.act and run.parts & twice else run for run in runs]
    return replace(first, runs=tuple(runs), single=all(c.single for c in carriers))


def pieces(c: Carrier, sizes: Any, dim: Any, node: fx.Node, count: bool = False) -> tuple[Carrier, ...]:
    """A tensor cut along the axis of its units, into `sizes` pieces (count) or pieces of these sizes."""
    if len(c.runs) != 1 or c.flat or c.dim(dim) != c.axis:
        raise Stop("cut into pieces")
    run = c.runs[0]
    if isinstance(sizes, int):
        sizes = -(-run.n // sizes) if count else sizes
        sizes = [min(sizes, run.n - at) for at in range(0, run.n, sizes)]
    if not isinstance(sizes, (list, tuple)) or not all(isinstance(size, int) for size in sizes) or sum(sizes) != run.n:
        raise Stop("cut into pieces of unknown sizes")
    cut, at = [], 0
    for size in sizes:
        parts = frozenset(Rows(p.layer, (p.start or 0) + at) for p in run.parts)
        norms = frozenset(p._replace(start=(p.start or 0) + at) for p in run.norms)
        cut.append(replace(c, runs=(Span(parts, size, run.act and node, norms),)))
        at += size
    return tuple(cut)


def flatten(c: Carrier, start: Any, end: Any) -> Carrier:
    """Dimensions start … end become one."""
    if c.rank is None and (start, end) == (1, -1) and c.axis == -1:
        return replace(c, rank=2, flat="major")  # nothing to flatten if there were two dimensions
    start, end = c.dim(start), c.dim(end)
    rank = None if c.rank is None else c.rank - (end - start)
    if end < c.axis:
        return replace(c, rank=rank)
    if start > c.axis:
        return replace(c, rank=rank, axis=c.axis + (end - start))
    if end != -1 or (start < c.axis != -1 and not c.single) or c.flat and start != end:
        raise Stop("its positions are flattened in an order that mixes units")
    if start < c.axis:
        flat = "major"
    else:
        flat = c.flat or ("minor" if c.axis < -1 and not c.single else "")
    return replace(c, rank=rank, axis=-1, flat=flat)


def permute(c: Carrier, dims: Sequence[Any]) -> Carrier:
    """Dimensions in a new order, all of them given."""
    c = replace(c, rank=len(dims))
    order = [c.dim(d) for d in dims]
    return replace(c, axis=order.index(c.axis) - len(dims), single=False)


def transpose(c: Carrier, a: Any, b: Any) -> Carrier:
    """Two dimensions exchanged."""
    a, b = c.dim(a), c.dim(b)
    return replace(c, axis=b if c.axis == a else a if c.axis == b else c.axis, single=False)


def reduce(c: Carrier, dims: Any, keep: bool) -> Carrier:
    """A sum, mean or maximum over some dimensions."""
    dims = [dims] if isinstance(dims, int) else dims
    dims = [c.dim(d) for d in dims] if isinstance(dims, (list, tuple)) else []
    if not dims or c.axis in dims or c.flat:
        raise Stop("reduced over its units")
    later = [d for d in dims if d > c.axis]
    single = c.single or len(later) == -1 - c.axis
    if keep:
        return replace(c, single=single)
    rank = None if c.rank is None else c.rank - len(dims)
    return replace(c, rank=rank, axis=c.axis + len(later), single=single)


def squeeze(c: Carrier, dims: Sequence[Any]) -> Carrier:
    """Dimensions of size 1 dropped: those after the axis, which are known to be."""
    if not c.single:
        raise Stop("squeezed, of unknown sizes")
    rank = c.rank - len(dims) if c.rank and dims else None  # without `dims` earlier ones may go too
    dims = [c.dim(d) for d in dims] or list(range(c.axis + 1, 0))
    if any(d <= c.axis for d in dims):
        raise Stop("squeezed, of unknown sizes")
    return replace(c, axis=c.axis + len(dims), rank=rank)


def reshape(c: Carrier, sizes: Sequence[Any], same_batch: bool) -> Carrier:
    """A new shape: rows kept as they are, or everything but the batch flattened.

    Args:
        c: what is reshaped.
        sizes: the new shape, numbers and nodes.
        same_batch: the first of them is the size of the first dimension.
    """
    if sizes and sizes[-1] == c.total and c.axis == -1 and not c.flat:
        return replace(c, rank=len(sizes))
    if len(sizes) != 2 or c.flat and c.axis != -1:
        raise Stop("reshaped")
    flat = flatten(c, 1, -1)
    if same_batch:
        return flat
    return replace(flat, doubt=f"reshaped to ({', '.join(map(str, sizes))}), which may mix examples: {ASK}")
