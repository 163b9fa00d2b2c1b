"""Figures as files, and panel by panel as SVG within a page that follows its light or dark colours."""

import io
import re
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from ..figures.sheet import Drawing
from ..style import DARK, PAPER, SHEET
from .lean import SVG, lean

POINTS = 72  # of an SVG's unit to an inch
EDGE = 2.0  # points around a panel
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_ID = re.compile(r'(\bid="|url\(#|href="#)')
_NAME = re.compile(r'(class="name"[^#]*fill:)(#[0-9a-f]{6})')
_NAMESPACE = re.compile(r' xmlns(:\w+)?="[^"]*"')


@dataclass(frozen=True)
class Picture:
    """A panel within a page.

    id: of its drawing, for thumbnails; box: what it covers, (x, y, width, height) in points.
    frame: of its axes, (left, top, right, bottom) in points.
    """

    id: str
    box: tuple[float, float, float, float]
    frame: tuple[float, float, float, float]
    body: Markup

    @property
    def view_box(self) -> str:
        """As SVG has it."""
        return " ".join(f"{value:.1f}" for value in self.box)


def svg(drawing: Drawing) -> str:
    """A figure as an SVG file: the same figure is the same text."""
    buffer = io.BytesIO()
    for i, panel in enumerate(drawing.panels):
        panel.axes.set_gid(_gid(i))
    with matplotlib.rc_context(SHEET):
        _settle(drawing.figure)
        drawing.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    return lean(buffer.getvalue().decode())


def png(drawing: Drawing) -> bytes:
    """A figure as the bytes of a PNG file of at most 256 colours; fixes its layout, see `_settle`."""
    buffer, small = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(SHEET):
        _settle(drawing.figure)
        drawing.figure.savefig(buffer, format="png", facecolor=PAPER)
    image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def _gid(number: int) -> str:
    return f"panel-{number}"


def _settle(figure: Figure) -> None:
    """Lay out the panels once and fix them: matplotlib would redo it for every file, drawing it twice each time."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.execute(figure)
        figure.set_layout_engine("none")


def pictures(drawing: Drawing, text: str) -> list[Picture]:
    """The panels of a figure as parts of a page: unique ids, colours of the page's theme.

    Args:
        drawing: the figure.
        text: from `svg`.
    """
    root = ElementTree.fromstring(text)
    groups = {group.get("id"): group for group in root.iter(f"{{{SVG}}}g")}
    shared = {each.get("id") or "": each for defs in root.iter(f"{{{SVG}}}defs") for each in defs if each.get("id")}
    renderer = FigureCanvasAgg(drawing.figure).get_renderer()
    with matplotlib.rc_context(SHEET):
        return [
            _picture(f"{drawing.name}-{i}", drawing.figure, panel.axes, groups[_gid(i)], shared, renderer)
            for i, panel in enumerate(drawing.panels)
        ]


def _picture(name: str, figure: Figure, axes: Axes, group, shared, renderer) -> Picture:
    """One panel; shared: what any of the figure may refer to, by id."""
    scale, height = POINTS / figure.dpi, figure.get_figheight() * POINTS

    def corners(box) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in points from above."""
        return box.x0 * scale, height - box.y1 * scale, box.x1 * scale, height - box.y0 * scale

    left, top, right, bottom = corners(axes.get_tightbbox(renderer))
    body = ElementTree.tostring(group, encoding="unicode")
    used = dict.fromkeys(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    lent = [shared[key] for key in used if f'id="{key}"' not in body]
    defs = "".join(ElementTree.tostring(each, encoding="unicode") for each in lent)
    body = _NAMESPACE.sub("", f"<defs>{defs}</defs>{body}").replace("xlink:href", "href")
    body = _ID.sub(rf"\g<1>{name}-", body).replace(f'id="{name}-{_gid(int(name.rsplit("-", 1)[1]))}"', f'id="{name}"')
    body = _NAME.sub(r"\1color-mix(in srgb, \2 55%, var(--ink))", body)  # as words its colour would be too light
    body = _COLOUR.sub(lambda found: _themed(found[0]), body)
    box = left - EDGE, top - EDGE, right - left + 2 * EDGE, bottom - top + 2 * EDGE
    return Picture(name, box, corners(axes.get_window_extent(renderer)), Markup(body))


def variables(dark: bool) -> str:
    """The colours that a page must know for the figures in it, as CSS."""
    return " ".join(f"--c{light[1:]}: {night if dark else light};" for light, night in _variables().items())


def themed(colour: str) -> str:
    """A colour as a page has it: by its name where the dark page has another."""
    colour = colour.lower()
    return f"var(--c{colour[1:]})" if colour in _variables() else colour


def _variables() -> dict[str, str]:
    return {light.lower(): night.lower() for light, night in DARK.items()}


def _themed(colour: str) -> str:
    return "var(--paper)" if colour == PAPER.lower() else themed(colour)
