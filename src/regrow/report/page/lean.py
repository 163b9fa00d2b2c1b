"""A figure's SVG without what draws nothing: less than half as long, the same picture to a tenth of a point."""

import re
from collections import Counter
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", LINK)

_HREF = f"{{{LINK}}}href"
_GROUP, _DEFS, _USE, _PATH, _TEXT, _STYLE, _METADATA = (
    f"{{{SVG}}}{name}" for name in ("g", "defs", "use", "path", "text", "style", "metadata")
)
_NAMED = re.compile(r"panel-\d+$|matplotlib\.axis_\d+$")  # ids that mean something
_ARTIST = re.compile(r"(seed|mean|band|level|name):(.+)")
_URL = re.compile(r"url\(#([^)]+)\)")
_LINES = re.compile(r"[MLz\d\s.e-]+")  # a path of straight lines
_POINT = re.compile(r"M[\d.-]+ [\d.-]+(l0 0( 0 0)*)?")  # a line without length, and lines end without caps
_DIGITS = re.compile(r"-?\d+\.\d{2,}")
_NO_TURN = re.compile(r"rotate\(-?0 ")
_SPARE = {"stroke-linejoin", "stroke-linecap"}  # said once, in the style sheet


def lean(text: str) -> str:
    """Remove metadata, ids that nothing refers to, groups without a meaning and repeated styles.

    Marks that are used once are drawn where they are used. `id="seed:swr"` becomes `class="seed" data-line="swr"`.

    Args:
        text: an SVG file as matplotlib writes it.
    """
    root = ElementTree.fromstring(text)
    marks = {path.get("id", ""): path for defs in root.iter(_DEFS) for path in defs.iter(_PATH)}
    uses = Counter(use.get(_HREF, "")[1:] for use in root.iter(_USE))
    for use in root.iter(_USE):
        _place(use, marks[use.get(_HREF, "")[1:]], once=uses[use.get(_HREF, "")[1:]] == 1)
    family = _share_family(root)
    short = {name: f"m{i}" for i, name in enumerate(sorted(_referred(root)))}
    _prune(root, short)
    for style in root.iter(_STYLE):
        style.text = f"{style.text}text{{font-family: {family}}}" if family else style.text
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _share_family(root: Element) -> str:
    """The font family of the first text, taken off all texts that have it."""
    texts = [(each, _styles(each)) for each in root.iter(_TEXT)]
    family = next((styles["font-family"] for _, styles in texts if "font-family" in styles), "")
    for each, styles in texts:
        if styles.get("font-family") == family:
            each.set("style", _joined({name: value for name, value in styles.items() if name != "font-family"}))
    return family


def _place(use: Element, mark: Element, once: bool) -> None:
    """A mark where it is used: as a path of its own if that is its only use."""
    own, lines = _styles(mark), bool(_LINES.fullmatch(mark.get("d", "")))
    style = _styles(use)
    if lines and mark.get("d", "").count("L") < 2:
        style.pop("fill", None)  # a line has no area
    if not once:
        use.set("style", _joined({name: value for name, value in style.items() if name not in own}))
        return
    x, y = float(use.get("x", "0")), float(use.get("y", "0"))
    use.tag = _PATH
    for name in ("x", "y", _HREF):
        use.attrib.pop(name, None)
    use.set("style", _joined(style | own))
    use.set("d", relative(mark.get("d", ""), x, y) if lines else mark.get("d", ""))
    if not lines:
        use.set("transform", f"translate({x} {y})")


def _referred(root: Element) -> set[str]:
    """Ids that something refers to."""
    linked = {use.get(_HREF, "")[1:] for use in root.iter(_USE)}
    return linked | {name for each in root.iter() for value in each.attrib.values() for name in _URL.findall(value)}


def _prune(element: Element, short: dict[str, str]) -> None:
    """An element and all within it, in place; short: {id that is referred to: its new name}."""
    children: list[Element] = []
    for child in element:
        _prune(child, short)
        unused = child.tag == _PATH and element.tag == _DEFS and not child.get("id")
        unseen = child.tag == _PATH and _POINT.fullmatch(child.get("d", ""))
        if child.tag == _METADATA or unused or unseen or (child.tag == _DEFS and not len(child)):
            continue
        children += list(child) if child.tag == _GROUP and not child.attrib else [child]
    element[:] = children
    element.tail = None
    if not (element.text or "").strip():
        element.text = None
    element.attrib = {name: value for name, value in _attributes(element, short) if value}


def _attributes(element: Element, short: dict[str, str]):
    for name, value in element.attrib.items():
        artist = _ARTIST.fullmatch(value) if name == "id" else None
        if artist:
            yield from (("class", artist[1]), ("data-line", artist[2]))
        elif name == "id":
            yield name, short.get(value, value if _NAMED.match(value) else "")
        elif name == _HREF:
            yield name, f"#{short[value[1:]]}"
        elif name == "style":
            yield name, _joined({key: each for key, each in _styles(element).items() if key not in _SPARE})
        elif name == "d" and _LINES.fullmatch(value):
            yield name, relative(value)
        elif name == "transform" and _NO_TURN.match(value):
            continue
        else:
            yield name, _URL.sub(lambda link: f"url(#{short[link[1]]})", _rounded(value))


def _styles(element: Element) -> dict[str, str]:
    parts = (part.partition(":") for part in element.get("style", "").split(";") if part.strip())
    return {name.strip(): value.strip() for name, _, value in parts}


def _joined(styles: dict[str, str]) -> str:
    return ";".join(f"{name}:{value}" for name, value in styles.items())


def _rounded(text: str) -> str:
    """A tenth of a point is enough."""
    return _DIGITS.sub(lambda number: f"{float(number[0]):.1f}", text)


def relative(path: str, right: float = 0.0, down: float = 0.0) -> str:
    """A path of straight lines, each from the end of the one before: half as long, the same to a tenth of a point.

    Args:
        path: absolute, of the commands M, L and z.
        right, down: how far it is moved.

    Example:
        >>> relative("M 10 20.5 L 12 20 L 12.3 21")
        'M10 20.5l2-.5 .3 1'
        >>> relative("M 1 1 L 2 1 L 2 0 z", right=1)
        'M2 1l1 0 0-1z'
    """
    parts, x, y = [], 0, 0
    for command, *place in re.findall(r"([MLz])(?:\s(\S+)\s(\S+))?", path):
        if command == "z":
            parts.append("z")
            continue
        to_x, to_y = (round(10 * (float(word) + by)) for word, by in zip(place, (right, down), strict=True))
        if command == "M":
            parts.append(f"M{_tenths(to_x)} {_tenths(to_y)}")
        else:
            across, along = _tenths(to_x - x), _tenths(to_y - y)
            before = "l" if parts[-1][0] == "M" else "" if across[0] == "-" else " "
            parts.append(f"{before}{across}{'' if along[0] == '-' else ' '}{along}")
        x, y = to_x, to_y
    return "".join(parts)


def _tenths(number: int) -> str:
    whole, rest = divmod(abs(number), 10)
    digits = f"{whole or ('' if rest else '0')}{f'.{rest}' if rest else ''}"
    return f"-{digits}" if number < 0 else digits
