"""Try every link that leads out of the documentation: `python tools/links.py`, once a week in CI.

Links within it are checked by the strict build. A server that forbids programs (401, 403, 429) counts as there.
"""

import re
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"https?://[^\s)>\"'`\]}]+")
GUARDED = (401, 403, 429)


def links() -> dict[str, list[str]]:
    """{address: the files that lead there}"""
    found: dict[str, list[str]] = {}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]
    for page in sorted(page for page in pages if "made" not in page.parts):
        for address in LINK.findall(page.read_text()):
            found.setdefault(address.rstrip(".,;"), []).append(str(page.relative_to(ROOT)))
    return found


def broken(address: str, tries: int = 3) -> str | None:
    """What is wrong with an address, or None."""
    wrong = ""
    for _ in range(tries):
        try:
            urlopen(Request(address, headers={"User-Agent": "Mozilla/5.0"}), timeout=20).close()
            return None
        except HTTPError as error:
            if error.code in GUARDED:
                return None
            wrong = str(error)
        except (URLError, TimeoutError) as error:
            wrong = str(error)
    return wrong


def main() -> int:
    found = links()
    wrong = {address: problem for address in found if (problem := broken(address))}
    for address, problem in wrong.items():
        print(f"{address}: {problem}, in {', '.join(found[address])}")
    print(f"{len(found)} links, {len(wrong)} broken")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
