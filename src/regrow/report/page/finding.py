"""What a page says in sentences: the answer, and the headline of a figure, made from measured effects and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...lab.studies import SIX
from ..claims import NOT_RUN
from ..claims.quantities import against_fresh
from ..figures.sheet import Drawing, Shown
from ..figures.standings import Standings
from ..format import number
from ..runs import Runs
from ..stats import SEEDS, Effect
from ..style import FOUR, SETTING_LABELS, look
from .cards import AGAINST, FOR, Card

NAMES = {
    "base": "ordinary training",
    "l2": "L2",
    "shrink-perturb": "shrink-and-perturb",
    "cbp": "continual backpropagation",
    "redo": "ReDo",
    "swr": "selective weight reinitialization (SWR)",
}
"""{system: its name in a sentence}"""
LEADING = {1: ("2a", "2b", "3c"), 2: ("7c", "5c", "6c", "8a"), 3: ("14a", "13a", "13c")}
"""{figure of the paper: the statements that its headline may be of, the first that is decided}"""


@dataclass(frozen=True)
class Answer:
    """The first lines of a page.

    sentence: what keeps a network trainable; more: who leads where.
    basis: how sure that is.
    """

    sentence: str
    more: str = ""
    basis: str = ""


def answer(runs: Runs, view: Standings | None) -> Answer:
    """Which systems end above a fresh network, the paper's definition of plasticity, and which learn best.

    Args:
        runs: on permuted images.
        view: where the six systems stand; None where none has runs.
    """
    if view is None:
        return Answer("These runs are of none of the paper's six systems, so they do not answer its question.")
    kept, lost = _against_fresh(runs, view)
    settings = list(next(iter(kept.values()), {}))
    leaders = _leaders(view)
    if not settings:
        return Answer(_capital(f"{leaders}."), basis=_basis(view))
    whole = [system for system, effects in kept.items() if len(effects) == len(settings) and _all_above(effects)]
    fallen = lost.get("base", 0)
    base = f"; {NAMES['base']} falls below one in {_of(fallen, len(settings))}" if fallen else ""
    if whole:
        only = "Only " if len(whole) == 1 else ""
        verb = "ends" if len(whole) == 1 else "end"
        where = f"in {_all(len(settings))} {_plural('setting', len(settings))}"
        sentence = f"{only}{_listed([NAMES[system] for system in whole])} {verb} above a fresh network {where}{base}."
    else:
        counts = {system: sum(effect.low > 0 for effect in effects.values()) for system, effects in kept.items()}
        most = max(counts.values())
        first = [NAMES[system] for system, count in counts.items() if count == most]
        sentence = f"No system ends above a fresh network in every setting{base}."
        if most:
            sentence = f"{sentence[:-1]}; {_listed(first)} does so in {_of(most, len(settings))}."
    return Answer(_capital(sentence), _capital(f"{leaders}."), _basis(view))


def _against_fresh(runs: Runs, view: Standings) -> tuple[dict[str, dict[str, Effect]], dict[str, int]]:
    """{system: {setting: its end minus a fresh network}}, and {system: in how many settings it ends below one}."""
    effects: dict[str, dict[str, Effect]] = {}
    for system in SIX:
        for setting in FOUR:
            mine = view.cells.get((setting, system))
            found = against_fresh(setting, system).measure(runs).effects if mine else ()
            same = [effect for effect in found if mine and effect.tasks == mine.effect.tasks] or list(found[:1])
            if same:
                effects.setdefault(system, {})[setting] = same[0]
    longest = max((len(by) for by in effects.values()), default=0)
    kept = {system: by for system, by in effects.items() if len(by) == longest}
    return kept, {system: sum(effect.high < 0 for effect in by.values()) for system, by in kept.items()}


def _all_above(effects: Mapping[str, Effect]) -> bool:
    return all(effect.low > 0 for effect in effects.values())


def _leaders(view: Standings) -> str:
    """Who has the highest accuracy at the end, where."""
    by_system: dict[str, list[str]] = {}
    for setting in view.settings:
        by_system.setdefault(view.best(setting), []).append(SETTING_LABELS[setting])
    order = [system for system in reversed(SIX) if system in by_system]
    verbs = ["leads in", *["in"] * (len(order) - 1)]
    parts = [f"{look(s).label} {verb} {_quoted(by_system[s])}" for s, verb in zip(order, verbs, strict=True)]
    return f"over the last {view.last} tasks {_listed(parts)}"


def _quoted(names: Sequence[str]) -> str:
    return _listed([f"“{name}”" for name in names])


def _basis(view: Standings) -> str:
    """How many runs that rests on, and what the paper has."""
    fewer = "" if view.sure else f"; fewer than {SEEDS} seeds, so it says what these runs did"
    return f"{view.length} of each system; the paper has 1,000 tasks and 30 seeds{fewer}"


def headline(listed: Sequence[Card], figure: int) -> Card | None:
    """The statement that a figure of the paper is about: the first leading one that is decided, or that is open."""
    own = {card.id: card for card in listed if card.grade != NOT_RUN}
    leading = [own[name] for name in LEADING.get(figure, ()) if name in own]
    leading = leading or [card for card in own.values() if card.figure == figure]
    decided = [card for card in leading if card.grade in (*FOR, *AGAINST)]
    return next(iter([*decided, *leading]), None)


def says(drawing: Drawing) -> str:
    """What a figure of what the paper does not show says, one sentence from its last third; empty for any other."""
    if drawing.name == "cost":
        return _cost(drawing.panels)
    make = {"zero-gradient": _zero_gradient, "against-fresh": _above_fresh}.get(drawing.name)
    return make([_ends(panel) for panel in drawing.panels]) if make else ""


def _ends(panel: Shown) -> dict[str, float]:
    """{label: its mean over the last third of its points} of lines that come so far"""
    lasts = {each.look.label: each.mean[-max(1, len(each.mean) // 3) :] for each in panel.series}
    return {label: float(last.mean()) for label, last in lasts.items() if np.isfinite(last).all()}


def _zero_gradient(ends: Sequence[Mapping[str, float]]) -> str:
    swr, only, spared = (look(name).label for name in ("swr", "swr-zero-only", "swr-zero-spared"))
    both = [end for end in ends if {swr, only, spared} <= end.keys()]
    if not both:
        return ""
    apart = max(abs(end[only] - end[swr]) for end in both)
    less = [end[swr] - end[spared] for end in both]
    ends_below = dict.fromkeys([number(min(less), 1), number(max(less), 1)])
    return (
        f"Renewing only what has utility 0 ends within {apart:.1f} points of {swr}; renewing all but that ends "
        f"{' to '.join(ends_below)} points below."
    )


def _above_fresh(ends: Sequence[Mapping[str, float]]) -> str:
    labels = [look(system).label for system in SIX]
    counts = {name: sum(end.get(name, -1) > 0 for end in ends) for name in labels if any(name in end for end in ends)}
    if not counts:
        return ""
    by_count: dict[int, list[str]] = {}
    for name, above in counts.items():
        by_count.setdefault(above, []).append(name)
    parts = [f"{_listed(names)} in {above}" for above, names in sorted(by_count.items(), reverse=True)]
    parts[0] = f"{parts[0]} of {len(ends)} {_plural('setting', len(ends))}"
    return f"Above a fresh network at the end: {', '.join(parts)}."


def _cost(panels: Sequence[Shown]) -> str:
    base, parts = look("base").label, []
    for panel in panels:
        times = {each.look.label: float(each.x[0]) for each in panel.series}
        if base in times and look("swr").label in times:
            parts.append(f"{times[look('swr').label] / times[base]:.2f} times the base's in “{panel.title}”")
    return f"An update with {look('swr').label} takes {_listed(parts)}." if parts else ""


def difference(value: float, exact: bool) -> str:
    """Ours minus a published level; without tenths where that was read off a chart.

    Example:
        >>> difference(0.014, True), difference(-0.66, False), difference(1.9, False)
        ('+0.01', '≈ −½', '≈ +2')
    """
    return number(value, 2, sign=True) if exact else f"≈ {halves(value, sign=True)}"


def halves(value: float, sign: bool = False) -> str:
    """A number to its nearest half.

    Example:
        >>> halves(93.5), halves(-0.66, sign=True), halves(0.1, sign=True), halves(-1.4, sign=True)
        ('93½', '−½', '0', '−1½')
    """
    twice = round(2 * value)
    whole, half = divmod(abs(twice), 2)
    digits = f"{whole or ''}½" if half else f"{whole}"
    before = "−" if twice < 0 else "+" if sign and twice else ""
    return before + digits


def _listed(parts: Sequence[str]) -> str:
    """Parts of a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""


def _of(part: int, whole: int) -> str:
    if part == whole:
        return "it" if whole == 1 else _all(whole)
    return f"{_count(part)} of {_count(whole)}"


def _all(n: int) -> str:
    return {1: "the one", 2: "both"}.get(n, f"all {_count(n)}")


def _count(n: int) -> str:
    return {1: "one", 2: "two", 3: "three", 4: "four"}.get(n, str(n))


def _plural(word: str, n: int) -> str:
    return word if n == 1 else f"{word}s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
