"""The pages under docs/ say what is so: their code runs and prints what stands beside it; all public names are there.

That links lead somewhere and documented names exist is checked by the strict build.
"""

import inspect
import re
from importlib import import_module

import pages
import pytest

import regrow

DOCS = sorted((pages.ROOT / "docs").rglob("*.md"))
API = "\n".join(page.read_text() for page in DOCS if page.parent.name == "api")
DOCUMENTED = re.findall(r"^::: (\S+)", API, re.MULTILINE)
ABSTRACT = ("regrow.Maintainer", "regrow.laws.Law")


@pytest.mark.parametrize("page", [p for p in DOCS if "```python" in p.read_text()], ids=lambda page: page.stem)
def test_code_runs_and_prints_what_it_says(page, capsys):
    pages.run(page)
    printed = capsys.readouterr().out
    said = re.findall(r"^print\(.*\)  # (.*)$", page.read_text(), re.MULTILINE)
    said += re.findall(r"^# (.*)$", page.read_text().partition("print(found)\n")[2].partition("```")[0], re.MULTILINE)
    missing = [line for line in said if line.rstrip() + "\n" not in printed]
    assert not missing, (missing, printed)


def test_every_public_name_has_its_place():
    modules = {"core": [f"regrow.core.{name}" for name in regrow.core.__all__]}
    modules["methods"] = [f"regrow.methods.{name}" for name in regrow.methods.__all__ if name != "REGISTRY"]
    modules["laws"] = [f"regrow.laws.{name}" for name in regrow.laws.__all__ if name != "SOURCES"]
    expected = {name for names in modules.values() for name in names}
    expected |= {f"regrow.{name}" for name in regrow.__all__ if name not in modules}
    expected = {"regrow.diagnose.diagnose.diagnose" if name == "regrow.diagnose" else name for name in expected}
    expected = {name for name in expected if name != "regrow.laws.init_laws"}  # it stands as regrow.init_laws
    assert expected <= set(DOCUMENTED), expected - set(DOCUMENTED)


@pytest.mark.parametrize(
    "name", [name for name in DOCUMENTED if not name.startswith("regrow.core.") and name not in ABSTRACT]
)
def test_arguments_are_those_of_the_signature(name):
    module, _, attribute = name.rpartition(".")
    thing = getattr(import_module(module), attribute)
    text = inspect.cleandoc(thing.__doc__).partition("\nArgs:\n")[2]
    section = re.split(r"\n(?=\S)", text)[0]
    described = re.findall(r"^    (\w+(?:, \w+)*): ", section, re.MULTILINE)
    assert [one for names in described for one in names.split(", ")] == list(inspect.signature(thing).parameters)
