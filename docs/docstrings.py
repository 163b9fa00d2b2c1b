"""How the docstrings of the package reach the pages: "Example:" as code, all else as it stands."""

import inspect
import re
from typing import Any

import griffe

from regrow import methods
from regrow.maintain import FRONT_ENDS

_SECTION = re.compile(r"^(Args|Returns|Raises|Reference):$")
_EXAMPLE = "Example:\n"


class Docstrings(griffe.Extension):
    """Changes that the parser of Google style and Markdown ask for."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _parsable(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """The classes made from the registry of methods are known to the stub alone, which has no docstrings."""
        for name, kind in FRONT_ENDS.items() if pkg.path == "regrow" else ():
            source = getattr(methods, name).__module__.replace(".", "/")
            text = f"{_parsable(inspect.cleandoc(kind.__doc__ or ''))}\n\nSource: `src/{source}.py`"
            pkg.members[name].docstring = griffe.Docstring(text, parent=pkg.members[name])  # type: ignore


def _parsable(text: str) -> str:
    text, example, code = text.partition(_EXAMPLE)
    code, reference, rest = code.partition("\nReference:\n")
    return _literal(text) + example.replace("Example", "Examples") + code + reference + rest


def _literal(text: str) -> str:
    """Text in which Markdown finds no emphasis and no quotation."""
    lines, in_section = [], False
    for line in text.split("\n"):
        in_section = in_section or _SECTION.match(line) is not None
        equation = not in_section and line.startswith("    ")
        parts = [line] if equation else re.split(r"(`[^`]*`)", line)
        lines.append("".join(p if equation or p.startswith("`") else re.sub(r"[*>]", r"\\\g<0>", p) for p in parts))
    return "\n".join(lines)
