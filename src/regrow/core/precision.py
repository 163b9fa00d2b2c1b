"""The type to compute in: float32, so that half precision loses nothing, and float64 for float64."""

import torch
from torch import Tensor


def wide_type(x: Tensor) -> torch.dtype:
    """float64 for a float64 tensor, else float32.

    Example:
        >>> wide_type(torch.ones(1, dtype=torch.bfloat16))
        torch.float32
    """
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def wide(x: Tensor) -> Tensor:
    """The tensor in the type to compute in; itself if it has it."""
    return x.to(wide_type(x))
