"""The page of a report: one HTML file that needs nothing else, and its figures and tables as files beside it."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ... import __version__
from ...lab.runs.files import cannot_write, write_whole
from ..claims import Verdict, to_json
from ..figures.sheet import Drawing, Missing
from ..figures.standings import standings
from ..results import Folder, Results, combine
from ..results_vit import ViTResults, is_vit
from ..results_vit import combine as combine_vit
from ..tables.table import Table, one_line
from . import cards as verdict_cards
from . import data, finding, view
from . import svg as files
from .part import NEW, Part
from .part import permuted as permuted_part
from .part_vit import part as vit_part

AnyResults = Results | ViTResults
NAME = "index.html"
GENERATOR = "regrow report"
TITLE = "Weights or units: report"
LEADING = ("figure-01", "figure-02", "figure-03")
"""Figures that a page shows in this order; all others of the paper are folded."""
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Chapter:
    """A part as the templates read it; groups: (name, its folded figures)."""

    key: str
    title: str
    about: str
    warning: str
    cards: Sequence[verdict_cards.Card]
    groups: Sequence[tuple[str, Sequence[view.Figure]]]
    tables: Sequence[Table]
    runs: Table
    missing: Sequence[Missing]
    method: Sequence[tuple[str, str]]


def write_page(
    results: AnyResults | Sequence[AnyResults], out: Path, *, refresh: int | None = None, note: str = ""
) -> list[Verdict]:
    """Write the report: `index.html`, `claims.json`, `figures/*.svg|csv`, `tables/*.md|tex`, each whole or not.

    The first figure is also written as a PNG file, for pages that show no SVG.

    Args:
        results: of one problem or several, from `gather`; one chapter of the page each.
        out: folder to write into; it is made if it does not exist.
        refresh: seconds after which an open page reloads itself.
        note: a line at the top of the page.

    Returns:
        The verdicts.

    Raises:
        OSError: where it cannot be written, or `out` has an index.html that is no report.
    """
    prepare(out)
    listed = [results] if isinstance(results, Results | ViTResults) else list(results)
    parts = [vit_part(each) if isinstance(each, ViTResults) else permuted_part(each) for each in listed]
    verdicts = [verdict for part in parts for verdict in part.verdicts]
    heroes = [part.hero for part in parts if part.hero]
    drawn = [*heroes, *(each for part in parts for each in part.drawn)]
    svgs = {each.name: files.svg(each) for each in every(drawn)}
    page = _page(listed, parts, svgs, refresh, note)
    for table in (table for part in parts for table in (part.runs, *part.tables, part.claims)):
        write_whole(out / "tables" / f"{table.name}.md", table.to_markdown().encode())
        write_whole(out / "tables" / f"{table.name}.tex", table.to_latex().encode())
    _write_figures(out / "figures", drawn, svgs, [each for each in heroes if isinstance(each, Drawing)])
    margins = {name: margin for part in parts for name, margin in part.margins.items()}
    write_whole(out / "claims.json", to_json(verdicts, margins).encode())
    write_whole(out / NAME, page.encode())
    return verdicts


def gather(folders: Sequence[Folder]) -> list[AnyResults]:
    """Put the folders of each problem together: permuted images first, then CIFAR-100.

    Raises:
        ValueError: where those of a problem are of different images or sizes, or hold nothing that a report knows.
    """
    permuted, vit = ([folder for folder in folders if is_vit(folder) == which] for which in (False, True))
    return [*([combine(permuted)] if permuted else []), *([combine_vit(vit)] if vit else [])]


def prepare(out: Path) -> None:
    """Make the folders of a report, and refuse one that holds something else.

    Raises:
        OSError: where they cannot be made, or `out` has an index.html that is no report.
    """
    page = out / NAME
    if page.exists() and f'content="{GENERATOR}' not in page.read_text(errors="replace")[:2000]:
        raise OSError(f"{page} is no report and would be overwritten: choose another --out")
    for folder in (out, out / "figures", out / "tables"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error


def every(drawn: Sequence[Drawing | Missing]) -> list[Drawing]:
    """All drawings, those of another choice of runs after each."""
    return [one for each in drawn if isinstance(each, Drawing) for one in (each, *each.others)]


def _write_figures(
    folder: Path, drawn: Sequence[Drawing | Missing], svgs: Mapping[str, str], heroes: Sequence[Drawing]
) -> None:
    """The files of all figures; those of an earlier report that this one lacks are deleted."""
    shown = every(drawn)
    written = {f"{each.name}.{kind}" for each in shown for kind in ("svg", "csv")}
    written |= {f"{each.name}.png" for each in heroes}
    for each in drawn:
        for path in folder.glob(f"{each.name}*"):
            if path.name not in written and path.suffix in (".svg", ".png", ".csv"):
                path.unlink()
    for each in shown:
        write_whole(folder / f"{each.name}.svg", svgs[each.name].encode())
        write_whole(folder / f"{each.name}.csv", data.csv(each).encode())
    for each in heroes:
        write_whole(folder / f"{each.name}.png", files.png(each))


def _page(
    results: Sequence[AnyResults], parts: Sequence[Part], svgs: Mapping[str, str], refresh: int | None, note: str
) -> str:
    """The whole page."""
    cards = {part.key: verdict_cards.cards(part.verdicts) for part in parts}
    flat = [card for own in cards.values() for card in own]
    shown = [(part, each) for part in parts for each in (part.hero, *part.drawn) if isinstance(each, Drawing)]
    drawings = {each.name: each for _, each in shown}
    figures = {each.name: _figure(each, svgs, flat, part.warning) for part, each in shown}
    chapters = [_chapter(part, cards[part.key], figures) for part in parts]
    permuted = next((each for each in results if isinstance(each, Results)), None)
    views = standings(permuted.runs) if permuted else ()
    first = finding.answer(permuted.runs, next(iter(views), None)) if permuted else _of_vit(cards["cifar100"])
    browser = data.browser(permuted) if permuted else {"settings": []}
    numbers = data.shared(
        {"figures": {name: _numbers(drawings[name], each) for name, each in figures.items()}, "browser": browser}
    )
    leading, new = ([figures[name] for name in names if name in figures] for names in (LEADING, NEW))
    script = _script(bool(browser["settings"]))
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            generator=f"{GENERATOR} {__version__}",
            refresh=refresh,
            title=TITLE,
            note=note,
            style=Markup(_style()),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            data=_json(numbers),
            answer=first,
            scope=parts[0].scope,
            cards=flat,
            tally=verdict_cards.tally(flat),
            tally_of=verdict_cards.tally,
            panels_of=lambda card: _thumbnails(card, figures),
            hero=figures.get("answer"),
            levels=[view.levels(each) for each in views],
            leading=leading,
            new=new,
            unrun=_unrun(parts),
            browser=browser,
            chapters=chapters,
            sections=_sections(leading, new, browser),
        )
    )


def _unrun(parts: Sequence[Part]) -> list[str]:
    """Titles of the new figures that have no runs."""
    drawn = (each for part in parts for each in part.drawn)
    return [each.title for each in drawn if isinstance(each, Missing) and each.name in NEW]


def _sections(leading: Sequence[object], new: Sequence[object], browser: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, name) of each section that the page has."""
    shown = {
        "answer": ("Answer", True),
        "scoreboard": ("Scoreboard", True),
        "figures": ("Figures 1 to 3", leading),
        "new": ("New", new),
        "explore": ("Explore", browser["settings"]),
        "more": ("Everything else", True),
        "provenance": ("Provenance", True),
    }
    return [(id_, name) for id_, (name, there) in shown.items() if there]


def _of_vit(cards: Sequence[verdict_cards.Card]) -> finding.Answer:
    """The first lines of a page on CIFAR-100 alone."""
    shown = finding.headline(cards, 3)
    if shown is None:
        return finding.Answer("These runs decide none of the paper's statements.")
    return finding.Answer(shown.text, f"{shown.grade}: {shown.effect} ({shown.n}).".capitalize())


def _figure(
    drawing: Drawing, svgs: Mapping[str, str], cards: Sequence[verdict_cards.Card], warning: str
) -> view.Figure:
    """A drawing with the statements that it shows, where it is one of the paper's figures."""
    number = int(drawing.name[-2:]) if drawing.name.startswith("figure-") else 0
    related = verdict_cards.of_figure(cards, number) if number else []
    warning = warning if drawing.name in LEADING else ""  # a chapter says it once for all others
    return view.figure(drawing, svgs, finding.headline(related, number) if number else None, related, warning)


def _chapter(part: Part, cards: Sequence[verdict_cards.Card], figures: Mapping[str, view.Figure]) -> Chapter:
    names = [each.name for each in part.drawn if each.name in figures and each.name not in (*LEADING, *NEW)]
    papers = [figures[name] for name in names if name.startswith("figure-")]
    others = [figures[name] for name in names if not name.startswith("figure-")]
    drawn = [part.hero, *part.drawn] if isinstance(part.hero, Missing) else part.drawn
    return Chapter(
        part.key,
        part.title,
        part.about,
        part.warning,
        cards,
        (("The paper's other figures", papers), ("Further figures", others)),
        part.tables,
        part.runs,
        view.missing(drawn),
        part.method,
    )


def _numbers(drawing: Drawing, shown: view.Figure) -> list[dict[str, Any]]:
    """What the script needs of all panels of a figure."""
    pairs = zip((drawing, *drawing.others), shown.views, strict=True)
    return [panel for one, of in pairs for panel in data.figure(one, of.panels)]


def _thumbnails(card: verdict_cards.Card, figures: Mapping[str, view.Figure]) -> tuple[str, Sequence[Any]] | None:
    """The figure that shows a statement and its first panels, small."""
    shown = figures.get(f"figure-{card.figure:02d}")
    return (shown.name, shown.views[0].panels[:4]) if shown else None


def _json(content: Any) -> Markup:
    """JSON within a script element: nothing in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def environment() -> jinja2.Environment:
    """Templates in which every text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["one_line"] = one_line
    environment.globals.update(groups=view.groups, grades=verdict_cards.GRADES)
    return environment


def _script(browser: bool) -> str:
    """The one script of a page, with no global names; browser: whether the page has runs to browse."""
    names = ("charts.js", "page.js", *(("browser.js",) if browser else ()))
    return "\n".join(('"use strict";', "(() => {", *((_TEMPLATES / name).read_text() for name in names), "})();", ""))


def _style() -> str:
    """The style sheet, with the colours of the figures for a light and a dark page."""
    text = (_TEMPLATES / "page.css").read_text()
    return text.replace("$light", files.variables(dark=False)).replace("$dark", files.variables(dark=True))
