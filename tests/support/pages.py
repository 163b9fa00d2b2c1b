"""Pages of text whose Python blocks run."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(page: Path) -> dict[str, object]:
    """Run every Python block of a page, in order in one namespace."""
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, str(page), "exec"), namespace)
    return namespace
