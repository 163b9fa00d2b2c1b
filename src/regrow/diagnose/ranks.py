"""How many directions does a matrix occupy? Computed from its singular values."""

import torch
from torch import Tensor


def stable_rank(singular: Tensor) -> Tensor:
    """||A||_F^2 / ||A||_2^2; 0 for a matrix of zeros.

    Args:
        singular: singular values of A in descending order, of shape (*members, k).

    Returns:
        Of shape (*members,), in [1, k] or 0.

    Example:
        >>> stable_rank(torch.tensor([2.0, 1.0, 1.0]))
        tensor(1.5000)

    Reference:
        Rudelson & Vershynin 2007.
    """
    largest = singular[..., :1]
    return torch.where(largest == 0, 0.0, singular / largest).square().sum(-1)


def rank99(singular: Tensor) -> Tensor:
    """Smallest number of singular values, not squared, whose sum is 99 % of the sum of all; 0 for a matrix of zeros.

    Args:
        singular: singular values in descending order, of shape (*members, k).

    Returns:
        int64 of shape (*members,), in [0, k].

    Example:
        >>> rank99(torch.tensor([90.0, 9.0, 1.0]))
        tensor(2)

    Reference:
        Kumar et al. 2021, section 3; Hernandez-Garcia et al. 2025, appendix C ("stable rank").
    """
    total = singular.sum(-1, keepdim=True)
    short = torch.count_nonzero(singular.cumsum(-1) < 0.99 * total, dim=-1)
    return torch.where(total.squeeze(-1) > 0, short + 1, 0)


def effective_rank(singular: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values; 0 for a matrix of zeros.

    Args:
        singular: singular values, of shape (*members, k).

    Returns:
        Of shape (*members,), in [1, k] or 0.

    Example:
        >>> effective_rank(torch.tensor([3.0, 3.0, 3.0, 0.0]))
        tensor(3.)

    Reference:
        Roy & Vetterli 2007.
    """
    total = singular.sum(-1)
    p = singular / total.unsqueeze(-1)
    return torch.where(total == 0, 0.0, torch.special.entr(p).sum(-1).exp())
