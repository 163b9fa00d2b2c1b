"""Every number of README and docs is that of the stored results, as the report computes it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def prose():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        import prose

        yield prose


def test_the_pages_say_what_the_results_say_and_a_wrong_number_is_found(prose) -> None:
    numbers = prose.Numbers()
    for page in prose.PAGES:
        text = (ROOT / page).read_text()
        marks = [mark[0] for mark in prose.MARK.finditer(text)]
        assert text.count("<!-- number:") + text.count("<!-- table:") == len(marks) > 0, "a mark that does not end"
        assert not re.search(r"(?m)^\s*<!-- number", text), f"{page}: a mark that begins a line ends its list"
        assert prose.fill(text, numbers.of) == text, f"{page} says something else: run python tools/prose.py"
        wrong = re.sub(r"(<!-- number: level large swr -->|large swr -->)[\d.]+", r"\g<1>12.3", text)
        assert (wrong != text) == (page == "README.md") and prose.fill(wrong, numbers.of) == text
    with pytest.raises(ValueError, match="there is no number '4z': see the top of tools/prose.py"):
        numbers.of("number", "4z")


def test_the_pages_grades_and_numbers_are_those_of_the_verdicts(prose) -> None:
    effect = prose.Effect(0.4, 0.01, 4, "seeds", 5, 1200)
    assert prose.in_words(effect, "points") == "+0.40 points [0.37, 0.43]"
    assert prose.in_words(effect, "points of the units", "value") == "+0.40 points"
    assert (prose.in_words(effect, "%", "value"), prose.in_words(effect, "%", "tasks")) == ("+0.4 %", "1,200")


def test_the_table_of_cartpole_is_that_of_the_runs_there_are(prose) -> None:
    from prose_tables import cartpole

    def run(level: float, later: float) -> dict:
        """Two levels of 50 iterations, one of them without an ended episode; the last 25 are 10 better."""
        returns = [None, *[level] * 49, *[later] * 25, *[later + 10] * 25]
        return {"returns": returns, "protocol": {"levels": 2}, "steps": 800, "processor_seconds": 90}

    runs = {"base": {0: run(300, 9), 1: run(302, 11)}, "swr": {1: run(304, 111), 2: run(304, 7)}, "redo": {}}
    rows = cartpole.table(runs).splitlines()[2:]
    assert rows == [
        "| base | 2 of 3 | 301.0 [288.3, 313.7] | 15.0 [2.3, 27.7] | 20.0 [7.3, 32.7] | 0 of 2 | – |",
        "| SWR | 2 of 3 | 304.0 [304.0, 304.0] | 64.0 [−596.7, 724.7] | 69.0 [−591.7, 729.7] | 1 of 2 | +100.0 |",
        "| ReDo | 0 of 3 | – | – | – | – | – |",
    ]
    assert cartpole.progress(runs).startswith("4 of 15 runs, about 2 minutes")
    lines, end = cartpole.curves(runs)
    assert end == 80 and lines["base"][1].tolist() == [301, 301, 10, 20] and list(lines) == ["base", "swr"]
