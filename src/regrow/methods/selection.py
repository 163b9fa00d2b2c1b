"""What is to be selected of a parameter, and what was: utilities in, a mask out.

Shapes: k members.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..core import select


class Wanted(NamedTuple):
    """The entries of lowest utility of one parameter, for `Members.select`.

    Args:
        name: of the parameter.
        utility: >= 0, of shape (k, ...), of the entries that lie here; it may be changed.
        factor: >= 0; a number, or of shape (k).
        prune: "threshold": at most this share of the mean utility; "proportional": this share of the entries.
        candidates: what may be selected, bool of a shape that broadcasts against the utility; None: everything.
        uniform: in [0, 1), of shape (k): decides the Bernoulli part of "proportional".
        order: makes the ranks, of the shape of the utility, that decide its ties.

    Example:
        >>> select_here(Wanted("weight", torch.tensor([[0.0, 1.0, 5.0]]), 0.5)).mask
        tensor([[ True,  True, False]])
    """

    name: str
    utility: Tensor
    factor: float | Tensor
    prune: str = "threshold"
    candidates: Tensor | None = None
    uniform: Tensor | None = None
    order: Callable[[], Tensor] | None = None

    def among(self, present: Tensor) -> "Wanted":
        """The same among the candidates alone, by changing the utility of all others.

        It becomes 0 where a mean is taken (the factor makes up for n), inf where the lowest are taken.

        Args:
            present: share of the candidates, (k); of one member ().
        """
        assert self.candidates is not None
        by_mean, factor = self.prune == "threshold", self.factor
        self.utility.masked_fill_(~self.candidates, 0.0 if by_mean else torch.inf)
        factor = factor.to(present) if isinstance(factor, Tensor) else factor
        return self._replace(factor=factor / present if by_mean else factor * present)


class Selected(NamedTuple):
    """What was selected of one parameter: `mask` (k, ...). `spoilt` (k): where a NaN forbade a choice."""

    name: str
    utility: Tensor
    mask: Tensor
    spoilt: Tensor


def select_here(wanted: Wanted) -> Selected:
    """Select of a parameter all of which is here."""
    if wanted.candidates is not None:
        wanted = wanted.among(_shares(wanted.candidates, wanted.utility))
    u = wanted.utility
    if wanted.prune == "threshold":
        mask, spoilt = select.threshold(u, wanted.factor, 1), ~_sums(u).isfinite()
    else:
        mask = select.proportional(u, wanted.factor, 1, uniform=wanted.uniform, order=wanted.order)
        spoilt = _sums(u).isnan()
    return Selected(wanted.name, u, mask if wanted.candidates is None else mask & wanted.candidates, spoilt)


def _sums(u: Tensor) -> Tensor:
    """The sum over the entries of each member, (k)."""
    return u.sum().unsqueeze(0) if len(u) == 1 else u.reshape(len(u), -1).sum(1)


def _shares(candidates: Tensor, u: Tensor) -> Tensor:
    """The share of candidates among the entries of each member, (k); of one member ()."""
    if len(u) == 1:
        return candidates.float().mean()
    return candidates.expand_as(u).reshape(len(u), -1).float().mean(1)
