"""ReDo: recycle dormant units (Sokar et al. 2023; Hernandez-Garcia et al. 2025, section 2)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import check
from ..core import select
from ..laws import Law
from ..wiring import Units
from .unit_renewer import UnitRenewer


class ReDo(UnitRenewer):
    """ReDo: renew the units that are dormant compared with their layer.

    Every `every` updates, for each layer on its own, over the examples and positions of the update's passes:

        U_i = mean |h_i| (activation), or another unit utility
        renew unit i where U_i <= threshold * mean(U)

    A renewed unit gets incoming weights, bias and norm from their laws, and outgoing weights 0.

    Args:
        model: any module with hidden units. Make this before training: the laws are taken now.
        every: renew at every so many updates, >= 1; the first time at update `every`.
        threshold: share of the layer's mean utility, >= 0. 0 is off.
        utility: "activation", "contribution" (times the mean |w_out|), "gradient" (|sum w_out g_out|), "magnitude".
        units: list of `regrow.Units`; None: `regrow.find_units(model)`.
        laws: {name pattern: law}, or the source of all: "auto", "modules", "values".
        only, skip: name patterns of the layers' incoming weights.
        optimizer: where to clear moments if you call `step()` yourself; `attach` sets it.
        clear_moments: as for `SWR`; of the entries that are renewed or set to 0.
        seed: keys all random numbers, >= 0; None: `torch.initial_seed()`, the one of rank 0 on all ranks.

    Raises:
        ValueError, TypeError: for an argument out of its range, a model in which no units are found, or a parameter
            whose law cannot be told.
        RuntimeError: at an update that is due without a forward pass in training mode before it.

    Example:
        >>> import torch, regrow
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> opt = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> redo = regrow.ReDo(model, every=2, threshold=0.1, seed=0).attach(opt)
        >>> for _ in range(4):
        ...     model(torch.randn(4, 8)).square().mean().backward()
        ...     opt.step()
        >>> redo.report()["renewals"]
        2

    Reference:
        Sokar, Agarwal, Castro & Evci, "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023;
        Hernandez-Garcia et al. 2025, section 2. The authors' code renews inside the backward pass; here it is after the
        optimizer's step.
    """

    method = "redo"

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int,
        threshold: float,
        utility: str = "activation",
        units: Sequence[Units] | None = None,
        laws: Mapping[str, Law] | str | None = None,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        optimizer: Optimizer | None = None,
        clear_moments: bool | str = True,
        seed: int | None = None,
    ) -> None:
        self._every: int = check.whole("every", every, 1, "updates between renewals")
        self._threshold = check.number("threshold", threshold, 0, math.inf, "share of the layer's mean utility")
        super().__init__(
            model, units=units, utility=utility, laws=laws, only=only, skip=skip, optimizer=optimizer,
            clear_moments=clear_moments, seed=seed,
        )  # fmt: skip
        self._settle()

    @property
    def knobs(self) -> dict[str, Any]:
        return {
            "every": self._every, "threshold": self._threshold, "utility": self._utility,
            "clear_moments": self._clear_moments,
        }  # fmt: skip

    @property
    def off(self) -> bool:
        return self._threshold == 0

    def _settle(self) -> None:
        may_be_due = not self.off and self._clock.at_most + 1 >= self._clock.next_due(self._every)
        self._watch(list(self._layers.values()) if may_be_due else [])

    def _fire(self, found_inf: Tensor | None) -> None:
        layers = self._ready_and_watched()
        utilities = self._utilities(layers)
        self._tally.begin()
        choices = []
        for layer, u in zip(layers, utilities, strict=True):
            if u is None:
                self._tally.skipped_no_grad += 1
                continue
            chosen = select.threshold(u, self._threshold)
            self._tally.add(layer.name, chosen, torch.count_nonzero(chosen & (u == 0)), ~u.sum().isfinite())
            choices.append((layer, chosen))
        self._renew_units(choices, self._clock.steps)

    def _masks(self) -> dict[str, Tensor]:
        layers = self._ready()
        found = zip(layers, self._utilities(layers, stale=True), strict=True)
        return self._masks_of_all(
            [(layer, select.threshold(u, self._threshold)) for layer, u in found if u is not None]
        )
