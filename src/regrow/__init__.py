"""Keeps neural networks able to learn: renew the least useful weights or units, a few at a time."""

from . import core, laws
from .diagnose import diagnose
from .laws import init_laws
from .maintain import SWR, ContinualBackprop, ReDo, ShrinkPerturb
from .nn import ReparamLayerNorm, reparametrize_layer_norms
from .optim import SGDW
from .wiring import Units, find_units

__version__ = "0.1.0"

__all__ = [
    "SGDW",
    "SWR",
    "ContinualBackprop",
    "ReDo",
    "ReparamLayerNorm",
    "ShrinkPerturb",
    "Units",
    "core",
    "diagnose",
    "find_units",
    "init_laws",
    "laws",
    "reparametrize_layer_norms",
]
