"""The pages under docs/ say what is so: their code runs and prints what stands beside it; all public names are there.

That links to pages lead somewhere and documented names exist is checked by the strict build.
"""

import inspect
import json
import pydoc
import re
from importlib import import_module

import pages
import pytest

import regrow

BUILT = ("made", "tutorial")  # by tools/make_docs.py, which runs the tutorial
DOCS = sorted(page for page in (pages.ROOT / "docs").rglob("*.md") if not set(BUILT) & set(page.parts))
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


def test_every_page_is_in_the_menu():
    menu = (pages.ROOT / "mkdocs.yml").read_text()
    missing = [page for page in DOCS if f": {page.relative_to(pages.ROOT / 'docs')}\n" not in menu]
    assert not missing, missing


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_pictures_are_there(page):
    text = page.read_text()
    report, made = pages.ROOT / "results" / "report", pages.ROOT / "docs" / "made"
    shown = [(page.parent / name).resolve() for name in re.findall(r"\]\(([^):#]+\.(?:svg|png|html|ipynb))\)", text)]
    shown += [pages.ROOT / "docs" / name for name in re.findall(r'^--8<-- "(pictures/[^"]+)"', text, re.MULTILINE)]
    copied = [report / path.relative_to(made / "report") if made in path.parents else path for path in shown]
    assert [path for path in copied if not path.exists()] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_code_fits_its_column(page):
    blocks = re.findall(r"^```(?:python|py)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert [line for block in blocks for line in block.splitlines() if len(line) > 100] == []


def test_code_of_the_tutorial_fits_its_column():
    notebook = json.loads((pages.ROOT / "docs" / "tutorial" / "tutorial.ipynb").read_text())
    code = [line for cell in notebook["cells"] if cell["cell_type"] == "code" for line in cell["source"]]
    assert code and [line for line in code if len(line.rstrip()) > 100] == []


@pytest.mark.parametrize(
    "page", [page for page in DOCS if page.parent.name in ("docs", "methods")], ids=lambda p: p.stem
)
def test_names_in_prose_exist(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    missing = [name for name in re.findall(r"`(regrow(?:\.\w+)+)`", prose) if pydoc.locate(name) is None]
    assert not missing, missing


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
