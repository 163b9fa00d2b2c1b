"""The linear and convolutional layers whose weights are renewed by their inputs, and which inputs were active."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..names import Entry
from ..wiring.reading import input_reading, reads_inputs
from . import distributed
from .activation_sums import ActivationSums, Sums
from .coverage import Coverage


class LayerInputs:
    """Sums |x| over the forward passes since the last update, per input of each layer: 0 where it was silent.

    A tied weight counts the inputs of all its layers. One that a layer of another kind shares is left alone.

    Args:
        model: any module.
        who: the maintainer's name, for messages.
    """

    def __init__(self, model: nn.Module, who: str) -> None:
        self._model, self._who = model, who
        self.installed = True
        self._coverage: Coverage | None = None
        self.entries: list[Entry] = []
        self._watches: dict[str, list[ActivationSums]] = {}

    def admit(self, coverage: Coverage) -> None:
        """Find the layers whose weights are covered."""
        self.entries = [e for e in coverage.entries if all(reads_inputs(home) for home in (e, *e.aliases))]
        if not self.entries:
            raise ValueError(f"{self._who} renews weights of nn.Linear and nn.Conv layers; there is none to maintain")
        self._coverage = coverage
        before, self._watches = self._watches, {}
        for entry in self.entries:
            old, homes = before.pop(entry.name, []), (entry, *entry.aliases)
            same = [watch.reading.module for watch in old] == [home.module for home in homes]
            self._watches[entry.name] = old if same else [self._watch(entry, home) for home in homes]
            for watch in () if same else old:
                watch.remove()
        for watch in (watch for old in before.values() for watch in old):
            watch.remove()

    def _watch(self, entry: Entry, home: Entry) -> ActivationSums:
        """Watch one layer with hooks of its own."""
        assert self._coverage is not None
        watch = ActivationSums(input_reading(home), entry, stale=self._coverage.stale)
        weakref.finalize(self, watch.remove)  # the model's hooks go with their maintainer
        if not self.installed:
            watch.remove()
        return watch

    @property
    def counts(self) -> dict[str, int]:
        """Inputs of each weight's layer."""
        return {name: own[0].reading.n for name, own in self._watches.items()}

    def watch(self) -> None:
        """From here to the next update, see the inputs."""
        for watch in self._all():
            watch.begin_update(True)

    def active(self) -> dict[str, Tensor]:
        """Which inputs were other than 0 since the last update, on any rank: bool (n); none of a layer not called."""
        sums = {name: _total([watch.sums() for watch in own]) for name, own in self._watches.items()}
        seen = {name: total for name, total in sums.items() if total is not None}
        totals = distributed.sum_over_ranks([*seen.values()])
        return {name: total != 0 for name, (total, _) in zip(seen, totals, strict=True)}  # NaN is not silent

    def _all(self) -> list[ActivationSums]:
        return [watch for own in self._watches.values() for watch in own]

    def install(self) -> None:
        """Put the hooks on the model, if `remove` took them off."""
        self.installed = True
        for watch in self._all():
            watch.install()

    def remove(self) -> None:
        """Take every hook off the model."""
        self.installed = False
        for watch in self._all():
            watch.remove()

    def rebuild(self) -> None:
        """Put new hooks on the model: this is a copy, and the original keeps its own."""
        for entry in self.entries:
            self._watches[entry.name] = [self._watch(entry, home) for home in (entry, *entry.aliases)]

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for watch in self._all():
            weakref.finalize(self, watch.remove)


def _total(sums: Sequence[Sums | None]) -> Sums | None:
    seen = [each for each in sums if each is not None]
    if not seen:
        return None
    totals, counts = zip(*seen, strict=True)
    return torch.stack(totals).sum(0), torch.stack(counts).sum(0)
