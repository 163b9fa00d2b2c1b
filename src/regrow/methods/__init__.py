"""Methods that keep a network plastic, one per file, each written once for any number of networks.

A method is a frozen dataclass of knobs with `act(members)`, which decides by masks what becomes new. The library calls
it with a model as a network of one member, the laboratory with stacks of hundreds. `Method` says how to write one's
own.
"""

# ruff: noqa: F401  (what is not listed below is for the rest of regrow)

from .cbp import ContinualBackprop
from .counters import Counters
from .dates import Dates
from .knobs import Knob, choice, each, flag, from_config, knobs_of, number, per_member, policy, whole
from .members import Members
from .method import Method
from .module_network import ModuleNetwork
from .network import Choice, HiddenUnits, Lookup, Network
from .redo import ReDo
from .registry import REGISTRY, Row
from .selection import Selected, Wanted
from .sharded import network_of
from .shrink_perturb import ShrinkPerturb
from .stacked import StackedMethod
from .swr import SWR

globals().update({row.method.__name__: row.method for row in REGISTRY.values()})

__all__ = [
    "REGISTRY",
    "Members",
    "Method",
    "ModuleNetwork",
    "Network",
    "StackedMethod",
    "Wanted",
    "choice",
    "flag",
    "from_config",
    "number",
    "per_member",
    "policy",
    "whole",
]
