"""The laboratory: the paper's study, run on stacks of networks."""

from . import nets

__all__ = ["nets"]
