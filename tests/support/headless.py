"""Pages in headless Chromium: a script looks at a page within a frame of a given size, and says what it found.

Skipped where there is no browser, an error where REGROW_BROWSER is `required`, as in CI.
"""

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZES = ((390, 844), (800, 1000), (1400, 900))
"""A telephone, a tablet, a laptop: width and height in pixels."""

OUTER = """<!DOCTYPE html><body style="margin:0">
<iframe id="frame" SANDBOX src="PAGE" style="border:0;width:WIDTHpx;height:HEIGHTpx"></iframe>
<script>
const wait = ms => new Promise(done => setTimeout(done, ms));
document.getElementById("frame").onload = async event => {
  const window_ = event.target.contentWindow, page = window_.document;
  const all = (query, from = page) => [...from.querySelectorAll(query)];
  const send = (name, target, x, y) => target.dispatchEvent(new window_.PointerEvent(
    name, {clientX: x, clientY: y, bubbles: true, button: 0, pointerType: "mouse"}));
  let found;
  try { found = await (async () => { SCRIPT })(); } catch (error) { found = {error: `${error.stack}`}; }
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


@dataclass(frozen=True)
class Visit:
    """What a script found on a page, and what the page complained about."""

    found: Any
    complaints: list[str]


def browser() -> str:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        missing = f"needs a browser: none of {', '.join(BROWSERS)} found"
        if os.environ.get("REGROW_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def visit(
    page: Path, folder: Path, script: str, size: tuple[int, int] = SIZES[2], scripts: bool = True, dark: bool = False
) -> Visit:
    """Run a script on a page.

    Args:
        page: its file.
        folder: an empty one, for the browser.
        script: the body of an asynchronous function that returns what it found; `page`, `all(query)`, `wait(ms)` and
            `send(event, target, x, y)` are there.
        size: of the frame.
        scripts: whether the page's own may run.
        dark: whether the reader prefers dark pages.
    """
    outer = folder / "outer.html"
    sandbox = "" if scripts else 'sandbox="allow-same-origin"'
    parts = {"SANDBOX": sandbox, "PAGE": page.as_uri(), "WIDTH": str(size[0]), "HEIGHT": str(size[1]), "SCRIPT": script}
    text = OUTER
    for name, value in parts.items():
        text = text.replace(name, value)
    outer.write_text(text)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--enable-logging=stderr"]
    flags += [f"--window-size={size[0]},{size[1]}", *(["--force-dark-mode"] if dark else [])]
    done = subprocess.run(
        [browser(), *flags, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=60000", "--dump-dom",
         outer.as_uri()],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    (text,) = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL) or pytest.fail(
        done.stdout[-500:] + done.stderr[-2000:]
    )
    found = json.loads(html.unescape(text))
    assert not (isinstance(found, dict) and "error" in found), found["error"]
    return Visit(found, re.findall(r"CONSOLE.*", done.stderr))
