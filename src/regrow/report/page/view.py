"""Figures and tables as the templates of a page read them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..figures.line import slug
from ..figures.sheet import Drawing, Missing
from ..figures.standings import Standing, Standings
from ..style import SETTING_LABELS, look
from ..tables.table import Table
from .cards import Card
from .data import DASHES
from .finding import difference, halves, says
from .svg import Picture, pictures, themed


@dataclass(frozen=True)
class LegendEntry:
    """An entry of a legend."""

    key: str
    label: str
    colour: str
    dashes: str


@dataclass(frozen=True)
class View:
    """A figure of one choice of runs; name: of its files."""

    name: str
    length: str
    caption: str
    panels: Sequence[Picture]


@dataclass(frozen=True)
class Figure:
    """A figure of the page.

    headline: the statement that it is about, or None; related: all that it shows.
    says: what it shows where there is no such statement, one sentence or nothing; warning: of its runs, or nothing.
    views: one, or one for each choice of runs.
    """

    name: str
    title: str
    alt: str
    legend: Sequence[LegendEntry]
    views: Sequence[View]
    lacks: str
    headline: Card | None = None
    related: Sequence[Card] = ()
    says: str = ""
    warning: str = ""

    @property
    def finding(self) -> str:
        """Its headline in words; its title where there is none."""
        return self.headline.text if self.headline else self.says or self.title


def figure(
    drawing: Drawing,
    svgs: Mapping[str, str],
    headline: Card | None = None,
    related: Sequence[Card] = (),
    warning: str = "",
) -> Figure:
    """A drawing as the page shows it.

    Args:
        drawing: with its other choice of runs, if it has one.
        svgs: {name of a drawing: its file}
        headline, related: statements that it shows.
        warning: of its runs, or nothing.
    """
    views = [
        View(each.name, each.length, each.caption, pictures(each, svgs[each.name]))
        for each in (drawing, *drawing.others)
    ]
    legend = [LegendEntry(slug(own.label), own.label, themed(own.colour), DASHES[own.dashes]) for own in drawing.looks]
    lacks = "; ".join(gap.reason for gap in drawing.gaps)
    return Figure(
        drawing.name, drawing.title, drawing.alt, legend, views, lacks, headline, related, says(drawing), warning
    )


@dataclass(frozen=True)
class LevelCell:
    """A system in a setting: our accuracy, its error, the published level and the difference; empty where unknown."""

    ours: str
    error: str
    papers: str
    difference: str
    best: bool


@dataclass(frozen=True)
class Levels:
    """The six systems in four settings; rows: (legend entry, a cell for each setting or None)."""

    length: str
    last: int
    settings: Sequence[str]
    rows: Sequence[tuple[LegendEntry, Sequence[LevelCell | None]]]
    leaders: str


def levels(view: Standings) -> Levels:
    """Our accuracy at the end beside the published levels."""
    rows = []
    for system in view.systems:
        own = look(system)
        cells = [_cell(view, setting, view.cells.get((setting, system))) for setting in view.settings]
        rows.append((LegendEntry(slug(own.label), own.label, themed(own.colour), DASHES[own.dashes]), cells))
    others = {s: view.best(s) for s in view.settings if view.best(s) != "swr"}
    leaders = ", ".join(f"{look(system).label} in “{SETTING_LABELS[setting]}”" for setting, system in others.items())
    return Levels(view.length, view.last, [SETTING_LABELS[setting] for setting in view.settings], rows, leaders)


def _cell(view: Standings, setting: str, standing: Standing | None) -> LevelCell | None:
    if standing is None:
        return None
    effect, known = standing.effect, standing.published
    error = effect.error
    papers, behind = "", ""
    if known:
        ends = [known.low] if known.high is None else [known.low, known.high]
        papers = " to ".join(f"{end:.2f}" if known.exact else halves(end) for end in ends)
        papers = papers if known.exact else f"≈ {papers}"
    if standing.behind is not None and known:
        behind = difference(standing.behind, known.exact)
    return LevelCell(
        ours=f"{effect.value:.1f}" if not known or not known.exact else f"{effect.value:.2f}",
        error=f"{error:.1f}" if error == error and error >= 0.05 and effect.basis == "seeds" else "",
        papers=papers,
        difference=behind,
        best=view.best(setting) == standing.system,
    )


@dataclass(frozen=True)
class Group:
    """Rows of a table that share the cells that name them."""

    name: str
    rows: Sequence[Sequence[str]]


def groups(table: Table) -> list[Group]:
    """The rows of a table under their first cell, where it stands for several rows; else all as one group."""
    firsts = [row[0] for row in table.rows]
    if table.heads < 2 or len(set(firsts)) == len(firsts):
        return [Group("", table.rows)]
    return [Group(first, [row for row in table.rows if row[0] == first]) for first in dict.fromkeys(firsts)]


def missing(drawn: Iterable[Drawing | Missing]) -> list[Missing]:
    """What no results cover: whole figures, and parts of others."""
    return [gap for each in drawn for gap in ((each,) if isinstance(each, Missing) else each.gaps)]
