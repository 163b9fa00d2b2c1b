"""The sections of the page."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..claims import AGREES, CONFIRMED, CONTRADICTED, DISAGREES, GRADES, Verdict
from ..figures.sheet import Drawing, Missing
from ..format import chance
from ..tables.table import Table
from .html import Html, element, join
from .part import Part
from .svg import inline

CLASSES = {CONFIRMED: "holds", AGREES: "holds", CONTRADICTED: "fails", DISAGREES: "fails"}


def section(name: str, title: str, *content: object) -> Html:
    """A section under its heading."""
    return element("section", element("h2", title, id=name), *content, aria_labelledby=name)


def scroll(label: str, content: Html) -> Html:
    """A box that scrolls where its content is wider than the page."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)


def header(parts: Sequence[Part], links: Mapping[str, str], note: str = "") -> Html:
    """The title, a summary of each problem in two sentences, and links to the sections.

    Args:
        parts: of the page.
        links: {id of a section: its title}
        note: a line at the top; may be empty.
    """
    listed = (element("li", element("a", title, href=f"#{name}")) for name, title in links.items())
    return element(
        "header",
        element("h1", "Reinitializing weights or units: our runs beside the paper"),
        *map(_about, parts),
        element("p", note, class_="faint") if note else None,
        element("nav", element("ul", *listed), aria_label="Sections"),
    )


def _about(part: Part) -> Html:
    """Which runs of a problem there are, and how many statements hold."""
    of = Counter(verdict.grade for verdict in part.verdicts)
    counts = (element("li", element("strong", of[name]), name, class_=CLASSES.get(name, "open")) for name in GRADES)
    return join(
        element("p", f"{part.about} Of {len(part.verdicts)} statements in the paper:"),
        element("ul", *counts, class_="verdicts"),
        element("p", part.warning, class_="warning") if part.warning else None,
    )


def table(whole: Table, heading: bool = True) -> Html:
    """A table in a box of its own, its caption and notes around it, and links to its files."""
    only = replace(whole, caption="", notes=())
    return join(
        element("h3", whole.title, id=f"table-{whole.name}") if heading else None,
        element("p", whole.caption, class_="faint") if whole.caption else None,
        scroll(whole.title, Html(only.to_html())),
        *(element("p", note, class_="faint") for note in whole.notes),
        beside({f"tables/{whole.name}.md": "Markdown", f"tables/{whole.name}.tex": "LaTeX"}),
    )


def beside(files: Mapping[str, str]) -> Html:
    """Links to the files beside the page."""
    return element("p", *(element("a", text, href=path) for path, text in files.items()), class_="beside")


def figure(drawing: Drawing, svg: str) -> Html:
    """A figure with its caption and links to its files."""
    gaps = f" Not covered: {'; '.join(gap.reason for gap in drawing.gaps)}." if drawing.gaps else ""
    files = {f"figures/{drawing.name}.{kind}": kind.upper() for kind in ("png", "svg")}
    return join(
        element("h3", drawing.title, id=drawing.name),
        element(
            "figure",
            scroll(drawing.title, inline(drawing.name, drawing.alt, svg)),
            element("figcaption", drawing.caption + gaps),
        ),
        beside(files),
    )


def claims(verdicts: Sequence[Verdict]) -> Html:
    """Every statement with its verdict, the number that decides, and all others."""
    return element("ul", *map(_claim, verdicts), class_="claims")


def _claim(verdict: Verdict) -> Html:
    lines = [
        f"Criterion: {verdict.criterion}",
        f"p = {chance(verdict.p)}, after Holm's correction {chance(verdict.p_holm)}" if verdict.p is not None else "",
        *(part.in_words() for part in verdict.parts),
        f"The longest runs: {verdict.second}" if verdict.second else "",
        f"Under the rules before: {verdict.old_verdict}" if verdict.old_verdict else "",
        f"Evidence: {verdict.evidence}" if verdict.evidence else "",
        *verdict.beside,
        *verdict.notes,
    ]
    return element(
        "li",
        element(
            "p",
            element("span", verdict.grade, class_=f"badge {CLASSES.get(verdict.grade, 'open')}"),
            element("strong", f"{verdict.id} "),
            verdict.text,
            element("span", f" ({verdict.place})", class_="faint"),
        ),
        element("p", verdict.reason, class_="faint"),
        element(
            "details",
            element("summary", "The numbers"),
            element("ul", *(element("li", line) for line in lines if line)),
            element("code", verdict.command, class_="command") if verdict.command else None,
        ),
        id=f"claim-{verdict.id}",
    )


def missing(gaps: Sequence[Missing]) -> Html:
    """What no results cover, with the commands that make it."""
    if not gaps:
        return element("p", "Nothing: every figure has all its runs.")
    items = (
        element(
            "li",
            element("strong", gap.title),
            f": {gap.reason}.",
            element("code", gap.command, class_="command") if gap.command else None,
        )
        for gap in gaps
    )
    hint = "Add --data DIR for the images, and --out DIR where a folder of results should grow."
    return join(element("p", hint, class_="faint"), element("ul", *items, class_="missing"))


def method(said: Iterable[tuple[str, str]]) -> Html:
    """How the numbers come about, (head, text)."""
    return element("dl", *(element(tag, text) for pair in said for tag, text in zip(("dt", "dd"), pair, strict=True)))
