"""Selective weight reinitialization (Hernandez-Garcia et al. 2025, section 3)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core import random, utility
from ..laws import Constant
from .knobs import choice, flag, number, policy, whole
from .members import Members
from .method import Method
from .selection import Wanted

UTILITIES, PRUNINGS, REINITS = ("gradient", "magnitude", "random"), ("threshold", "proportional"), ("resample", "mean")


@dataclass(frozen=True, kw_only=True)
class SWR(Method):
    """Selective weight reinitialization: renew the least useful entries of every parameter tensor.

    Every `every` updates, for each tensor on its own, w after the update and g the gradient that it used:

        U = |w g| (gradient), |w| (magnitude), or Uniform(0, 1) (random, a control)
        mask = U <= factor * mean(U) (threshold), or the factor * n entries of lowest U, ties at random (proportional)
        w <- a draw from the law w was initialised from (resample), or its mean (mean), where mask

    With gradient utility and threshold pruning an entry of zero gradient is always renewed: weights of inputs that
    are always zero, weights into and out of dead units. `report()["zero_share_last"]` shows how much that is.

    Raises:
        ValueError, TypeError: for an argument out of its range, a pattern that matches nothing, no trainable
            parameter, a complex or quantised one, or one whose law cannot be determined.

    Example:
        >>> import torch, regrow
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
        >>> swr = regrow.SWR(model, every=2, factor=0.25, prune="proportional", seed=0).attach(opt)
        >>> for _ in range(2):
        ...     model(torch.randn(4, 8)).square().mean().backward()
        ...     opt.step()
        >>> swr.report()["renewals"]
        1

    Reference:
        Hernandez-Garcia, Dohare, Luo & Sutton, "Reinitializing weights vs units for maintaining plasticity in neural
        networks", CoLLAs 2025, section 3. Random utility is in their code only.
    """

    name = "swr"
    on_shards = True

    every: int = whole(1, "updates between renewals")
    factor: float = number(
        0, math.inf, "share of the mean utility", unless=("prune", "proportional", 1, "share of the entries")
    )
    utility: str = choice(UTILITIES, "how useful an entry is", "gradient")
    prune: str = choice(PRUNINGS, "which entries are least useful", "threshold")
    reinit: str = choice(REINITS, "what renewed entries become", "resample")
    absent_rows: str | Mapping[str, str] = policy(
        ("keep", "renew"), "slices along dimension 0 whose gradient is all zero", "keep",
        note="A text is for embeddings; patterns are for any parameter: {'head.*': 'keep'} leaves alone the classes "
        "that the loss left out, {'experts.*': 'keep'} experts without a token.",
    )  # fmt: skip
    keep_zeros: bool = flag(
        "leave alone what is exactly 0", False, note="For sparse networks: entries that a mask keeps at 0 stay out."
    )
    ties: str = choice(
        ("random", "position"), "of equal utilities, with prune='proportional', which go first", "random",
        note="By position: row by row, as a stable sort of the flattened tensor has them; in the laboratory by input "
        "slots. The authors' code is presumed to act so: its argsort does not ask to be stable, but torch 2.1.1, which "
        "it names, sorts so on a CPU; from 2.13 on, with AVX-512, it does not.",
    )  # fmt: skip
    among: str = choice(("all", "zero", "nonzero"), "which of the chosen entries are renewed", "all", laboratory=True)

    @property
    def off(self) -> bool:
        return self.factor == 0

    @property
    def needs_gradient(self) -> bool:
        return self.utility == "gradient"

    def act(self, members: Members) -> None:
        for name, u, mask, spoilt in members.select(self._wanted(members, name) for name in members.parameters):
            if self.among != "all":  # a control
                mask = mask & ((u == 0) if self.among == "zero" else (u != 0))
            law = Constant(members.law(name).mean) if self.reinit == "mean" else None
            members.renew(name, mask, u, law=law, spoilt=spoilt)
            del u, mask  # as large as the parameter, and the next one's are made now

    def _wanted(self, members: Members, name: str) -> Wanted:
        """The entries of lowest utility of one parameter."""
        u, candidates = self._utility(members, name), self._candidates(members, name)
        if self.prune == "threshold":
            return Wanted(name, u, self.factor, self.prune, candidates)
        chance = members.chance(name, "count", u.device)
        return Wanted(name, u, self.factor, self.prune, candidates, chance, lambda: self._order(members, name, u))

    def _utility(self, members: Members, name: str) -> Tensor:
        w = members.weights(name)
        if self.utility == "gradient":
            g = members.gradient(name)
            assert g is not None
            return utility.gradient(w, g)
        if self.utility == "magnitude":
            return utility.magnitude(w)
        return utility.random(w, members.random(name, "utility", random.uniform, w))

    def _order(self, members: Members, name: str, u: Tensor) -> Tensor:
        """Which of equal utilities go first."""
        if self.ties == "position":
            return members.network.position(name).expand(u.shape)
        return members.random(name, "order", random.order, u)

    def _candidates(self, members: Members, name: str) -> Tensor | None:
        """What may be renewed, bool of a shape that broadcasts against (k, ...); None: everything."""
        rows = self._rows(members, name)
        if not self.keep_zeros:
            return rows
        filled = members.weights(name) != 0
        return filled if rows is None else filled & rows

    def _rows(self, members: Members, name: str) -> Tensor | None:
        """(k, rows, 1, …): True where a slice along dimension 0 may be renewed. None where all may."""
        lookup, keeps = members.network.lookup(name), self._keeps_absent(members, name)
        w = members.weights(name)
        if (lookup is None and not keeps) or w.dim() < 2:
            return None
        g = members.gradient(name)
        rows = torch.ones(w.shape[:2], dtype=torch.bool, device=w.device)
        if keeps and g is not None:
            rows = members.network.present(name, g)
        if lookup is not None and lookup.padding is not None:
            rows[:, lookup.padding] = False
        return rows.view(*rows.shape, *[1] * (w.dim() - 2))

    def _keeps_absent(self, members: Members, name: str) -> bool:
        """Are slices without gradient left alone?"""
        if isinstance(self.absent_rows, Mapping):
            for pattern, policy_ in self.absent_rows.items():
                if members.network.matches(name, pattern):
                    return policy_ == "keep"
            return members.network.lookup(name) is not None
        return self.absent_rows == "keep" and members.network.lookup(name) is not None
