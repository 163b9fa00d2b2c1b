"""ReDo (Sokar et al. 2023; Hernandez-Garcia et al. 2025, section 4)."""

import math
from dataclasses import dataclass

from ..core import select
from .knobs import choice, number, whole
from .members import Members
from .unit_method import UTILITIES, UnitMethod


@dataclass(frozen=True, kw_only=True)
class ReDo(UnitMethod):
    """ReDo: renew the units that are dormant compared with their layer.

    Every `every` updates, for each layer on its own, over the examples and positions of the update's passes:

        U_i = mean |h_i| (activation), or another unit utility
        renew unit i where U_i <= threshold * mean(U)

    A renewed unit gets incoming weights, bias and norm from their laws, and outgoing weights 0.

    Raises:
        ValueError, TypeError: for an argument out of its range, a model in which no units are found, or a parameter
            whose law cannot be determined.
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
        Hernandez-Garcia et al. 2025, section 4. The authors' code renews inside the backward pass; here it is after the
        optimizer's step.
    """

    name = "redo"
    on_shards = True

    every: int = whole(1, "updates between renewals")
    threshold: float = number(0, math.inf, "share of the layer's mean utility")
    utility: str = choice(UTILITIES, "how useful a unit is", "activation")

    @property
    def off(self) -> bool:
        return self.threshold == 0

    def act(self, members: Members) -> None:
        for layer in members.layers:
            u = members.unit_utility(layer, self.utility)
            if u is None:
                members.skip()
                continue
            members.renew_units(layer, select.threshold(u, self.threshold, 1), u, spoilt=~u.sum(1).isfinite())
