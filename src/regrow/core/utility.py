"""How useful is each entry? Low utility is renewed first.

Every function takes entries of any shape and any leading member axes and returns float32 (float64 for float64):
in float16 a fifth of the products |w g| of a trained network would underflow to 0.
"""

from torch import Tensor

from .precision import wide, wide_type


def gradient(w: Tensor, g: Tensor) -> Tensor:
    """First-order estimate of how much the loss would change if an entry were zero.

    U = |w * g|

    Args:
        w: weights after the update, any shape, real floating point.
        g: gradient that the update used, of the same shape.

    Returns:
        Utility >= 0, float32 (float64 where w or g is), of the same shape.

    Example:
        >>> import torch
        >>> gradient(torch.tensor([2.0, -3.0]), torch.tensor([0.5, 0.0]))
        tensor([1., 0.])

    Reference:
        Hernandez-Garcia et al. 2025, section 3, "gradient utility".
    """
    return (wide(w) * wide(g)).abs_()


def magnitude(w: Tensor) -> Tensor:
    """Magnitude of each entry.

    U = |w|

    Args:
        w: weights after the update, any shape, real floating point.

    Returns:
        Utility >= 0, float32 (float64 for float64), of the same shape.

    Example:
        >>> import torch
        >>> magnitude(torch.tensor([2.0, -3.0]))
        tensor([2., 3.])

    Reference:
        Hernandez-Garcia et al. 2025, section 3, "magnitude utility".
    """
    return wide(w).abs()


def random(w: Tensor, uniform: Tensor) -> Tensor:
    """A control that ignores the network: utility is noise.

    U ~ Uniform(0, 1)

    Args:
        w: weights, for their shape.
        uniform: random numbers in [0, 1) of the same shape.

    Returns:
        Utility in [0, 1), float32 (float64 where w is), of the same shape.

    Raises:
        ValueError: where the shapes differ.

    Example:
        >>> import torch
        >>> random(torch.zeros(2), torch.tensor([0.25, 0.5]))
        tensor([0.2500, 0.5000])

    Reference:
        In the authors' code, not in the paper.
    """
    if uniform.shape != w.shape:
        raise ValueError(f"`uniform` must have the shape of `w`, {tuple(w.shape)}; got {tuple(uniform.shape)}")
    return uniform.to(wide_type(w))


def activation(total: Tensor, count: Tensor | int) -> Tensor:
    """How strongly a unit fires.

    U_i = sum |h_i| / count

    Args:
        total: sum of |h_i| over the examples and positions of a batch, of shape (*members, units), >= 0.
        count: number of examples times positions summed over, > 0; a number, or a tensor of shape (*members, 1).

    Returns:
        Utility >= 0, of the shape of `total`.

    Example:
        >>> import torch
        >>> activation(torch.tensor([6.0, 0.0]), 3)
        tensor([2., 0.])

    Reference:
        Sokar et al. 2023 (ReDo); Hernandez-Garcia et al. 2025, section 4.
    """
    return wide(total) / count


def unit_magnitude(outgoing: Tensor) -> Tensor:
    """Mean magnitude of a unit's outgoing weights.

    U_i = mean_j |w_out[i, j]|, j over the fan_out outgoing weights of unit i

    Args:
        outgoing: of shape (*members, units, fan_out).

    Returns:
        Utility >= 0, of shape (*members, units).

    Example:
        >>> import torch
        >>> unit_magnitude(torch.tensor([[1.0, -3.0], [0.0, 0.0]]))
        tensor([2., 0.])

    Reference:
        Hernandez-Garcia et al. 2025, the authors' code.
    """
    return wide(outgoing).abs().mean(-1)


def contribution(total: Tensor, count: Tensor | int, outgoing: Tensor) -> Tensor:
    """How much a unit passes on.

    U_i = (sum |h_i| / count) * (mean over outgoing weights of |w_out|)

    Args:
        total: sum of |h_i|, of shape (*members, units).
        count: number of summands, as for `activation`.
        outgoing: of shape (*members, units, fan_out).

    Returns:
        Utility >= 0, of shape (*members, units).

    Example:
        >>> import torch
        >>> contribution(torch.tensor([6.0, 3.0]), 3, torch.tensor([[1.0, -3.0], [0.0, 0.0]]))
        tensor([4., 0.])

    Reference:
        Dohare et al. 2024; Hernandez-Garcia et al. 2025, section 4: the present batch only.
    """
    return activation(total, count) * unit_magnitude(outgoing)


def contribution_by_position(total: Tensor, count: Tensor | int, outgoing: Tensor) -> Tensor:
    """How much a unit passes on, position by position, where a feature map is flattened into a linear layer.

    U_i = mean over outgoing weights of (sum |h_i| at the position that the weight reads / count) * |w_out|

    Where all outgoing weights read the same sum it is `contribution`. Where a unit owns one weight for each position,
    `contribution` multiplies two means and this averages products: large weights on quiet positions count for little.

    Args:
        total: sum of |h_i| at the position of each outgoing weight, of shape (*members, units, fan_out).
        count: number of summands of each, > 0; a number, or a tensor that broadcasts with `total`.
        outgoing: of shape (*members, units, fan_out).

    Returns:
        Utility >= 0, of shape (*members, units).

    Example:
        >>> import torch
        >>> h, w = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 3.0]])  # one unit, two positions
        >>> contribution_by_position(h, 2, w), contribution(h.sum(-1), 4, w)
        (tensor([0.]), tensor([1.5000]))

    Reference:
        Dohare et al. 2024, the authors' code for convolutional networks (lop, ConvGnT).
    """
    return (activation(total, count) * wide(outgoing).abs()).mean(-1)


def unit_gradient(outgoing: Tensor, gradient: Tensor) -> Tensor:
    """First-order estimate of how much the loss would change without the unit.

    U_i = |sum over outgoing weights of w_out * g_out|

    Args:
        outgoing: of shape (*members, units, fan_out).
        gradient: of the same shape.

    Returns:
        Utility >= 0, of shape (*members, units).

    Example:
        >>> import torch
        >>> unit_gradient(torch.tensor([[1.0, -3.0]]), torch.tensor([[2.0, 1.0]]))
        tensor([1.])

    Reference:
        Hernandez-Garcia et al. 2025, the authors' code.
    """
    return (wide(outgoing) * wide(gradient)).sum(-1).abs()
