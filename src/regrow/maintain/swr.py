"""Selective weight reinitialization (Hernandez-Garcia et al. 2025, section 2)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import check
from ..core import random, select, utility
from ..core.eager import compare, count
from ..laws import Constant, Law
from ..names import Entry
from .renewer import Renewer

UTILITIES, PRUNINGS, REINITS = ("gradient", "magnitude", "random"), ("threshold", "proportional"), ("resample", "mean")


class SWR(Renewer):
    """Selective weight reinitialization: renew the least useful entries of every parameter tensor.

    Every `every` updates, for each tensor on its own, w after the update and g the gradient that it used:

        U = |w g| (gradient), |w| (magnitude), or Uniform(0, 1) (random, a control)
        mask = U <= factor * mean(U) (threshold), or the factor * n entries of lowest U, ties at random (proportional)
        w <- a draw from the law w was initialised from (resample), or its mean (mean), where mask

    With gradient utility and threshold pruning an entry of zero gradient is always renewed: weights of inputs that
    are always zero, weights into and out of dead units. `report()["zero_share_last"]` tells how much that is.

    Args:
        model: any module. Its parameters' laws are taken now, so make this before training, or load a pre-trained
            model with `laws="modules"`: its values say nothing of how it was initialised.
        every: renew at every so many updates, >= 1; the first time at update `every`.
        factor: threshold: share of the mean utility, >= 0; proportional: share of the entries, in [0, 1]. 0 is off.
        utility: "gradient", "magnitude" or "random".
        prune: "threshold" or "proportional".
        reinit: "resample" or "mean".
        absent_rows: rows of an `nn.Embedding` that the update did not use (all of their gradient is zero): "keep"
            leaves them out of the selection and of its mean, "renew" is the literal algorithm. A padding row is kept.
        laws: {name pattern: law} for parameters whose law you give, or the source of all: "auto", "modules", "values".
        only, skip: name patterns (`"encoder.*"`, or a module's name for all in it) of what to maintain, to leave out.
        optimizer: where to clear moments if you call `step()` yourself; `attach` sets it.
        clear_moments: True: first moments of renewed entries become 0, second moments the mean over the tensor's kept
            entries; "zero": both 0; False: both stay (the authors').
        seed: keys all random numbers, >= 0; None: `torch.initial_seed()`, the one of rank 0 on all ranks.
        track_overlap: keep a bit per weight and report how much of a renewal the one before renewed as well.

    Raises:
        ValueError, TypeError: for an argument out of its range, a pattern that matches nothing, no trainable
            parameter, a complex or quantised one, or one whose law cannot be told.

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
        networks", CoLLAs 2025, section 2. Random utility is in their code only.
    """

    method = "swr"

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int,
        factor: float,
        utility: str = "gradient",
        prune: str = "threshold",
        reinit: str = "resample",
        absent_rows: str = "keep",
        laws: Mapping[str, Law] | str | None = None,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        optimizer: Optimizer | None = None,
        clear_moments: bool | str = True,
        seed: int | None = None,
        track_overlap: bool = False,
    ) -> None:
        self._every = check.whole("every", every, 1, "updates between renewals")
        self._utility = check.choice("utility", utility, UTILITIES)
        self._prune = check.choice("prune", prune, PRUNINGS)
        self._reinit = check.choice("reinit", reinit, REINITS)
        self._absent_rows = check.choice("absent_rows", absent_rows, ("keep", "renew"))
        high, why = (1, "share of the entries") if prune == "proportional" else (math.inf, "share of the mean utility")
        self._factor = check.number("factor", factor, 0, high, why)
        super().__init__(
            model, laws=laws, only=only, skip=skip, optimizer=optimizer, clear_moments=clear_moments, seed=seed,
            track_overlap=track_overlap,
        )  # fmt: skip

    @property
    def knobs(self) -> dict[str, Any]:
        return {
            "every": self._every, "factor": self._factor, "utility": self._utility, "prune": self._prune,
            "reinit": self._reinit, "absent_rows": self._absent_rows, "clear_moments": self._clear_moments,
        }  # fmt: skip

    @property
    def off(self) -> bool:
        return self._factor == 0

    def _check_manual_step(self) -> None:
        if self._clock.attempts == 0 and self._utility == "gradient" and not self.off:
            grads = [e.parameter.grad for e in self._with_gradient(self._entries())]
            if not any((g.coalesce().values() if g.is_sparse else g).any() for g in grads if g is not None):
                raise RuntimeError(_NO_GRADIENT)

    def _with_gradient(self, entries: list[Entry]) -> list[Entry]:
        """Those that have what the utility needs, and any entries at all."""
        entries = [entry for entry in entries if entry.parameter.numel()]
        if self._utility == "gradient":
            return [entry for entry in entries if entry.parameter.grad is not None]
        return entries

    def _fire(self, found_inf: Tensor | None) -> None:
        step, entries = self._clock.steps, self._entries()
        usable = self._with_gradient(entries)
        if entries and not usable:
            raise RuntimeError(_NO_GRADIENT)
        laws = [self._law(entry) for entry in usable]  # all are there, or nothing is renewed
        self._tally.begin()
        self._tally.skipped_no_grad += len(entries) - len(usable)
        for entry, law in zip(usable, laws, strict=True):
            mask, zero, nan = self._select(entry, step)
            self._tally.add(entry.name, mask, zero, nan)
            self._renew(entry, mask, Constant(law.mean) if self._reinit == "mean" else law, step)
            self._forget(entry, mask)

    def _masks(self) -> dict[str, Tensor]:
        entries = self._entries()
        usable = self._with_gradient(entries)
        if entries and not usable:
            raise RuntimeError(_NO_GRADIENT)
        return {entry.name: self._select(entry, self._clock.steps + 1)[0] for entry in usable}

    def _select(self, entry: Entry, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The mask of one parameter; how many of the selected have utility exactly 0; whether a NaN forbade it."""
        u = self._utility_of(entry, step)
        candidates = self._candidate_rows(entry)
        factor: float | Tensor = self._factor
        if candidates is not None:
            # Left-out rows take no part: not in the mean (0, the factor makes up for n), not among the lowest (inf).
            present = candidates.float().mean()
            u.masked_fill_(~candidates, 0.0 if self._prune == "threshold" else torch.inf)
            factor = factor / present if self._prune == "threshold" else factor * present
        if self._prune == "threshold":
            mask, spoilt = select.threshold(u, factor), ~u.sum().isfinite()
        else:
            mask = select.proportional(
                u, factor, uniform=self._bernoulli(entry, step), order=lambda: self._order(entry, step)
            )
            spoilt = u.sum().isnan()
        if candidates is not None:
            mask &= candidates
        return mask, count(mask & compare(np.equal, u, u.new_zeros(()))), spoilt

    def _utility_of(self, entry: Entry, step: int) -> Tensor:
        w = entry.parameter
        if self._utility == "gradient":
            assert w.grad is not None
            return utility.gradient(w, w.grad.to_dense() if w.grad.is_sparse else w.grad)
        if self._utility == "magnitude":
            return utility.magnitude(w)
        uniform = random.field(self._key(step, entry.name, "utility"), w.shape, random.uniform, w.device)
        return utility.random(w, uniform)

    def _bernoulli(self, entry: Entry, step: int) -> Tensor:
        key = self._key(step, entry.name, "count")
        return random.field(key, torch.Size(), random.uniform, entry.parameter.device)

    def _order(self, entry: Entry, step: int) -> Tensor:
        w = entry.parameter
        return random.field(self._key(step, entry.name, "order"), w.shape, random.order, w.device)

    def _candidate_rows(self, entry: Entry) -> Tensor | None:
        """(rows, 1) of an embedding: True where a row may be renewed. None where all may."""
        module, w = entry.module, entry.parameter
        if not isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or entry.attribute != "weight":
            return None
        rows = torch.ones(w.shape[0], dtype=torch.bool, device=w.device)
        if self._absent_rows == "keep" and w.grad is not None:
            g = w.grad.to_dense() if w.grad.is_sparse else w.grad
            rows = (g != 0).any(dim=1)
        if module.padding_idx is not None:
            rows[module.padding_idx] = False
        return rows.unsqueeze(1)


_NO_GRADIENT = (
    "SWR with utility='gradient' needs the gradient of the update, and no parameter has one: call backward() first, "
    "and step() or preview() before zero_grad()"
)
