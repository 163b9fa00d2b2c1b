"""A verdict: its grade, the number it hangs on, and all a reader needs to check it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...lab.runs.text import counted
from ..format import number
from ..stats import Effect
from .statement import Test

CONFIRMED, CONTRADICTED, AGREES, DISAGREES = "confirmed", "contradicted", "agrees", "disagrees"
UNDECIDED, NOT_RUN = "undecided", "not run"
GRADES = (CONFIRMED, CONTRADICTED, AGREES, DISAGREES, UNDECIDED, NOT_RUN)
"""By at least three seeds, after Holm's correction: confirmed, contradicted. What one or two seeds did: agrees,
disagrees. The runs do not decide: undecided. Some are missing: not run."""
EXPLORATORY, CONFIRMATORY = "exploratory", "confirmatory"

HOLDS, FAILS, OPEN = "holds", "fails", "not enough data"
"""What verdicts were called before there were grades."""
_IN_OLD_WORDS = {CONFIRMED: HOLDS, CONTRADICTED: FAILS}


@dataclass(frozen=True)
class Outcome:
    """One test of a statement and what the runs say.

    effect: the quantity over most seeds, which decides; None where runs are missing.
    other: in the longest runs, where those are others.
    lacks: what is missing; empty if nothing is.
    """

    test: Test
    effect: Effect | None
    other: Effect | None
    lacks: str

    def in_words(self) -> str:
        """One line: the quantity, its interval, the bound, n."""
        quantity, effect = self.test.quantity, self.effect
        if effect is None:
            return f"{quantity.name}, {quantity.setting}: {self.lacks}"
        return f"{quantity.name}, {quantity.setting}: {in_words(effect, quantity.unit)}; asked {self._asked()}"

    def _asked(self) -> str:
        return f"{self.test.side} {self.test.bound:g}".replace("-", "−")


@dataclass(frozen=True)
class Verdict:
    """What our runs say of one statement.

    criterion: what is computed and when the statement is true.
    grade: one of `GRADES`.
    reason: one line, plain.
    effect, unit: of the test that decides: the weakest where the statement is true or open, else the strongest
        against it.
    p: two-sided, of the whole statement against its contrary; p_holm: adjusted over the statements of one claim. Both
        None for fewer than three seeds, and never below `SMALLEST_P`.
    command: makes the runs that decide, or those that are missing.
    evidence: "confirmatory" where the seeds that were not known when the rules were made, at least three, give the
        same grade alone; else "exploratory"; empty where nothing was run.
    old_verdict: what the rules before these say of the same runs; empty for a statement they did not have.
    second: what the longest runs say, one line, not corrected; empty where they are the same.
    beside: numbers that are shown and not judged, in lines.
    notes: lines.
    """

    id: str
    text: str
    place: str
    criterion: str
    settings: tuple[str, ...]
    systems: tuple[str, ...]
    grade: str
    reason: str
    effect: Effect | None = None
    unit: str = ""
    p: float | None = None
    p_holm: float | None = None
    command: str = ""
    evidence: str = ""
    old_verdict: str = ""
    second: str = ""
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parts: tuple[Outcome, ...] = ()

    @property
    def claim(self) -> int:
        """Number of the paper's claim that it is part of."""
        return int(self.id.rstrip("abcdefghij"))

    @property
    def size(self) -> tuple[int | None, int | None]:
        """The fewest seeds and tasks of any test; None where nothing was run."""
        effects = [part.effect for part in self.parts if part.effect] if self.effect else []
        return size(effects) if effects else (None, None)

    @property
    def decided(self) -> bool:
        """Whether it is confirmed or contradicted."""
        return self.grade in (CONFIRMED, CONTRADICTED)

    @property
    def verdict(self) -> str:
        """The grade in the words used before: kept for one release."""
        return _IN_OLD_WORDS.get(self.grade, OPEN)


def size(effects: Sequence[Effect]) -> tuple[int, int]:
    """The fewest seeds and tasks of any test."""
    return min(effect.seeds for effect in effects), min(effect.tasks for effect in effects)


def in_words(effect: Effect, unit: str) -> str:
    """An effect in words: +1.20 points [1.00, 1.40] (5 seeds x 200 tasks)."""
    within = "" if effect.basis == "seeds" else ", within these runs only"
    ends = f"[{number(effect.low, 2)}, {number(effect.high, 2)}]"
    n = f"{counted(effect.seeds, 'seed')} × {effect.tasks} tasks"
    return f"{number(effect.value, 2, sign=True)} {unit} {ends} ({n}{within})"
