"""Continual backpropagation (Dohare et al. 2024; Hernandez-Garcia et al. 2025, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import random, select
from .ages import Ages
from .knobs import choice, number, per_member, whole
from .members import Members
from .unit_method import UTILITIES, UnitMethod


@dataclass(frozen=True, kw_only=True)
class ContinualBackprop(UnitMethod):
    """Continual backpropagation: replace the least useful mature units at a fixed rate.

    At every update, for each layer on its own:

        age_i += 1;  unit i is mature where age_i > maturity;  owed += replacement_rate * (number mature)
        renew the floor(owed) mature units of lowest utility, ties at random;  owed -= floor(owed)

        U_i = mean |h_i| * mean |w_out,i| over the update's examples and positions (contribution)

    Where a feature map is flattened into a linear layer a unit owns outgoing weights at P positions; `utility=
    "contribution-by-position"` averages products there, as the original code for convolutional networks does:

        U_i = mean over p of (mean |h_i,p| over the examples) * (mean |w_out,i,p|),  h as the linear layer receives it

    and with decay > 0 an average of U per unit, A <- decay * A + (1 - decay) * U, read as A / (1 - decay ** age).
    A renewed unit gets incoming weights, bias and norm from their laws, outgoing weights 0, age 0 and A = 0.

    "Continual backpropagation" means several utilities in public code. With `decay=0` this is the paper's, on the
    present batch only; `decay=0.99` is the bias-corrected average of the original, on |h| without centring. The
    original owes rate * (all units of the layer), not only the mature ones: it replaces more while units are young.

    Raises:
        ValueError, TypeError: for an argument out of its range, a model in which no units are found, or a parameter
            whose law cannot be determined.
        RuntimeError: at an update that is due without a forward pass in training mode before it.

    Example:
        >>> import torch, regrow
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> opt = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> cbp = regrow.ContinualBackprop(model, replacement_rate=0.05, maturity=2, seed=0).attach(opt)
        >>> for _ in range(6):
        ...     model(torch.randn(4, 8)).square().mean().backward()
        ...     opt.step()
        >>> cbp.report()["renewed_total"]
        3

    Reference:
        Dohare et al., "Loss of plasticity in deep continual learning", Nature 2024; Hernandez-Garcia et al. 2025,
        section 4. The authors' code renews inside the backward pass; here it is after the optimizer's step.
    """

    name = "cbp"
    on_shards = True
    memory = "layers"

    replacement_rate: float = number(0, 1, "share of the mature units per update")
    maturity: int = whole(0, "updates that a new unit is left alone")
    utility: str = choice(UTILITIES, "how useful a unit is", "contribution")
    decay: float = number(0, 1, "of the average of the utility", 0.0, config="utility_decay")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay == 1:
            raise ValueError("`decay` must be below 1, or the average of the utility never moves; got 1")

    @property
    def off(self) -> bool:
        return self.replacement_rate == 0

    @classmethod
    def dates(cls, methods: Sequence[Any]) -> Ages:
        return Ages(methods)

    @property
    def observes(self) -> bool:
        return isinstance(self.decay, Tensor) or self.decay > 0  # only members that all observe act together

    def observe(self, members: Members) -> None:
        skipped = members.skipped
        for layer in members.layers:
            name, new = members.network.units[layer].name, self._averaged(members, layer)
            if new is not None and skipped is not None:
                old = members.memory.average(name, members.which).to(new.device)
                new = torch.where(skipped.to(new.device) != 0, old, new)
            if new is not None:
                members.memory.remember(name, members.which, new)

    def _averaged(self, members: Members, layer: int) -> Tensor | None:
        """The average of a layer's utility with the update just made; without decay, that update alone."""
        u = members.unit_utility(layer, self.utility)
        if u is None or not self.observes:
            return u
        old = members.memory.average(members.network.units[layer].name, members.which).to(u.device)
        decay = per_member(self.decay, u)
        return decay * old + (1 - decay) * u

    def act(self, members: Members) -> None:
        if twin := members.network.twin(self):
            return twin(self, members)
        for layer in members.layers:
            units, ages = members.network.units[layer], members.memory
            counts = ages.counts(units.name, members.which, members.step)
            if not any(counts):
                continue
            u = members.unit_utility(layer, self.utility)
            if u is None:
                members.skip()
                continue
            if self.observes and not members.preview:
                u = ages.average(units.name, members.which)
            elif self.observes:
                u = self._averaged(members, layer)
                assert u is not None
            chosen = self._choose(members, units.name, u, counts)
            members.renew_units(layer, chosen, u, spoilt=u.isnan().any(1))
            if not members.preview:
                ages.renew(units.name, members.which, chosen, members.step)

    def _choose(self, members: Members, name: str, u: Tensor, counts: Sequence[int]) -> Tensor:
        """The least useful mature units of a layer, (k, n)."""
        age = members.step - members.memory.born(name, members.which).to(u.device)
        if self.observes:
            u = u / (1 - per_member(self.decay, u) ** age.clamp(min=1))  # an average that began at 0 is too low
        mature = age > (self.maturity if isinstance(self.maturity, int) else self.maturity.unsqueeze(1))
        count = counts[0] if len(counts) == 1 else torch.tensor(counts, device=u.device)
        order = lambda: members.random(name, "order", random.order, u, of_units=True)  # noqa: E731
        return select.eligible_lowest(u, mature, count, 1, order=order)
