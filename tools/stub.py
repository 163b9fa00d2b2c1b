"""Write `src/regrow/__init__.pyi`, by which editors and type checkers know the classes made from the registry.

Run: python tools/stub.py (a test fails where the file is not what this writes).
"""

import inspect
from pathlib import Path

import regrow
from regrow.maintain import FRONT_ENDS

PATH = Path(__file__).parents[1] / "src" / "regrow" / "__init__.pyi"
HEAD = '''"""Written by tools/stub.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.nn import Module
from torch.optim import Optimizer

from . import core as core
from . import lab as lab
from . import laws as laws
from . import methods as methods
'''
TYPES = {"model": "Module", "optimizer": "Optimizer | None", "laws": "Mapping[str, Law] | str | None"}
TYPES |= {"units": "Sequence[Units] | None", "only": "str | Sequence[str] | None", "skip": "str | Sequence[str] | None"}


def stub() -> str:
    """The text of the file."""
    lines = [HEAD.rstrip()]
    for name in sorted(set(regrow.__all__) - set(FRONT_ENDS) - {"core", "laws", "methods"}):
        module = getattr(regrow, name).__module__.removeprefix("regrow")
        lines.append(f"from {module} import {name} as {name}")
    lines.append("from .lab.runs.tables import load as load")
    lines.append("from .laws import Law\n\n__version__: str")
    for name, kind in FRONT_ENDS.items():
        lines.append(f"\nclass {name}(Maintainer):\n    def __init__(\n        self,")
        for parameter in inspect.signature(kind).parameters.values():
            if parameter.name == "model":
                lines.append("        model: Module,\n        *,")
                continue
            of = TYPES.get(parameter.name) or _annotation(parameter.annotation)
            default = "" if parameter.default is inspect.Parameter.empty else f" = {_literal(parameter.default)}"
            lines.append(f"        {parameter.name}: {of}{default},")
        lines.append("    ) -> None: ...")
    return "\n".join(lines) + "\n"


def _annotation(of: object) -> str:
    return inspect.formatannotation(of).replace("collections.abc.", "").replace("typing.", "")


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    PATH.write_text(stub())
