"""Shrink the weights, and perturb them."""

import torch
from torch import Tensor


def scale_(tensors: list[Tensor], factor: float | Tensor) -> None:
    """Multiply tensors by a number, in place and rounded once.

    w <- factor * w

    Args:
        tensors: of any shapes, on one device; changed.
        factor: a number, or a tensor of one element.

    Example:
        >>> import torch
        >>> w = torch.ones(2)
        >>> scale_([w], 0.5)
        >>> w
        tensor([0.5000, 0.5000])
    """
    if not isinstance(factor, Tensor) and any(w.dtype.itemsize == 2 for w in tensors):
        # Where foreach has no kernel, a number is rounded to the tensors' type first (0.999 is 1 in bfloat16).
        factor = torch.tensor(factor, device="cpu")
    torch._foreach_mul_(tensors, factor)  # type: ignore[reportPrivateImportUsage]


def shrink(w: Tensor, rate: float | Tensor) -> Tensor:
    """Decoupled decay.

    w' = (1 - rate) * w

    Args:
        w: weights, of shape (*members, *entries).
        rate: share lost at each update, in [0, 1]; a number or a tensor that broadcasts against `w`.

    Returns:
        A new tensor like `w`.

    Example:
        >>> import torch
        >>> shrink(torch.tensor([2.0]), 0.25)
        tensor([1.5000])

    Reference:
        Hernandez-Garcia et al. 2025, section 3, the L2 baseline.
    """
    return w * (1 - rate)


def perturb(w: Tensor, standard_normal: Tensor, variance: float | Tensor) -> Tensor:
    """Add normal noise.

    w' = w + sqrt(variance) * z,  z ~ Normal(0, 1)

    Args:
        w: weights, of shape (*members, *entries).
        standard_normal: z, of the same shape.
        variance: >= 0; a number or a tensor that broadcasts against `w`.

    Returns:
        A new tensor like `w`.

    Example:
        >>> import torch
        >>> perturb(torch.tensor([2.0]), torch.tensor([1.0]), 0.25)
        tensor([2.5000])

    Reference:
        Ash & Adams 2020; Hernandez-Garcia et al. 2025, section 3, shrink and perturb.
    """
    return w + (variance**0.5 * standard_normal).to(w.dtype)
