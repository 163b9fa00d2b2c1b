"""Maintainers: objects that keep a model plastic. `base` is what users call, `step_loop` what
happens around each update; what methods do is in `regrow.methods`."""

from ..methods import REGISTRY
from .base import Maintainer
from .front_ends import front_end

FRONT_ENDS = {row.method.__name__: front_end(row.method) for row in REGISTRY.values()}
"""The methods of the registry as classes of maintainers, by name."""

globals().update(FRONT_ENDS)

__all__ = ["FRONT_ENDS", "Maintainer", "front_end", *FRONT_ENDS]
