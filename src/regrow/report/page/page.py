"""The page of a report: one HTML file that needs nothing else, and its figures and tables as files beside it."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from ... import __version__
from ...lab.runs.files import cannot_write, write_whole
from ..claims import Verdict, to_json
from ..figures.sheet import Drawing, Missing
from ..results import Folder, Results, combine
from ..results_vit import ViTResults, is_vit
from ..results_vit import combine as combine_vit
from . import sections
from . import svg as pictures
from .html import Html, join
from .part import Part
from .part import permuted as permuted_part
from .part_vit import part as vit_part

AnyResults = Results | ViTResults
NAME = "index.html"
GENERATOR = "regrow report"
SECTIONS = {
    "runs": "What was run",
    "summary": "How well each system learns",
    "claims": "The paper's statements",
    "figures": "Figures",
    "tables": "Tables",
    "missing": "What is missing",
    "method": "How the numbers come about",
}
_HERE = Path(__file__).parent


def write_page(
    results: AnyResults | Sequence[AnyResults], out: Path, *, refresh: int | None = None, note: str = ""
) -> list[Verdict]:
    """Write the report: `index.html`, `claims.json`, `figures/*.svg|png`, `tables/*.md|tex`, each whole or not at all.

    Args:
        results: of one problem or several, from `gather`; one part of the page each.
        out: folder to write into; it is made if it does not exist.
        refresh: seconds after which an open page reloads itself; PNG files are then not drawn again.
        note: a line at the top of the page.

    Returns:
        The verdicts.

    Raises:
        OSError: where it cannot be written, or `out` has an index.html that is no report.
    """
    prepare(out)
    parts = [_part(each) for each in ([results] if isinstance(results, Results | ViTResults) else results)]
    verdicts = [verdict for part in parts for verdict in part.verdicts]
    drawn = [each for part in parts for each in part.drawn]
    svgs = {each.name: pictures.svg(each) for each in drawn if isinstance(each, Drawing)}
    body = _body(parts, svgs, note)
    for table in (table for part in parts for table in (part.runs, part.summary, *part.tables, part.claims)):
        write_whole(out / "tables" / f"{table.name}.md", table.to_markdown().encode())
        write_whole(out / "tables" / f"{table.name}.tex", table.to_latex().encode())
    for each in drawn:
        _write_figure(out / "figures", each, svgs, pngs=refresh is None)
    margins = {name: margin for part in parts for name, margin in part.margins.items()}
    write_whole(out / "claims.json", to_json(verdicts, margins).encode())
    write_whole(out / NAME, _page(body, refresh).encode())
    return verdicts


def gather(folders: Sequence[Folder]) -> list[AnyResults]:
    """Put the folders of each problem together: permuted images first, then CIFAR-100.

    Raises:
        ValueError: where those of a problem are of different images or sizes, or hold nothing that a report knows.
    """
    permuted, vit = ([folder for folder in folders if is_vit(folder) == which] for which in (False, True))
    return [*([combine(permuted)] if permuted else []), *([combine_vit(vit)] if vit else [])]


def _part(results: AnyResults) -> Part:
    return vit_part(results) if isinstance(results, ViTResults) else permuted_part(results)


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


def _write_figure(folder: Path, drawn: Drawing | Missing, svgs: dict[str, str], pngs: bool) -> None:
    """The files of a figure; of a missing one, those of an earlier report are deleted."""
    svg, png = folder / f"{drawn.name}.svg", folder / f"{drawn.name}.png"
    if isinstance(drawn, Missing):
        svg.unlink(missing_ok=True)
        png.unlink(missing_ok=True)
        return
    write_whole(svg, svgs[drawn.name].encode())
    if pngs or not png.exists():
        write_whole(png, pictures.png(drawn))


def _body(parts: Sequence[Part], svgs: dict[str, str], note: str) -> Html:
    links, written = {}, []
    for part in parts:
        several = len(parts) > 1
        for name, content in _content(part, svgs).items():
            key = f"{part.key}-{name}" if several else name
            links[key] = f"{part.title}: {SECTIONS[name]}" if several else SECTIONS[name]
            written.append(sections.section(key, links[key], content))
    return join(sections.header(parts, links, note), "\n", Html("<main>"), *written, Html("</main>"))


def _content(part: Part, svgs: dict[str, str]) -> dict[str, Html]:
    """{section: what is in it}"""
    shown = [each for each in part.drawn if isinstance(each, Drawing)]
    gaps = [gap for each in part.drawn for gap in ((each,) if isinstance(each, Missing) else each.gaps)]
    return {
        "runs": sections.table(part.runs, heading=False),
        "summary": sections.table(part.summary, heading=False),
        "claims": join(sections.claims(part.verdicts), sections.beside({"claims.json": "claims.json"})),
        "figures": join(*(sections.figure(each, svgs[each.name]) for each in shown)),
        "tables": join(*map(sections.table, part.tables)),
        "missing": sections.missing(gaps),
        "method": sections.method(part.method),
    }


def _page(body: Html, refresh: int | None) -> str:
    style = Template((_HERE / "page.css").read_text()).substitute(
        light=pictures.variables(dark=False), dark=pictures.variables(dark=True)
    )
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return Template((_HERE / "page.html").read_text()).substitute(
        generator=f"{GENERATOR} {__version__}", refresh=again, title="Weights or units: report", style=style, body=body
    )
