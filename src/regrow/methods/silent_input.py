"""Renewing the weights of silent inputs: a control of ours for selective weight reinitialization."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import check
from .dates import Dates
from .knobs import whole
from .members import Members
from .method import Method
from .network import Network


@dataclass(frozen=True, kw_only=True)
class SilentInput(Method):
    """Renew the weights whose input has been silent: what a gradient of exactly 0 shows, without the gradient.

    Every `every` updates, for each weight of a linear or convolutional layer on its own:

        w_oi <- a draw from the law w was initialised from, where x_i = 0 for all examples since the last renewal

    x_i: input i of the layer, of a convolution its channel at all positions. Such weights have learned nothing since,
    and nothing depends on them. Selective weight reinitialization with gradient utility renews them, and little else,
    where inputs have many zeros; where they have none this renews nothing. Biases, norms and layers of other kinds are
    left alone, and so is a layer that no forward pass has called.

    Raises:
        ValueError, TypeError: for an argument out of its range, a pattern that matches nothing, a model without linear
            and convolutional layers, or a weight whose law cannot be determined.

    Example:
        >>> import torch, regrow
        >>> model = torch.nn.Linear(4, 2)
        >>> opt = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> silent = regrow.SilentInput(model, every=2, seed=0).attach(opt)
        >>> for _ in range(2):
        ...     model(torch.tensor([[1.0, 0.0, -1.0, 0.0]])).square().mean().backward()
        ...     opt.step()
        >>> silent.report()["renewed_total"]  # two of four columns
        4

    Reference:
        Ours; it isolates what Hernandez-Garcia et al. 2025 renew on images with many black pixels.
    """

    name = "swr-silent-input"
    reads_inputs = True
    memory = "inputs"

    every: int = whole(1, "updates between renewals")

    @property
    def observes(self) -> bool:
        return True

    @classmethod
    def dates(cls, methods: Sequence[Any]) -> "Silence":
        return Silence([method.every for method in methods])

    def observe(self, members: Members) -> None:
        for name in members.network.inputs:
            active = members.network.active(name, members.places)
            if active is None:
                continue
            if members.skipped is not None:  # a step that a gradient scaler skips is no update
                active = active & (members.skipped.to(active.device) == 0)
            members.memory.add(name, members.which, active)

    def act(self, members: Members) -> None:
        for name in members.network.inputs:
            silent = members.memory.silent(name, members.which)
            network, w = members.network, members.weights(name)
            mask = along_inputs(silent.to(w.device), (len(w), *network.shape(name)))
            members.renew(name, network.part(name, mask))
            if not members.preview:
                members.memory.begin(name, members.which)


def along_inputs(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """A mask of inputs, (k, I), as one of a layer's weights, of shape (k, O, I / groups, ...).

    Example:
        >>> along_inputs(torch.tensor([[True, False]]), (1, 2, 1, 3)).tolist()  # a group for each input
        [[[[True, True, True]], [[False, False, False]]]]
    """
    k, outputs, own = shape[:3]
    groups = mask.shape[1] // own
    rows = mask.view(k, groups, 1, own).expand(k, groups, outputs // groups, own).reshape(k, outputs, own)
    return rows.view(*rows.shape, *[1] * (len(shape) - 3)).expand(shape)


class Silence(Dates):
    """Which inputs of each layer have been 0 since the last renewal.

    Args:
        every: of each member.
    """

    def __init__(self, every: Sequence[int]) -> None:
        super().__init__(every)
        self._active: dict[str, Tensor] = {}  # name -> bool (K, I)
        self._called: dict[str, Tensor] = {}  # name -> bool (K): has any pass called the layer?

    def admit(self, network: Network, places: Sequence[int], step: int) -> None:
        for name, n in network.inputs.items():
            if name not in self._active or self._active[name].shape[1] != n:
                device = network.tensor(name).device
                self._active[name] = torch.zeros(len(places), n, dtype=torch.bool, device=device)
                self._called[name] = torch.zeros(len(places), dtype=torch.bool, device=device)

    def add(self, name: str, which: Sequence[int], active: Tensor) -> None:
        """Take note of the inputs of some members that were not 0 in an update, (k, I)."""
        before, called = (kept[name].to(active.device) for kept in (self._active, self._called))
        index = torch.tensor(which, device=active.device)
        self._active[name] = before.index_copy(0, index, before.index_select(0, index) | active)
        self._called[name] = called.index_fill(0, index, True)

    def silent(self, name: str, which: Sequence[int]) -> Tensor:
        """Inputs of some members that have been 0 since the last renewal, (k, I)."""
        rows = list(which)
        return ~self._active[name][rows] & self._called[name][rows].unsqueeze(1)

    def begin(self, name: str, which: Sequence[int]) -> None:
        """Start afresh for these members, which were renewed."""
        for kept in (self._active, self._called):
            kept[name] = kept[name].index_fill(0, torch.tensor(which, device=kept[name].device), False)

    def permute(self, name: str, shuffle: Tensor) -> None:
        if name in self._active:
            self._active[name] = self._active[name].index_select(1, shuffle.to(self._active[name].device))

    def state(self, i: int) -> dict[str, Any]:
        return {
            name: {"active": active[i].cpu().clone(), "called": self._called[name][i].cpu().clone()}
            for name, active in self._active.items()
        }

    def load(self, i: int, state: Mapping[str, Any]) -> None:
        read = {name: check.field(state, name, Mapping) for name in self._active}
        stored = {n: [check.field(of, key, Tensor) for key in ("active", "called")] for n, of in read.items()}
        for name, (active, _) in stored.items():
            expected = tuple(self._active[name].shape[1:])
            if active.shape != expected:
                raise ValueError(f"state_dict: inputs of {name!r} must be {expected}; got {tuple(active.shape)}")
        for name, (active, called) in stored.items():
            self._active[name][i], self._called[name][i] = active.bool(), called.bool()
