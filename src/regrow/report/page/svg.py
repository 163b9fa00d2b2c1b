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

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", LINK)

POINTS = 72  # of an SVG's unit to an inch
EDGE = 2.0  # points around a panel
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_TAG = re.compile(r"<[^>]*>")
_DIGITS = re.compile(r"(\.\d)\d+")  # a tenth of a point is enough
_ID = re.compile(r'(\bid="|url\(#|href="#)')
_ARTIST = re.compile(r'id="(seed|mean|band|level|name):([^"]+)"')
_PATH = re.compile(r' d="([MLz\d\s.e-]+)"')  # lines only, no curve
_SPARE = re.compile(
    r' transform="rotate\(-0 [^"]*"|font-family: [^;"]*;? ?|; stroke-linecap: (square|butt)|; stroke-linejoin: \w+'
)  # what does nothing, or is the page's
_NAME = re.compile(r'(class="name"[^#]*fill: )(#[0-9a-f]{6})')
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
    # Numbers in tags are coordinates; those between tags are text.
    text = _TAG.sub(lambda tag: _DIGITS.sub(r"\1", tag[0]), buffer.getvalue().decode())
    return _ARTIST.sub(r'class="\1" data-line="\2"', text)


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
    body = re.sub(r">\s+<", "><", body)
    body = _PATH.sub(lambda found: f' d="{relative(found[1])}"', body)
    body = _ID.sub(rf"\g<1>{name}-", body).replace(f'id="{name}-{_gid(int(name.rsplit("-", 1)[1]))}"', f'id="{name}"')
    body = _SPARE.sub("", body)
    body = _NAME.sub(r"\1color-mix(in srgb, \2 55%, var(--ink))", body)  # as words its colour would be too light
    body = _COLOUR.sub(lambda found: _themed(found[0]), body)
    box = left - EDGE, top - EDGE, right - left + 2 * EDGE, bottom - top + 2 * EDGE
    return Picture(name, box, corners(axes.get_window_extent(renderer)), Markup(body))


def relative(path: str) -> str:
    """A path of straight lines, each from the end of the one before: half as long, the same to a tenth of a point.

    Example:
        >>> relative("M 10 20.5 L 12 20 L 12.3 21")
        'M10 20.5l2-.5 .3 1'
        >>> relative("M 1 1 L 2 1 L 2 0 z")
        'M1 1l1 0 0-1z'
    """
    parts, x, y = [], 0, 0
    for command, *place in re.findall(r"([MLz])(?: (\S+) (\S+))?", path):
        if command == "z":
            parts.append("z")
            continue
        to_x, to_y = (round(10 * float(word)) for word in place)
        if command == "M":
            parts.append(f"M{_tenths(to_x)} {_tenths(to_y)}")
        else:
            right, down = _tenths(to_x - x), _tenths(to_y - y)
            before = "l" if parts[-1][0] == "M" else "" if right[0] == "-" else " "
            parts.append(f"{before}{right}{'' if down[0] == '-' else ' '}{down}")
        x, y = to_x, to_y
    return "".join(parts)


def _tenths(number: int) -> str:
    whole, rest = divmod(abs(number), 10)
    digits = f"{whole or ('' if rest else '0')}{f'.{rest}' if rest else ''}"
    return f"-{digits}" if number < 0 else digits


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
