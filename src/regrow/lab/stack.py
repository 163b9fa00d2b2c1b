"""`StackedMLP`, where it is documented."""

from .mlp.network import StackedMLP

__all__ = ["StackedMLP"]
