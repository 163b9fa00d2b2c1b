"""Where the six systems stand at the end of a run in each setting, beside what their authors published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...lab.studies import SIX
from ..margins import LAST
from ..published import Level, level
from ..runs import FRESH, Run, Runs, papers_id
from ..stats import SEEDS, Effect, average
from ..style import FOUR
from .lengths import choices, in_words, most_seeds


@dataclass(frozen=True)
class Standing:
    """A system at the end of its runs.

    runs: those that count, of equal length.
    last: tasks of the end; effect: online accuracy over them, in percent.
    published: its level, at the paper's values; None where there is none.
    """

    setting: str
    system: str
    runs: Sequence[Run]
    last: int
    effect: Effect
    published: Level | None

    @property
    def behind(self) -> float | None:
        """Ours minus the published level, in points; None where it is unknown or a range."""
        known = self.published
        return self.effect.value - known.low if known and known.high is None else None


@dataclass(frozen=True)
class Standings:
    """Every system that has runs, of one choice of them.

    fresh: {setting: online accuracy of a network that starts over at every task, in percent}
    """

    length: str
    cells: Mapping[tuple[str, str], Standing]
    fresh: Mapping[str, float]

    @property
    def settings(self) -> list[str]:
        """Those that have a system."""
        return [setting for setting in FOUR if any(key[0] == setting for key in self.cells)]

    @property
    def systems(self) -> list[str]:
        """Those that have a setting."""
        return [system for system in SIX if any(key[1] == system for key in self.cells)]

    def best(self, setting: str) -> str:
        """The system of highest accuracy."""
        return max(
            (key[1] for key in self.cells if key[0] == setting), key=lambda s: self.cells[setting, s].effect.value
        )

    @property
    def last(self) -> int:
        """Tasks of the end, of the longest runs."""
        return max(each.last for each in self.cells.values())

    @property
    def sure(self) -> bool:
        """Whether all have enough seeds for an interval between seeds."""
        return all(len(each.runs) >= SEEDS for each in self.cells.values())


def standings(runs: Runs) -> tuple[Standings, ...]:
    """One for each choice of runs, the first is what a reader sees; none where no system has runs."""
    mains = {(setting, system): main for setting in FOUR for system in SIX if (main := runs.main(setting, system))}
    if not mains:
        return ()
    fresh = {s: float(average(_accuracy(main)).value) for s in FOUR if (main := most_seeds(runs.main(s, FRESH)))}
    views = []
    for choose in choices(mains.values()):
        chosen = {key: choose(main) for key, main in mains.items()}
        cells = {key: _standing(*key, kept) for key, kept in chosen.items()}
        views.append(Standings(in_words(chosen.values()), cells, fresh))
    return tuple(views)


def _standing(setting: str, system: str, runs: Sequence[Run]) -> Standing:
    tasks = runs[0].tasks
    last = min(LAST, max(1, tasks // 2))
    effect = replace(average(_accuracy(runs)[:, -last:]), tasks=tasks)
    known = level(setting, system) if runs[0].config_id == papers_id(setting, system) else None
    return Standing(setting, system, runs, last, effect, known)


def _accuracy(runs: Sequence[Run]):
    """Online accuracy in percent, (S, T)."""
    return np.stack([run.measure("online_accuracy") for run in runs])
