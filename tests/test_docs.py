"""The pages under docs/ say what is so: their code runs and prints what stands beside it, and no public name is left out.

That links lead somewhere, and that documented names exist, the strict build of the pages checks.
"""

import re

import pages
import pytest

import regrow

DOCS = sorted((pages.ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", [p for p in DOCS if "```python" in p.read_text()], ids=lambda page: page.stem)
def test_code_runs_and_prints_what_it_says(page, capsys):
    pages.run(page)
    printed = capsys.readouterr().out
    said = re.findall(r"^print\(.*\)  # (.*)$", page.read_text(), re.MULTILINE)
    said += re.findall(r"^# (.*)$", page.read_text().partition("print(found)\n")[2].partition("```")[0], re.MULTILINE)
    missing = [line for line in said if line.rstrip() + "\n" not in printed]
    assert not missing, (missing, printed)


def test_every_public_name_has_its_place():
    text = "\n".join(page.read_text() for page in DOCS if page.parent.name == "api")
    documented = set(re.findall(r"^::: (\S+)", text, re.MULTILINE))
    modules = {"core": [f"regrow.core.{name}" for name in regrow.core.__all__]}
    modules["laws"] = [f"regrow.laws.{name}" for name in regrow.laws.__all__ if name != "SOURCES"]
    expected = {name for names in modules.values() for name in names}
    expected |= {f"regrow.{name}" for name in regrow.__all__ if name not in modules}
    expected = {"regrow.diagnose.diagnose.diagnose" if name == "regrow.diagnose" else name for name in expected}
    expected = {name for name in expected if name != "regrow.laws.init_laws"}  # it stands as regrow.init_laws
    assert expected <= documented, expected - documented
