"""An activation that is no module's output, as a formula of modules' outputs: F.relu('conv1').

In a text, a quoted name stands for the output of the module of that name (except in a keyword argument, where it is
plain text), `self['act'](…)` calls a module that has no weights, and functions are those of `torch.nn.functional` (F),
`torch`, `torch.Tensor` (Tensor) and `operator`.
"""

import ast
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from . import ops
from .modules import Catalog
from .trace import Region

_HOMES: dict[str, Any] = {"F": F, "torch": torch, "Tensor": Tensor, "operator": operator}
_LONGEST = 2000  # characters: a value that is used several times is written out each time


class Output(NamedTuple):
    """The output of a module, by its place in `Formula.outputs`."""

    index: int


class Call(NamedTuple):
    """A function of `_HOMES`, or a module by its name (home "self"), and what it is called with."""

    home: str
    name: str
    args: tuple
    kwargs: tuple[tuple[str, Any], ...] = ()


class Formula(NamedTuple):
    """A parsed text.

    Args:
        root: nested calls.
        outputs: names of the modules whose outputs it takes.
        called: names of the modules that it calls.
    """

    root: Call
    outputs: tuple[str, ...]
    called: tuple[str, ...]

    def evaluate(self, outputs: Sequence[Tensor], called: Sequence[nn.Module]) -> Tensor:
        """The value for these outputs and modules, in the order of the fields `outputs` and `called`."""
        return _value(self.root, outputs, dict(zip(self.called, called, strict=True)))


def _value(x: Any, outputs: Sequence[Tensor], called: dict[str, nn.Module]) -> Any:
    if isinstance(x, Output):
        return outputs[x.index]
    if isinstance(x, Call):
        args = [_value(arg, outputs, called) for arg in x.args]
        if x.home == "self":  # by its `forward`, so that no hook runs twice; a copy, since it may work in place
            return called[x.name].forward(args[0].clone(), *args[1:])
        return getattr(_HOMES[x.home], x.name)(*args, **dict(x.kwargs))
    if isinstance(x, (tuple, list)):
        return [_value(item, outputs, called) for item in x]
    return x


def is_formula(text: str) -> bool:
    """Is this the text of a formula, and not a module's name?"""
    return text.endswith(")") and "'" in text


def parse(text: str) -> Formula:
    """Parse the text of a formula.

    Raises:
        ValueError: for any other text.

    Example:
        >>> parse("F.relu('conv1')").outputs
        ('conv1',)
    """
    outputs: dict[str, Output] = {}
    called: dict[str, None] = {}

    def read(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=str(name)):
                return outputs.setdefault(name, Output(len(outputs)))
            case ast.Call(func=ast.Attribute(value=ast.Name(id=home), attr=name)) if hasattr(_HOMES.get(home), name):
                return Call(home, name, tuple(map(read, node.args)), tuple(map(keyword, node.keywords)))
            case ast.Call(func=ast.Subscript(value=ast.Name(id="self"), slice=ast.Constant(value=str(name)))):
                called.setdefault(name)
                return Call("self", name, tuple(map(read, node.args)))
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return tuple(map(read, items))
            case ast.Attribute(value=ast.Name(id="torch"), attr=name) if isinstance(getattr(torch, name), torch.dtype):
                return getattr(torch, name)
        return ast.literal_eval(node)

    def keyword(word: ast.keyword) -> tuple[str, Any]:
        text = word.value.value if isinstance(word.value, ast.Constant) else None
        return str(word.arg), text if isinstance(text, str) else read(word.value)

    try:
        root = read(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ValueError(f"{text!r} is no formula of modules' outputs, such as \"F.relu('conv1')\": {error}") from None
    if not isinstance(root, Call) or not outputs:
        raise ValueError(f"{text!r} must call a function on a module's output, as \"F.relu('conv1')\" does")
    return Formula(root, tuple(outputs), tuple(called))


def write(node: fx.Node, region: Region, catalog: Catalog, carries: Callable[[fx.Node], bool]) -> str | None:
    """The value of a node as a formula of outputs of modules that are called once.

    Args:
        node: of the region's graph.
        region, catalog: of the model.
        carries: does a node carry units?

    Returns:
        Its text. None where the value cannot be recomputed: it depends on random numbers, on sizes or on tensors that
        are no module's output.
    """
    text = _text(node, _Writer(region, catalog, carries))
    return None if text is None or len(text) > _LONGEST else text


class _Writer(NamedTuple):
    region: Region
    catalog: Catalog
    carries: Callable[[fx.Node], bool]


def _text(x: Any, writer: _Writer) -> str | None:
    if not isinstance(x, fx.Node):
        items = [_text(item, writer) for item in x] if isinstance(x, (tuple, list)) else None
        if items is None:
            return _literal(x)
        return None if None in items else f"[{', '.join(items)}]"  # type: ignore[arg-type]
    if not writer.carries(x):
        return None
    module = writer.region.called(x)
    if module is not None and writer.catalog.once(module):
        return repr(writer.catalog.name(module))
    function = _callee(x, module, writer.catalog)
    if function is None:
        return None
    args, kwargs = _in_new_memory(x)
    texts = [_text(arg, writer) for arg in args]
    named = {key: repr(arg) if isinstance(arg, str) else _literal(arg) for key, arg in kwargs.items()}
    if None in texts or None in named.values() or sum(len(t or "") for t in texts) > _LONGEST:
        return None
    return f"{function}({', '.join([*texts, *(f'{k}={t}' for k, t in named.items())])})"  # type: ignore[list-item]


def _literal(x: Any) -> str | None:
    """A constant as text; None for anything else."""
    if isinstance(x, (tuple, list)):
        items = [_literal(item) for item in x]
        return None if None in items else f"[{', '.join(items)}]"  # type: ignore[arg-type]
    plain = isinstance(x, (bool, int, float, type(None), torch.dtype)) and x not in (float("inf"), float("-inf"))
    return repr(x) if plain and x == x else None


def _callee(node: fx.Node, module: nn.Module | None, catalog: Catalog) -> str | None:
    """What a node calls, as a formula writes it: "F.relu", "Tensor.view", "self['act']".

    None if it cannot be computed again: the module has parameters or buffers, or is neither an activation, a pool,
    identity nor flatten; it draws random numbers; or it is none of the functions in `_HOMES`.
    """
    if module is not None:
        own = [*module.parameters(), *module.buffers()]
        again = ops.is_activation(module) or isinstance(module, (nn.Identity, nn.Flatten, *ops.POOL_MODULES))
        return f"self[{catalog.name(module)!r}]" if again and not own and not isinstance(module, nn.RReLU) else None
    name = ops.function_name(node)
    if not name or "dropout" in name or name == "rrelu":
        return None
    if node.op == "call_method":
        return f"Tensor.{name}" if hasattr(Tensor, name) else None
    for home, namespace in _HOMES.items():
        if getattr(namespace, node.target.__name__, None) is node.target:  # type: ignore[union-attr]
            outside = node.target.__name__ if home == "F" else name.removeprefix("i") if name in _IN_PLACE else name  # type: ignore[union-attr]
            return f"{home}.{outside.rstrip('_') if hasattr(namespace, outside.rstrip('_')) else outside}"
    return None


_IN_PLACE = frozenset({"iadd", "isub", "imul", "itruediv"})


def _in_new_memory(node: fx.Node) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a node, with `inplace` off."""
    args, kwargs = list(node.args), dict(node.kwargs)
    kwargs.pop("inplace", None)
    if not args and "input" in kwargs:
        args = [kwargs.pop("input")]
    if node.op == "call_function":
        try:
            names = list(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
        except (TypeError, ValueError):  # a function of torch's that is written in C++
            names = []
        at = names.index("inplace") if "inplace" in names else len(args)
        args[at : at + 1] = [False] if at < len(args) else []
    return tuple(args), kwargs
