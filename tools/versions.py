"""Which versions of Python and torch the library has been tested with: run its tests, and write the table of the docs.

    python tools/versions.py test rows/3.13-2.6.json     # in an environment with those versions
    python tools/versions.py table rows/*.json           # into docs/versions.md

The workflow does both for every pair in its matrix.
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "versions.md"
TESTS = ["tests/core", "tests/library"]
BEGIN, END = "<!-- versions -->", "<!-- end of versions -->"
OUTCOMES = ("tests", "failures", "errors", "skipped")


def test(target: Path) -> int:
    """Run the tests of the library with this interpreter, and store what came of them; returns pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={xml}", *TESTS]
        code = subprocess.run(command, cwd=ROOT).returncode
        counts = ElementTree.parse(xml).getroot().find("testsuite")
    assert counts is not None
    row = {name: int(counts.attrib[name]) for name in OUTCOMES} | {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": _git("rev-parse", "--short", "HEAD"),
        "date": datetime.date.today().isoformat(),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(row) + "\n")
    return code


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def table(rows: list[dict[str, object]]) -> str:
    """The rows as a Markdown table, the newest versions first."""
    lines = [
        "| Python | torch | numpy | system | passed | failed | skipped | commit, date |",
        "|---|---|---|---|--:|--:|--:|---|",
    ]
    for row in sorted(rows, key=lambda row: (_numbers(row["torch"]), _numbers(row["python"])), reverse=True):
        failed = int(str(row["failures"])) + int(str(row["errors"]))
        passed = int(str(row["tests"])) - failed - int(str(row["skipped"]))
        lines.append(
            f"| {row['python']} | {row['torch']} | {row['numpy']} | {row['system']} | {passed:,} | {failed} "
            f"| {row['skipped']} | {row['commit']}, {row['date']} |"
        )
    return "\n".join(lines)


def _numbers(text: object) -> list[int]:
    return [int(part) for part in str(text).split("+")[0].split(".")]


def write(rows: list[dict[str, object]]) -> None:
    """Put the table in its place on the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["test", "table"])
    parser.add_argument("files", nargs="+", type=Path)
    asked = parser.parse_args()
    if asked.what == "test":
        sys.exit(test(asked.files[0]))
    write([json.loads(path.read_text()) for path in asked.files])
