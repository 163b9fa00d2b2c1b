"""A method for some members of a network at once: each with its own knobs and seed.

Random numbers are keyed by seed, method, update, tensor and entry, so a member draws what a single network of that
seed draws, in any stack.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..core import random
from .counters import AGAIN, ENTRIES, RENEWED, ZERO, Counters
from .knobs import texts, together
from .members import Members
from .method import Method
from .network import Network


class StackedMethod:
    """One method, and the members that it acts on.

    Args:
        methods: the method with the knobs of each member; all of one class.
        members: their places in the network, in ascending order.
        seeds: of each, for its random numbers.
        network: what they are members of; None: `dates.admit` gets it later, if the method needs it.
        device: of the network.
        track_overlap: count how much of a renewal the one before renewed as well.

    Raises:
        ValueError: for places that do not ascend, or another number of methods or seeds than of places.

    Example:
        >>> from regrow.lab.nets import MLP
        >>> from regrow.lab.stack import StackedMLP
        >>> from regrow.methods import SWR, StackedMethod
        >>> stack = StackedMLP(MLP(hidden=4, inputs=6), 2)
        >>> swr = StackedMethod([SWR(every=2, factor=0.5, utility="magnitude", prune="proportional")], [1], [0])
        >>> swr.due(1), swr.due(2)
        ([], [0])
        >>> swr.renew(2, stack, None, [0]).tolist()
        [True]
        >>> int(swr.counts["renewed"][0])  # half of the 118 entries: no tensor has an odd number of them
        59
    """

    def __init__(
        self,
        methods: Sequence[Method],
        members: Sequence[int],
        seeds: Sequence[int],
        network: Network | None = None,
        *,
        device: torch.device | str = "cpu",
        track_overlap: bool = False,
    ) -> None:
        self.methods, self.members, self.seeds = list(methods), list(members), list(seeds)
        if any(one >= other for one, other in itertools.pairwise(self.members)):
            raise ValueError(f"`members` must be places in ascending order; got {self.members}: sort them")
        if not len(self.methods) == len(self.members) == len(self.seeds):
            counts = f"{len(self.methods)}, {len(self.members)} and {len(self.seeds)}"
            raise ValueError(f"`methods`, `members` and `seeds` must be one of each for a member; got {counts}")
        self.device = torch.device(device)
        self.kind = type(self.methods[0])
        self.counters = Counters(len(self.members), track_overlap)
        self.gradients: Mapping[str, Tensor] | None = None
        self.dates = self.kind.dates(self.methods)
        if network is not None:
            self.dates.admit(network, self.members, 0)
        self._observers = [i for i, method in enumerate(self.methods) if method.observes and not method.off]
        self._texts = [texts(method) for method in self.methods]
        self._together: dict[tuple[int, ...], Any] = {}

    # When.

    def due(self, step: int) -> list[int]:
        """Numbers of its members, from 0 on, that act at this update."""
        return self.dates.due(step)

    @property
    def needs_gradient(self) -> bool:
        """Does it read the gradient of an update at which it acts?"""
        return any(method.needs_gradient for method in self.methods)

    @property
    def reads_activations(self) -> bool:
        """Does it read how active hidden units were?"""
        return any(method.reads_activations for method in self.methods)

    @property
    def reads_positions(self) -> bool:
        """Does it read activations position by position?"""
        return any(method.reads_positions for method in self.methods)

    @property
    def observes(self) -> bool:
        """Does it look at every update?"""
        return bool(self._observers)

    # What.

    def before(self, step: int, network: Network) -> None:
        """What comes before the optimizer's step of every update, of all members."""
        if self.kind.before is Method.before:
            return
        working = [i for i, method in enumerate(self.methods) if not method.off]
        for alike in self._alike(working) if working else ():
            self.at(alike).before(Members(self, step, network, alike))

    def observe(self, step: int, network: Network, gradients: Mapping[str, Tensor] | None) -> None:
        """Look at an update, after the optimizer's step and before anything is renewed.

        Args:
            step, network, gradients: as for `act`.
        """
        self.gradients = gradients
        for alike in self._alike(self._observers) if self._observers else ():
            self.at(alike).observe(Members(self, step, network, alike))
        self.gradients = None

    def act(
        self, step: int, network: Network, gradients: Mapping[str, Tensor] | None, which: Sequence[int],
        layers: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        """Do what is due for some members, after the optimizer's step.

        Args:
            step: number of the update.
            network: what they are members of.
            gradients: of the update, where it needs them; None: the network has them.
            which: numbers of its members.
            layers: only these hidden layers.
        """
        self.gradients = gradients
        self.begin()
        if layers is None and any(self.methods[i].needs_gradient for i in which):
            which = self._with_signal(network, which)
        for alike in self._alike(which) if which else ():
            members = Members(self, step, network, alike, layers)
            self.at(alike).act(members)
            members.finish()
        self.gradients = None

    def begin(self) -> None:
        """Begin to count a renewal; methods that act always and renew nothing count for themselves."""
        if self.kind.renews or not self.kind.at_every_attempt:
            self.counters.begin()

    def _with_signal(self, network: Network, which: Sequence[int]) -> list[int]:
        """Leave out members that select by gradient but have none that is nonzero: all their utilities would be 0."""
        signal = network.has_gradient([self.members[i] for i in which], self.gradients)
        if signal is None or all(signal):
            return list(which)
        kept = [i for i, there in zip(which, signal, strict=True) if there or not self.methods[i].needs_gradient]
        self.counters.skipped_no_signal += len(which) - len(kept)
        return kept

    def renew(
        self, step: int, network: Network, gradients: Mapping[str, Tensor] | None, which: Sequence[int],
        layers: Sequence[int] | None = None,
    ) -> Tensor:  # fmt: skip
        """`act`; returns which of these members renewed anything, bool (len(which))."""
        self.act(step, network, gradients, which, layers)
        return self.counters.fired(which).to(self.device)

    def _alike(self, which: Sequence[int]) -> list[list[int]]:
        """Groups of members that differ only in numbers: each group acts together."""
        if len(which) == 1:
            return [list(which)]
        by_text = sorted(which, key=self._texts.__getitem__)
        return [list(group) for _, group in itertools.groupby(by_text, key=self._texts.__getitem__)]

    def at(self, which: Sequence[int]) -> Any:
        """The method with the knobs of these members: numbers, or tensors (k)."""
        of = tuple(which)
        if of not in self._together:
            self._together[of] = together([self.methods[i] for i in of], self.device)
        return self._together[of]

    def keys(self, which: Sequence[int], step: int, *purpose: str) -> list[int]:
        """One key for each of these members, the same as for a single network of that seed."""
        of: dict[int, int] = {}
        for i in which:
            if self.seeds[i] not in of:
                of[self.seeds[i]] = random.key(self.seeds[i], self.kind.name, 0, step, *purpose)  # type: ignore[assignment]
        return [of[self.seeds[i]] for i in which]

    # What it reports and stores.

    @property
    def counts(self) -> dict[str, Tensor]:
        """Since `begin_task`: renewed (entries), renewed_units, renewed_zero, again; each (K)."""
        totals = self.counters.totals()
        units = totals[:, RENEWED] if self.kind.by_unit else torch.zeros_like(totals[:, RENEWED])
        named = {"renewed": ENTRIES, "renewed_zero": ZERO, "again": AGAIN}
        return {name: totals[:, i] for name, i in named.items()} | {"renewed_units": units}

    def mature(self, step: int) -> Tensor | None:
        """Units old enough to be renewed, (K), where the method has such."""
        return self.dates.mature(step)

    def begin_task(self) -> None:
        """Set the counts to 0."""
        self.counters.reset()

    def permute(self, name: str, shuffle: Tensor) -> None:
        """The columns of a parameter were shuffled: follow them."""
        self.counters.permute(name, shuffle)
        self.dates.permute(name, shuffle)

    def state_dict(self) -> dict[str, Any]:
        """All that the next update needs, by number of the member."""
        numbers = range(len(self.members))
        return {str(i): {"memory": self.dates.state(i), "counters": self.counters.all_of(i)} for i in numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        for i in range(len(self.members)):
            stored = state[str(i)]
            if stored["memory"]:
                self.dates.load(i, stored["memory"])
            self.counters.load_all_of(i, stored["counters"])
