"""What the tests of the report read pages, figures and tables with."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from regrow.commands.report import Report
from regrow.report.figures.sheet import Drawing, Missing
from regrow.report.style import SHEET, Look
from regrow.report.tables.table import Table


def drawing(drawn: Drawing | Missing) -> Drawing:
    assert isinstance(drawn, Drawing), drawn
    return drawn


def bold(axes: Axes, look: Look) -> np.ndarray:
    """The points (x, y) of a look's bold line."""
    parts = [
        line for line in axes.lines
        if to_hex(line.get_color()) == look.colour.lower() and line.get_linestyle() == look.dashes
        and line.get_linewidth() > 1
    ]  # fmt: skip
    return np.concatenate([np.array(line.get_data()).T for line in parts])


def boxes(drawn: Drawing) -> Iterator[tuple[str, matplotlib.transforms.Bbox]]:
    """The boxes of texts and legends of a drawn figure, in pixels."""
    with matplotlib.rc_context(SHEET):
        canvas = FigureCanvasAgg(drawn.figure)
        canvas.draw()
        for i, axes in enumerate(drawn.figure.axes):
            texts = [axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]  # type: ignore[attr-defined]
            for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                ticks = [tick for tick in axis.get_major_ticks() if min(low, high) <= tick.get_loc() <= max(low, high)]
                texts += [tick.label1 for tick in ticks]
            for text in texts:
                if text.get_visible() and text.get_text().strip():
                    yield f"{i}: {text.get_text()}", text.get_window_extent()
            if axes.get_legend():
                yield f"{i}: legend", axes.get_legend().get_window_extent()
        for legend in drawn.figure.legends:
            yield "legend", legend.get_window_extent()


def check_texts(drawn: list[Drawing | Missing]) -> None:
    """None overlap, and none leave the figure."""
    for each in map(drawing, drawn):
        placed = list(boxes(each))
        width, height = each.figure.get_size_inches() * each.figure.dpi
        for k, (name, box) in enumerate(placed):
            inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
            assert inside, f"{each.name}: {name} leaves the figure"
            for other, its in placed[k + 1 :]:
                meet = min(box.x1, its.x1) - max(box.x0, its.x0), min(box.y1, its.y1) - max(box.y0, its.y0)
                assert min(meet) < 1.5, f"{each.name}: {name!r} and {other!r} overlap"


VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """What is in a page: elements with their attributes and parents, and whether every tag is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.text = path, path.read_text()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.open: list[str] = []
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"{tag} is closed and was not open"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


def check_links(page: Page) -> None:
    """Every id is unique; every link leads to one of them, or to a file beside the page."""
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for link in (attributes["href"] or "" for attributes in page.all("a")):
        assert link[1:] in ids if link.startswith("#") else (page.path.parent / link).stat().st_size > 0, link
    drawn = page.text[: page.text.rindex("<script>")]
    used = [each["href"] or "" for each in page.all("use")] + re.findall(r"url\(([^)]*)\)", drawn)
    assert used and all(name[1:] in ids for name in used)
    for _, attributes, _ in page.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids


def check_refused(folder: Path, says: str) -> None:
    """In one line, and nothing is written."""
    out = folder.parent / "out"
    with pytest.raises((OSError, ValueError)) as caught:
        Report((folder,), out).run()
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not out.exists()


def as_rows(table: Table) -> dict[tuple[str, ...], dict[str, str]]:
    """{the cells that name the row: {column: cell}}"""
    rows = {row[: table.heads]: dict(zip(table.columns, row)) for row in table.rows}
    assert len(rows) == len(table.rows)
    return rows
