"""The law of every parameter that a maintainer may draw anew."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .. import check
from ..laws import Law, Resolved, grown_laws, law_from_dict, look_up_laws
from ..names import Entry
from ..shards import made_as


class LawBook:
    """Laws by name: found when a parameter is first seen, and kept.

    Missing laws and laws fitted to values are reported only by `settle`: a stored state may still supply them, and
    frameworks load it after creating the maintainer.

    Args:
        given: {name pattern: law}, a fresh module, or the source of all.
    """

    def __init__(self, given: Any) -> None:
        self._given = given
        self._laws: dict[str, Law] = {}
        self._shapes: dict[str, torch.Size] = {}
        self._kinds: dict[str, type[nn.Module]] = {}  # of the modules when the laws were found
        self._pending = Resolved({}, {}, {})  # what is still to be reported
        self._unseen: dict[str, Entry] = {}  # on the meta device: they have no values yet
        self._among: list[Entry] = []

    def admit(self, entries: list[Entry], among: list[Entry]) -> None:
        """Find the law of every parameter that has none yet; one that has grown keeps its law.

        Args:
            entries: those that may be drawn.
            among: all of the model's.
        """
        new = [e for e in entries if e.parameter.numel() and self._shapes.get(e.name) != e.parameter.shape]
        kept = grown_laws(new, self._laws, self._shapes)
        fresh = [entry for entry in new if entry.name not in kept]
        self._unseen |= {entry.name: entry for entry in fresh if entry.parameter.is_meta}
        self._among = among
        self._laws |= kept
        self._look_up(fresh)
        self._shapes |= {e.name: e.parameter.shape for e in new if e.name in self._laws}
        self._pending = self._pending.without(kept)
        self._kinds |= {e.name: made_as(e.module) for e in new}

    def _look_up(self, entries: list[Entry]) -> None:
        resolved = look_up_laws(entries, self._given, among=self._among)
        before = self._pending.without([entry.name for entry in entries])
        self._pending = Resolved({}, before.problems | resolved.problems, before.guesses | resolved.guesses)
        self._laws |= resolved.laws

    def settle(self) -> None:
        """Raise for missing laws and warn of fitted ones, before they are used to change anything.

        Raises:
            ValueError: for parameters without a law.
        """
        if seen := [entry for entry in self._unseen.values() if not entry.parameter.is_meta]:
            self._unseen = {name: entry for name, entry in self._unseen.items() if entry not in seen}
            self._look_up(seen)
        if self._pending.problems or self._pending.guesses:
            pending = self._pending
            if not pending.problems:
                self._pending = Resolved({}, {}, {})
            pending.settle(stacklevel=2)

    def law(self, entry: Entry) -> Law:
        """The law of one parameter.

        Raises:
            ValueError: where it has none, or its module is of another kind than when it was found.
        """
        if entry.name not in self._laws:
            raise ValueError(
                f"{entry.name!r} was frozen when the laws were taken and has none: "
                f"give it one with laws={{{entry.name!r}: ...}}, or leave it out with skip={entry.name!r}"
            )
        if entry.name in self._kinds and self._kinds[entry.name] is not made_as(entry.module):
            was, now = self._kinds[entry.name].__name__, made_as(entry.module).__name__
            raise ValueError(
                f"the module of {entry.name!r} was a {was} when its law was taken and is a {now} now: make the "
                "maintainer after converting the model"
            )
        return self._laws[entry.name]

    def state_dict(self) -> dict[str, Any]:
        return {name: law.to_dict() for name, law in self._laws.items()}

    @staticmethod
    def read(state: Mapping[str, Any]) -> dict[str, Law]:
        """The laws of a stored state, checked."""
        return {name: law_from_dict(stored) for name, stored in check.field(state, "laws", Mapping).items()}

    def take(self, laws: dict[str, Law], entries: list[Entry]) -> None:
        """Continue with stored laws."""
        self._laws |= laws
        self._shapes |= {e.name: e.parameter.shape for e in entries if e.name in laws}
        self._pending = self._pending.without(laws)
        self._unseen = {name: entry for name, entry in self._unseen.items() if name not in laws}
