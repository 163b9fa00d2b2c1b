"""The page of a report: one HTML file that needs nothing else, and its figures and tables as files beside it."""

from pathlib import Path
from string import Template

from .. import __version__
from ..lab.checkpoint import cannot_write, write_whole
from . import pictures, sections
from .claims import Verdict, evaluate, to_json
from .figures.drawing import Drawing, Missing
from .figures.every import figures
from .folders import Results
from .markup import Html, join
from .table import Table
from .tables import tables

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


def write_page(results: Results, out: Path, *, refresh: int | None = None, note: str = "") -> list[Verdict]:
    """Write the report: `index.html`, `claims.json`, `figures/*.svg|png`, `tables/*.md|tex`, each whole or not at all.

    Args:
        results: from `folders.combine`.
        out: folder to write into, made where there is none.
        refresh: seconds after which an open page loads itself anew; the PNG files are then left as they were.
        note: a line at the top of the page.

    Returns:
        The verdicts.

    Raises:
        OSError: where it cannot be written, or `out` has an index.html that is no report.
    """
    prepare(out)
    verdicts = evaluate(results.runs)
    found = [sections.runs_table(results.folders), *tables(results.runs, verdicts, results.cost or None)]
    drawn = figures(results.runs, results.others, results.cost, results.pixels)
    svgs = {each.name: pictures.svg(each) for each in drawn if isinstance(each, Drawing)}
    body = _body(results, verdicts, found, drawn, svgs, note)
    for table in found:
        write_whole(out / "tables" / f"{table.name}.md", table.to_markdown().encode())
        write_whole(out / "tables" / f"{table.name}.tex", table.to_latex().encode())
    for each in drawn:
        _write_figure(out / "figures", each, svgs, pngs=refresh is None)
    write_whole(out / "claims.json", to_json(verdicts).encode())
    write_whole(out / NAME, _page(body, refresh).encode())
    return verdicts


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
    """The files of a figure; of one that is missing, those of an earlier report go."""
    svg, png = folder / f"{drawn.name}.svg", folder / f"{drawn.name}.png"
    if isinstance(drawn, Missing):
        svg.unlink(missing_ok=True)
        png.unlink(missing_ok=True)
        return
    write_whole(svg, svgs[drawn.name].encode())
    if pngs or not png.exists():
        write_whole(png, pictures.png(drawn))


def _body(
    results: Results,
    verdicts: list[Verdict],
    found: list[Table],
    drawn: list[Drawing | Missing],
    svgs: dict[str, str],
    note: str,
) -> Html:
    by_name = {table.name: table for table in found}
    rest = [table for name, table in by_name.items() if name not in ("runs", "summary", "claims")]
    shown = [each for each in drawn if isinstance(each, Drawing)]
    gaps = [gap for each in drawn for gap in ((each,) if isinstance(each, Missing) else each.gaps)]
    content = {
        "runs": sections.table(by_name["runs"], heading=False),
        "summary": sections.table(by_name["summary"], heading=False),
        "claims": join(sections.claims(verdicts), sections.beside({"claims.json": "claims.json"})),
        "figures": join(*(sections.figure(each, svgs[each.name]) for each in shown)),
        "tables": join(*map(sections.table, rest)),
        "missing": sections.missing(gaps),
        "method": sections.method(),
    }
    parts = (sections.section(name, title, content[name]) for name, title in SECTIONS.items())
    return join(sections.header(results, verdicts, SECTIONS, note), "\n", Html("<main>"), *parts, Html("</main>"))


def _page(body: Html, refresh: int | None) -> str:
    style = Template((_HERE / "page.css").read_text()).substitute(
        light=pictures.variables(dark=False), dark=pictures.variables(dark=True)
    )
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return Template((_HERE / "page.html").read_text()).substitute(
        generator=f"{GENERATOR} {__version__}", refresh=again, title="Weights or units: report", style=style, body=body
    )
