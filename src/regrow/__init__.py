"""Keeps neural networks able to learn: at regular intervals it renews the least useful weights or units."""

import importlib
import sys
from pathlib import Path
from typing import Any

try:
    from . import core, laws, methods
    from .diagnose import diagnose, plasticity
    from .laws import init_laws
    from .maintain import FRONT_ENDS, Maintainer
    from .nn import ReparamLayerNorm, reparametrize_layer_norms
    from .optim import SGDW
    from .optimizer_state import reset_optimizer_state
    from .reinit import reinitialize
    from .wiring import Units, find_units
except KeyboardInterrupt:  # loading takes seconds: Ctrl-C on the command line ends it without a traceback
    if Path(sys.argv[0] if sys.argv else "").name not in ("regrow", "regrow.exe", "-m"):
        raise
    sys.exit(130)

__version__ = "0.1.0"

globals().update(FRONT_ENDS)  # a class for each method of the registry: SWR, ContinualBackprop, ReDo, …

__all__ = [
    *FRONT_ENDS,
    "SGDW",
    "Maintainer",
    "ReparamLayerNorm",
    "Units",
    "core",
    "diagnose",
    "find_units",
    "init_laws",
    "laws",
    "methods",
    "plasticity",
    "reinitialize",
    "reparametrize_layer_norms",
    "reset_optimizer_state",
]


def __getattr__(name: str) -> Any:
    """The laboratory, the integrations and `load`, on first use: the library does without them."""
    if name == "integrations":
        return importlib.import_module(".integrations", __name__)
    if name == "lab":
        return _laboratory(".lab")
    if name == "load":
        return _laboratory(".lab.runs.tables").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _laboratory(module: str) -> Any:
    """A module of the laboratory, which needs more than the library."""
    try:
        return importlib.import_module(module, __name__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == __name__:
            raise
        raise ModuleNotFoundError(
            f"regrow.load and regrow.lab need {error.name!r}, which is not installed: pip install 'regrow[lab]'",
            name=error.name,
        ) from error
