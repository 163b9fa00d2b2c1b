"""Keeps neural networks able to learn: renew the least useful weights or units, a few at a time."""

import importlib
import sys
from pathlib import Path
from typing import Any

try:
    from . import core, laws
    from .diagnose import diagnose
    from .laws import init_laws
    from .maintain import SWR, ContinualBackprop, ReDo, ShrinkPerturb
    from .nn import ReparamLayerNorm, reparametrize_layer_norms
    from .optim import SGDW
    from .wiring import Units, find_units
except KeyboardInterrupt:  # loading takes seconds: Ctrl-C on the command line ends it without a traceback
    if Path(sys.argv[0] if sys.argv else "").name not in ("regrow", "regrow.exe", "-m"):
        raise
    sys.exit(130)

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


def __getattr__(name: str) -> Any:
    """The laboratory and `load`, on first use: the library does without them."""
    if name == "lab":
        return importlib.import_module(".lab", __name__)
    if name == "load":
        return importlib.import_module(".lab.runs.tables", __name__).load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
