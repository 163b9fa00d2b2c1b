"""L2-Init, regenerative regularization (Kumar, Marklund & Van Roy 2023)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import check
from .dates import Dates
from .knobs import choice, number, per_member
from .members import Members
from .method import Method
from .network import Network
from .rows import taken


@dataclass(frozen=True, kw_only=True)
class L2Init(Method):
    """L2-Init: pull every parameter towards its initial value, by a term of the loss.

    Before each step of the optimizer, for each parameter that has a gradient:

        g <- g + strength * (theta - theta_0),  the gradient of  loss + (strength / 2) * sum (theta - theta_0) ** 2

    theta_0: the value when the maintainer was made (initial), or a fresh draw from the parameter's law at every update
    (resample). Weights that learn nothing drift back to where learning was possible. After the step `.grad` is the
    gradient of the loss alone again, bit for bit, so that what renews by gradient utility is not misled.

    The term is not part of the loss that you see, so a norm of gradients that you clip before the step leaves it out:
    that is the one difference from adding it to the loss. A step that a `GradScaler` skips adds nothing.

    Raises:
        ValueError, TypeError: for an argument out of its range, a pattern that matches nothing, no trainable
            parameter, or with reference="resample" one whose law cannot be determined.
        RuntimeError: at a `step()` of your own, which would come after the optimizer's: attach it.

    Example:
        >>> import torch, regrow
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> opt = torch.optim.Adam(model.parameters(), lr=1e-3)
        >>> pull = regrow.L2Init(model, strength=1e-2).attach(opt)
        >>> model(torch.randn(4, 8)).square().mean().backward()
        >>> opt.step()

    Reference:
        Kumar, Marklund & Van Roy, "Maintaining plasticity in continual learning via regenerative regularization",
        CoLLAs 2024 (arXiv 2308.11958).
    """

    name = "l2-init"
    on_shards = True
    renews = False
    at_every_attempt = penalizes = True
    memory = "reference"

    strength: float = number(0, math.inf, "of the pull towards the reference")
    reference: str = choice(("initial", "resample"), "what parameters are pulled to", "initial")
    pulled: str = choice(("all", "no norms"), "whether norms are pulled, too", "all", laboratory=True)

    @property
    def off(self) -> bool:
        return self.strength == 0

    @property
    def draws(self) -> bool:  # type: ignore[override]
        return self.reference == "resample"

    @classmethod
    def dates(cls, methods: Sequence[Any]) -> "Reference":
        return Reference([method.reference == "initial" for method in methods])

    def before(self, members: Members) -> None:
        for name, pull in self._pulls(members):
            members.add_to_gradient(name, per_member(self.strength, pull) * pull)

    def penalty(self, members: Members) -> Tensor:
        here = [(name, pull.double().square().reshape(len(pull), -1).sum(1)) for name, pull in self._pulls(members)]
        squares = torch.stack(members.network.totals(here)).sum(0)
        return per_member(self.strength, squares) / 2 * squares

    def _pulls(self, members: Members) -> Iterator[tuple[str, Tensor]]:
        """theta - theta_0 of every parameter that is pulled."""
        for name in members.parameters:
            if self.pulled == "no norms" and name in members.network.norms:
                continue
            w = members.weights(name)
            if self.reference == "initial":
                yield name, w - members.memory.values(name, members.which)
            else:
                yield name, w - members.random(name, "reference", members.law(name).draw, like=w).to(w.dtype)

    def act(self, members: Members) -> None:
        """Nothing comes after the step."""


class Reference(Dates):
    """The values that parameters had, which they are pulled to.

    Args:
        kept: of each member, whether its values are kept.
    """

    def __init__(self, kept: Sequence[bool]) -> None:
        super().__init__([0] * len(kept))
        self._kept = any(kept)
        self._initial: dict[str, Tensor] = {}  # name -> (K, ...)

    def admit(self, network: Network, places: Sequence[int], step: int) -> None:
        for name, w in network.parameters.items() if self._kept else ():
            old = self._initial.get(name)
            if old is not None and old.shape[1:] == network.shape(name) != w.shape[1:]:  # has been sharded since
                self._initial[name] = network.part(name, old).to(w).clone()
            elif old is None or old.shape[1:] != w.shape[1:]:
                self._initial[name] = network.take(name, places).detach().clone()

    def values(self, name: str, which: Sequence[int]) -> Tensor:
        """The initial values of a parameter for some members, (k, ...)."""
        return taken(self._initial[name], which)

    def permute(self, name: str, shuffle: Tensor) -> None:
        if name in self._initial:
            self._initial[name] = self._initial[name].index_select(2, shuffle)

    def state(self, i: int) -> dict[str, Any]:
        return {name: w[i].cpu().clone() for name, w in self._initial.items()}

    def load(self, i: int, state: Mapping[str, Any]) -> None:
        read = {name: check.field(state, name, Tensor) for name in self._initial}
        for name, stored in read.items():
            if stored.shape != self._initial[name].shape[1:]:
                expected = tuple(self._initial[name].shape[1:])
                raise ValueError(f"state_dict: reference of {name!r} must be {expected}; got {tuple(stored.shape)}")
        for name, stored in read.items():
            self._initial[name][i] = stored.to(self._initial[name])
