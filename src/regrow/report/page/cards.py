"""A verdict as a page shows it: its grade, and each of its tests on an axis beside the criterion and the paper's value.

This is the only place of the page that knows what a verdict is made of.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...lab.runs.text import counted
from ..claims import AGREES, CONFIRMED, CONTRADICTED, DISAGREES, NOT_RUN, UNDECIDED, Outcome, Verdict
from ..claims.quantity import label
from ..format import chance, number, p_is
from ..published import level
from ..style import SETTING_LABELS, VIT_SETTING_LABELS

GRADES = {
    CONFIRMED: "at least three seeds say so",
    AGREES: "one or two seeds say so",
    UNDECIDED: "measured, and not decided",
    DISAGREES: "one or two seeds say otherwise",
    CONTRADICTED: "at least three seeds say otherwise",
    NOT_RUN: "runs are missing",
}
"""{grade: what it means}, in the order of a page."""
FOR, AGAINST = (CONFIRMED, AGREES), (CONTRADICTED, DISAGREES)
_FIGURE = re.compile(r"figures?\s+(\d+)")
_LABELS = SETTING_LABELS | VIT_SETTING_LABELS


@dataclass(frozen=True)
class Mark:
    """One test of a statement on its axis; places are shares of the axis's length, None where there is none.

    setting: empty where all tests are of one.
    reads: the value with its interval, the criterion, and the paper's value, in words.
    """

    name: str
    setting: str
    reads: str
    at: float
    low: float | None
    high: float | None
    bound: float
    side: str
    paper: float | None


@dataclass(frozen=True)
class Axis:
    """The tests of one unit; ticks: (place, text)."""

    unit: str
    marks: Sequence[Mark]
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Card:
    """One statement of the paper that can be read alone.

    n: seeds and tasks; figure: the number of the paper's figure that shows it, 0 for none.
    details: further lines, plain.
    """

    id: str
    text: str
    place: str
    settings: str
    grade: str
    effect: str
    n: str
    criterion: str
    reason: str
    command: str
    figure: int
    axes: Sequence[Axis]
    details: Sequence[str]

    @property
    def anchor(self) -> str:
        """Its place in the page, for permanent links."""
        return f"claim-{self.id}"

    @property
    def kind(self) -> str:
        """Its grade as the name of a style."""
        return self.grade.replace(" ", "-")


def cards(verdicts: Iterable[Verdict]) -> list[Card]:
    """A card for each verdict, in their order."""
    return [_card(verdict) for verdict in verdicts]


def tally(listed: Iterable[Card]) -> dict[str, list[Card]]:
    """{grade: its cards} of the grades that there are, in the order of `GRADES`."""
    listed = list(listed)
    sorted_ = {name: [card for card in listed if card.grade == name] for name in GRADES}
    return {name: of for name, of in sorted_.items() if of}


def of_figure(listed: Iterable[Card], number_: int) -> list[Card]:
    """The cards that a figure of the paper shows, what was not run left out."""
    return [card for card in listed if card.figure == number_ and card.grade != NOT_RUN]


def _card(verdict: Verdict) -> Card:
    effect = verdict.effect
    found = _FIGURE.search(verdict.place)
    details = [
        f"{p_is(verdict.p)}, after Holm's correction {chance(verdict.p_holm)}" if verdict.p is not None else "",
        f"The longest runs: {verdict.second}" if verdict.second else "",
        f"Under the earlier rules: {verdict.old_verdict}" if verdict.old_verdict else "",
        f"Evidence: {verdict.evidence}" if verdict.evidence else "",
        *verdict.beside,
        *verdict.notes,
    ]
    return Card(
        id=verdict.id,
        text=verdict.text,
        place=verdict.place,
        settings=", ".join(_LABELS.get(setting, setting) for setting in verdict.settings),
        grade=verdict.grade,
        effect=_interval(effect.value, effect.low, effect.high, verdict.unit) if effect else "",
        n=f"{counted(effect.seeds, 'seed')} × {counted(effect.tasks, 'task')}" if effect else "",
        criterion=verdict.criterion,
        reason=verdict.reason,
        command=verdict.command,
        figure=int(found[1]) if found else 0,
        axes=_axes(verdict.parts),
        details=[line for line in details if line],
    )


def _interval(value: float, low: float, high: float, unit: str) -> str:
    ends = f" [{number(low, 2)}, {number(high, 2)}]" if math.isfinite(low + high) else ""
    return f"{number(value, 2, sign=True)} {unit}{ends}"


def _axes(parts: Sequence[Outcome]) -> list[Axis]:
    """An axis for each unit."""
    by_unit: dict[str, list[Outcome]] = {}
    for part in parts:
        if part.effect is not None:
            by_unit.setdefault(part.test.quantity.unit, []).append(part)
    return [_axis(unit, own) for unit, own in by_unit.items()]


def _axis(unit: str, parts: Sequence[Outcome]) -> Axis:
    papers = [_papers(part) for part in parts]
    ends = [v for part in parts if part.effect for v in (part.effect.value, part.effect.low, part.effect.high)]
    ends += [part.test.bound for part in parts] + [value for value in papers if value is not None] + [0.0]
    ends = [end for end in ends if math.isfinite(end)]
    low, high = min(ends), max(ends)
    gap = 0.06 * (high - low) or 1.0
    low, high = low - gap, high + gap

    def place(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else (value - low) / (high - low)

    marks, several = [], len({part.test.quantity.setting for part in parts}) > 1
    for part, papers_own in zip(parts, papers, strict=True):
        effect, test = part.effect, part.test
        assert effect is not None
        reads = (
            f"{_interval(effect.value, effect.low, effect.high, unit)}; criterion {test.side} {number(test.bound, 2)}"
        )
        reads += f"; the paper's {number(papers_own, 2, sign=True)}" if papers_own is not None else ""
        marks.append(
            Mark(
                test.quantity.name,
                _LABELS.get(test.quantity.setting, test.quantity.setting) if several else "",
                reads,
                place(effect.value) or 0.0,
                place(effect.low),
                place(effect.high),
                place(test.bound) or 0.0,
                test.side,
                place(papers_own),
            )
        )
    return Axis(unit, marks, [(place(tick) or 0.0, number_text(tick)) for tick in ticks(low, high)])


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within an axis, at most so many.

    Example:
        >>> ticks(-1.2, 4.1), ticks(0.03, 0.31, most=4)
        ([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3])
    """
    power = 10.0 ** math.floor(math.log10(high - low) - 1)
    for step in (factor * power for factor in (1, 2, 5, 10, 20, 50, 100)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [round(i * step, 10) + 0.0 for i in range(first, last + 1)]
    return []


def number_text(value: float) -> str:
    """A tick's text.

    Example:
        >>> number_text(-0.5), number_text(20.0)
        ('−0.5', '20')
    """
    return f"{value:g}".replace("-", "−")


def _papers(part: Outcome) -> float | None:
    """The paper's value of a difference of two systems, where both levels are published as numbers of one kind."""
    quantity = part.test.quantity
    if len(quantity.systems) != 2 or quantity.name != " minus ".join(map(label, quantity.systems)):
        return None
    one, two = (level(quantity.setting, system) for system in quantity.systems)
    if one is None or two is None or one.kind != two.kind or one.high or two.high:
        return None
    return one.low - two.low
