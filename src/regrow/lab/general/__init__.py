"""The general path: any problem with any `nn.Module`, many networks at once."""

from .lab import Lab, train
from .stack import Pass, StackedModule

__all__ = ["Lab", "Pass", "StackedModule", "train"]
