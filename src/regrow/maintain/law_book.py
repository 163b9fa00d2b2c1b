"""The law of every parameter that a maintainer may draw anew."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .. import check
from ..laws import Law, law_from_dict, resolve_laws
from ..names import Entry


class LawBook:
    """Laws by name: found when a parameter is first seen, and kept.

    Args:
        given: {name pattern: law}, or the source of all.
    """

    def __init__(self, given: Mapping[str, Law] | str | None) -> None:
        self._given = given
        self._laws: dict[str, Law] = {}
        self._shapes: dict[str, torch.Size] = {}
        self._kinds: dict[str, type[nn.Module]] = {}  # of the modules when the laws were found

    def admit(self, entries: list[Entry], among: list[Entry]) -> None:
        """Find the law of every parameter that has none yet, or is not of the shape it had.

        Args:
            entries: those that may be drawn.
            among: all of the model's.
        """
        new = [e for e in entries if e.parameter.numel() and self._shapes.get(e.name) != e.parameter.shape]
        self._laws |= resolve_laws(new, self._given, among=among)
        self._shapes |= {e.name: e.parameter.shape for e in new if e.name in self._laws}
        self._kinds |= {e.name: type(e.module) for e in new}

    def law(self, entry: Entry) -> Law:
        """That of one parameter.

        Raises:
            ValueError: where it has none, or its module is of another kind than when it was found.
        """
        if entry.name not in self._laws:
            raise ValueError(
                f"{entry.name!r} was frozen when the laws were taken and has none: "
                f"give it one with laws={{{entry.name!r}: ...}}, or leave it out with skip={entry.name!r}"
            )
        if entry.name in self._kinds and self._kinds[entry.name] is not type(entry.module):
            was, now = self._kinds[entry.name].__name__, type(entry.module).__name__
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
