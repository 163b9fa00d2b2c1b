"""Graphs of a model's forward: of the whole model where torch.fx can trace it, otherwise of its parts."""

import dis
import inspect
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd

from .kept import containers_kept
from .known_forwards import known_forward
from .modules import Catalog
from .ops import CHANNEL_NORMS, LAYER_NORMS, is_conv1d


@dataclass(frozen=True)
class Region:
    """A module whose forward could be followed, and its graph.

    Args:
        name: canonical name of the module.
        module: the module.
        graph: of its forward.
        root: what the graph's names start from: the module, or what stands for it.
    """

    name: str
    module: nn.Module
    graph: fx.Graph
    root: nn.Module

    def called(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls."""
        return self.root.get_submodule(str(node.target)) if node.op == "call_module" else None


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # else `self.count += 1` would count while tracing

    def __init__(self, opaque: set[int]) -> None:
        super().__init__()
        self._opaque = opaque

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kinds = (nn.Linear, _ConvNd, *LAYER_NORMS, *CHANNEL_NORMS)
        return (
            super().is_leaf_module(m, module_qualified_name)
            or id(m) in self._opaque
            or isinstance(m, kinds)
            or is_conv1d(m)
        )

    def call_module(self, m: nn.Module, forward: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        if hasattr(m, "_orig_mod"):  # a compiled part: follow what was compiled
            return m._orig_mod(*args, **kwargs)  # type: ignore[operator]
        # Not `forward`, which would run the module's hooks, and its compiled form if it has one.
        return super().call_module(m, m.forward, args, kwargs)

    def to_bool(self, obj: fx.Proxy) -> bool:
        if _asserted(inspect.currentframe()):
            return True  # what a forward asserts of its input holds
        return super().to_bool(obj)

    def keys(self, obj: fx.Proxy) -> Any:
        return iter(()) if obj.node.op == "placeholder" and str(obj.node.target).startswith("**") else super().keys(obj)


class Regions:
    """The largest parts of a model whose forwards can be followed.

    Args:
        catalog: of the model.
        training: follow what runs in training mode, or in evaluation mode; whatever mode the model is in.

    `followed` holds them; `failed` says of each other module, by name, why it could not be followed. A part within a
    module that could not be followed is treated as one call.
    """

    def __init__(self, catalog: Catalog, training: bool = True) -> None:
        self._catalog, self._training = catalog, training
        self._opaque: set[int] = set()
        self.failed: dict[str, str] = {}
        self.followed = list({id(region.module): region for region in self._explore(catalog.root)}.values())
        for region in self.followed:
            self._record_uses(region)

    def _explore(self, module: nn.Module) -> Iterator[Region]:
        """The regions within a module; it becomes opaque where it is none itself."""
        module = getattr(module, "_orig_mod", module)
        name = self._catalog.name(module)
        known = known_forward(module)
        root = module if known is None else known
        graph = self._trace(root)
        if isinstance(graph, fx.Graph):
            if known is not None:  # what calls it cannot follow it
                self._opaque.add(id(module))
            yield Region(name, module, graph, root)
            return
        before = set(self._opaque)
        inner = [region for child in module.children() for region in self._explore_once(child)]
        if self._opaque != before:  # once more, around the parts that turned out opaque
            again = self._trace(root)
            if isinstance(again, fx.Graph):
                covered = {id(root.get_submodule(str(n.target))) for n in again.nodes if n.op == "call_module"}
                yield Region(name, module, again, root)
                yield from (r for r in inner if self._within(r, self._opaque & covered))
                return
        self._opaque.add(id(module))
        self.failed[name] = graph
        yield from inner

    def _explore_once(self, child: nn.Module) -> Iterator[Region]:
        if id(child) not in self._opaque and any(True for _ in child.children()):
            yield from self._explore(child)

    def _within(self, region: Region, opaque: set[int]) -> bool:
        """Is a region inside one of these modules?"""
        around = (module for module in self._catalog.modules.values() if id(module) in opaque)
        return any(region.module is inner for module in around for inner in module.modules())

    def _trace(self, module: nn.Module) -> fx.Graph | str:
        """The graph of a module's forward, or why there is none."""
        if isinstance(module, torch.jit.ScriptModule):
            return "it is a script"
        if type(module).forward is nn.Module.forward:  # lists of modules have no forward
            return f"{type(module).__name__} has no forward"
        plain = [m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule)]
        drawn = random.getstate(), np.random.get_state()
        try:
            # A forward may store what it sees: as an attribute, or in a list or dict that is one.
            with containers_kept(plain), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore")
                for m in plain:
                    m.training = self._training
                return _Tracer(self._opaque).trace(module, concrete_args=_defaults(module))
        except Exception as error:  # anything a forward may do with what is no tensor
            text = str(error).strip().split("\n")[0].split(". ")[0]
            return f"{type(error).__name__}: {text}" if text else type(error).__name__
        finally:
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])

    @property
    def outline(self) -> object:
        """What was followed, without constants: equal for two modes if the forwards are of one structure."""
        return [(region.name, _outline(region.graph)) for region in self.followed], sorted(self.failed)

    def follows(self, name: str) -> bool:
        """Does a traced forward cover this module, whether it calls it or not?"""
        followed = {region.name for region in self.followed}
        while name not in followed and name not in self.failed and name:
            name = name.rpartition(".")[0]
        return name in followed

    def _record_uses(self, region: Region) -> None:
        """Record how often each module is called, and which parameters and buffers are used outside their module."""
        for node in region.graph.nodes:
            called = region.called(node)
            if called is not None:
                self._catalog.calls[id(called)] = self._catalog.calls.get(id(called), 0) + 1
            elif node.op == "get_attr":
                holder, _, attribute = str(node.target).rpartition(".")
                value = getattr(region.root.get_submodule(holder), attribute, None)
                self._catalog.touched[id(value)] = f"the forward of {region.name or type(region.module).__name__}"


def _outline(graph: fx.Graph) -> list[tuple]:
    index = {node: i for i, node in enumerate(graph.nodes)}
    return [(n.op, str(n.target), [index[source] for source in n.all_input_nodes]) for n in graph.nodes]


def _defaults(module: nn.Module) -> dict[str, Any] | None:
    """The arguments of a forward that are taken at their defaults, since it may branch on them."""
    parameters = inspect.signature(module.forward).parameters.values()
    plain = (bool, int, float, str, type(None))
    return {p.name: p.default for p in parameters if isinstance(p.default, plain)} or None


def _asserted(frame: FrameType | None) -> bool:
    """Is the truth that is asked for, two calls up from this frame, that of an assert statement?"""
    for _ in range(2):
        frame = frame and frame.f_back
    if frame is None:
        return False
    idle = ("CACHE", "COMPARE_OP", "NOT_TAKEN", "TO_BOOL")
    after = (i for i in dis.get_instructions(frame.f_code) if i.offset >= frame.f_lasti and i.opname not in idle)
    jump, target = next(after), next(after, None)  # an assert jumps over its error if the condition holds
    raises = target is not None and (target.opname == "LOAD_ASSERTION_ERROR" or target.argval is AssertionError)
    return raises and "IF_TRUE" in jump.opname
