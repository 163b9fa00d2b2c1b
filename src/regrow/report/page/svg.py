"""Figures as files, and as SVG within a page that follows its light or dark colours."""

import io
import re

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ..figures.sheet import Drawing
from ..style import DARK, PAPER, SHEET
from .html import Html, element

_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_TAG = re.compile(r"<[^>]*>")
_DIGITS = re.compile(r"(\.\d\d)\d+")  # a hundredth of a point is enough
_ID = re.compile(r'(\bid="|url\(#|href="#)')


def svg(drawing: Drawing) -> str:
    """A figure as an SVG file: the same figure is the same text."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(SHEET):
        _settle(drawing.figure)
        drawing.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    # Numbers in tags are coordinates; those between tags are text.
    return _TAG.sub(lambda tag: _DIGITS.sub(r"\1", tag[0]), buffer.getvalue().decode())


def png(drawing: Drawing) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(SHEET):
        _settle(drawing.figure)
        drawing.figure.savefig(buffer, format="png", facecolor=PAPER)
    return buffer.getvalue()


def _settle(figure: Figure) -> None:
    """Lay out the panels once: matplotlib would for each file, and draw the figure twice to do so."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.execute(figure)
        figure.set_layout_engine("none")


def inline(name: str, alt: str, text: str) -> Html:
    """An SVG file as an element of a page: unique ids, colours of the page's theme.

    Args:
        name: of the figure, unique in the page.
        alt: the figure in words, for readers who cannot see it.
        text: from `svg`.
    """
    body = text[text.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = _ID.sub(rf"\g<1>{name}-", body.replace("xlink:href", "href"))
    body = _COLOUR.sub(lambda match: _themed(match[0]), body)
    (box,) = re.findall(r'viewBox="([^"]+)"', text[: text.index(">", text.index("<svg"))])
    return element("svg", Html(body), viewBox=box, role="img", aria_label=alt)


def variables(dark: bool) -> str:
    """The colours that a page must know for the figures in it, as CSS."""
    return " ".join(f"--c{light[1:]}: {night if dark else light};" for light, night in _variables().items())


def _variables() -> dict[str, str]:
    return {light.lower(): night.lower() for light, night in DARK.items()}


def _themed(colour: str) -> str:
    if colour == PAPER.lower():
        return "none"  # the page's own shows through
    return f"var(--c{colour[1:]})" if colour in _variables() else colour
