"""The networks of the paper, as ordinary modules that declare their laws."""

from .mlp import MLP
from .vit import ViT

__all__ = ["MLP", "ViT"]
