"""A figure's file is less than half as long as matplotlib writes it, and draws the same."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from regrow.report.figures.all import figures
from regrow.report.figures.sheet import Drawing
from regrow.report.page import svg
from regrow.report.page.lean import LINK, SVG, lean
from regrow.report.results import combine, read
from regrow.report.style import PAPER, SHEET

STORED = Path(__file__).parent / "stored"
NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"

Drawn = tuple[str, str, np.ndarray]


@pytest.fixture(scope="module")
def shown() -> dict[str, Drawing]:
    results = combine([read(folder) for folder in sorted(STORED.iterdir())])
    listed = figures(results.runs, results.others, results.cost, results.pixels)
    return {each.name: each for each in listed if isinstance(each, Drawing)}


@pytest.fixture(scope="module", params=["figure-02", "figure-01", "figure-09"])
def pair(request: pytest.FixtureRequest, shown: dict[str, Drawing]) -> tuple[str, str]:
    """A figure as matplotlib writes it, and as we keep it."""
    own, buffer = shown[request.param], io.BytesIO()
    kept = svg.svg(own)
    with matplotlib.rc_context(SHEET):
        own.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    return buffer.getvalue().decode(), kept


def points(path: str, by: tuple[float, float]) -> np.ndarray:
    """Where a path goes, from absolute or relative commands."""
    places, here, relative = [], np.zeros(2), False
    for command, numbers in re.findall(r"([MLlCQz])([^MLlCQz]*)", path):
        relative = command == "l"
        for place in np.array([float(word) for word in re.findall(NUMBER, numbers)]).reshape(-1, 2):
            here = here + place if relative else place
            places.append(here)
    return np.array(places).reshape(-1, 2) + by


def drawn(text: str) -> list[Drawn]:
    """All that is to be seen, in order: stroke, fill and places of each path, and each text."""
    root = ElementTree.fromstring(text)
    marks = {each.get("id"): each for defs in root.iter(f"{{{SVG}}}defs") for each in defs}
    found: list[Drawn] = []

    def walk(element: ElementTree.Element) -> None:
        for each in element:
            kind = each.tag.split("}")[1]
            look = dict(re.findall(r"([\w-]+): ?([^;]+)", each.get("style", "")))
            moved = re.search(rf"translate\(({NUMBER}) ({NUMBER})\)", each.get("transform", ""))
            x, y = (moved[1], moved[2]) if moved else (each.get("x", "0"), each.get("y", "0"))
            by, path = (float(x), float(y)), each.get("d", "")
            if kind == "use":
                mark = marks[each.get(f"{{{LINK}}}href", "")[1:]]
                look |= dict(re.findall(r"([\w-]+): ?([^;]+)", mark.get("style", "")))
                path = mark.get("d", "")
            if kind in ("use", "path"):
                places = points(path, by)
                if np.ptp(places, 0).max(initial=0) > 0.05:
                    fill = look.get("fill", "none") if len(places) > 2 else "none"
                    found.append((look.get("stroke", "none"), fill, places))
            elif kind == "text":
                found.append((each.text or "", look["fill"], np.array([by])))
            elif kind == "g":
                walk(each)

    walk(root)
    return found


def test_it_draws_the_same(pair: tuple[str, str]) -> None:
    """To a tenth of a point: every line, mark and text with its colours, in the same order."""
    before, after = map(drawn, pair)
    assert len(after) == len(before) > 100
    for (stroke, fill, places), (stroke_now, fill_now, places_now) in zip(before, after, strict=True):
        assert (stroke_now, fill_now, len(places_now)) == (stroke, fill, len(places))
        np.testing.assert_allclose(places_now, places, atol=0.11)  # rounding of a mark and of its place


def test_it_is_shorter_and_still_what_a_page_needs(pair: tuple[str, str]) -> None:
    before, after = pair
    assert len(after) < len(before) / 2 and "metadata" not in after and not re.search(r"<g>|<g />|<defs />", after)
    ids = re.findall(r' id="([^"]+)"', after)
    assert len(ids) == len(set(ids)) and 'id="panel-0"' in after and "matplotlib.axis_1" in after
    for name in ids:
        assert re.match(r"panel-\d|matplotlib\.axis_\d", name) or f"#{name}" in after
    assert set(re.findall(r'#(m\d+)[")]', after)) <= set(ids)


def test_a_mark_that_is_used_once_is_drawn_in_its_place() -> None:
    text = (
        f'<svg xmlns="{SVG}" xmlns:xlink="{LINK}"><g id="a"><defs><path id="round" d="M 0 1 C 1 1 2 2 3 3" />'
        '<path id="tick" d="M 0 0 L 0 3.54" style="stroke: #111111" /></defs><use xlink:href="#round" x="5" y="6" />'
        '<use xlink:href="#tick" x="1" y="2" style="fill: #111111; stroke: #111111" />'
        '<use xlink:href="#tick" x="2.25" y="2" style="fill: #111111; stroke: #111111" /></g></svg>'
    )
    body = lean(text).split("\n", 1)[1]
    assert '<path d="M 0 1 C 1 1 2 2 3 3" transform="translate(5.0 6.0)" />' in body
    assert '<path id="m0" d="M0 0l0 3.5" style="stroke:#111111" />' in body
    assert '<use xlink:href="#m0" x="1" y="2" /><use xlink:href="#m0" x="2.2" y="2" />' in body


def test_a_text_in_another_font_keeps_it() -> None:
    text = '<text style="font-family: {};font-size: 9px">{}</text>'
    two = text.format("A", "one") + text.format("B", "two") + text.format("A", "three")
    kept = lean(f'<svg xmlns="{SVG}"><defs><style type="text/css">*{{}}</style></defs>{two}</svg>')
    assert kept.count("font-family") == 2 and "text{font-family: A}" in kept
    assert re.search(r"font-family:B[^>]*>two<", kept)
