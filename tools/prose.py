"""Fill the numbers of README and docs from the stored results, as the report computes them.

    python tools/prose.py           # write them
    python tools/prose.py --check   # exit with 1 where a page says something else

A number is between marks that no reader sees: `<!-- number: 4b --><!-- end -->`. What can stand in a mark:

    4b               effect and interval of the test that decides a statement: +0.40 points [0.37, 0.44]
    4b value         the effect alone; `4b grade`, `4b seeds`, `4b tasks`, `4b before` (what the old rules said)
    6a part 2        the same of a statement's second test; `6a part 2 longest` in the longest runs
    12a beside 1     a number that stands beside a statement, with its seeds and tasks
    claims           how many statements on permuted images; `claims confirmed`: of a grade; `claims confirmatory`: that
                     seeds that were not known give alone; `vit claims`: on CIFAR-100
    level large swr  accuracy in percent, last 100 tasks over most seeds; `longest level large swr`
    longest seeds large  over how many seeds that is
    fact zero share  one of `prose_facts.py`

and `<!-- table: NAME -->` … `<!-- end -->` for a table of `prose_tables.py`. The folders are those of the command in
docs/reproduce.md.
"""

import argparse
import re
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import polars as pl
import prose_facts
import prose_tables

from regrow.report.claims import GRADES, Outcome, Verdict, evaluate
from regrow.report.claims.verdict import CONFIRMATORY
from regrow.report.format import number
from regrow.report.page.part_vit import judge
from regrow.report.results import Folder, Results, combine, read
from regrow.report.results_vit import ViTResults, is_vit
from regrow.report.results_vit import combine as combine_vit
from regrow.report.stats import Effect

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "docs/choosing.md",
    "docs/concepts/ties.md",
    "docs/howto/stable-baselines3.md",
    "docs/reproduce.md",
    "docs/statistics.md",
)
MARK = re.compile(r"<!-- (number|table): ([^>]+?) -->(.*?)<!-- end -->", re.DOTALL)
COMMAND = re.compile(r"regrow report ((?:[\w-]+[ \\\n]+)+?)--out report")


class Numbers:
    """All that pages say of the stored results."""

    @cached_property
    def folders(self) -> list[Folder]:
        """Those that docs/reproduce.md makes the report of."""
        command = COMMAND.search((ROOT / "docs/reproduce.md").read_text())
        assert command, "docs/reproduce.md names no folders: it needs `regrow report FOLDER … --out report`"
        return [read(ROOT / "results" / name) for name in re.findall(r"[\w-]+", command[1])]

    @cached_property
    def permuted(self) -> Results:
        """Those on permuted images."""
        return combine([folder for folder in self.folders if not is_vit(folder)])

    @cached_property
    def vit(self) -> ViTResults:
        """Those on CIFAR-100."""
        return combine_vit([folder for folder in self.folders if is_vit(folder)])

    @cached_property
    def vit_long(self) -> ViTResults:
        """Those on CIFAR-100 with longer tasks, which the report leaves out."""
        return combine_vit([read(ROOT / "results" / name) for name in ("vit-small-long", "vit-small-long-clean")])

    def rows(self, folder: str) -> pl.DataFrame:
        """The rows of one folder."""
        return next(each.rows for each in self.folders if each.path.name == folder)

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """All, by their ids."""
        return {verdict.id: verdict for verdict in (*evaluate(self.permuted.runs), *judge(self.vit))}

    def of(self, kind: str, key: str) -> str:
        """What belongs into a mark.

        Raises:
            ValueError: where there is no such number.
        """
        try:
            return f"\n\n{prose_tables.TABLES[key](self)}\n\n" if kind == "table" else self._number(key.split())
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise ValueError(f"there is no {kind} {key!r}: see the top of tools/prose.py") from error

    def _number(self, words: list[str]) -> str:
        if words[0] == "fact":
            return prose_facts.FACTS[" ".join(words[1:])](self)
        if words[:2] == ["longest", "seeds"]:
            return str(len(prose_tables.of_six(self.permuted.runs, words[2], longest=True).seeds))
        if "level" in words:
            setting, system = words[-2:]
            return prose_tables.level(self.permuted.runs, setting, system, longest=words[0] == "longest")
        if "claims" in words:
            last = 12 if words[0] == "claims" else 18
            mine = [verdict for verdict in self.verdicts.values() if (verdict.claim > 12) == (last == 18)]
            grade = " ".join(words[words.index("claims") + 1 :])
            assert not grade or grade in (*GRADES, CONFIRMATORY), grade
            return str(sum(grade in (verdict.grade, verdict.evidence) for verdict in mine) if grade else len(mine))
        verdict, *rest = self.verdicts[words[0]], *words[1:]
        return of_verdict(verdict, rest)


def of_verdict(verdict: Verdict, words: list[str]) -> str:
    """A number of one statement."""
    if words[:1] in (["grade"], ["before"]):
        return verdict.grade if words == ["grade"] else verdict.old_verdict
    if words[:1] == ["beside"]:
        return verdict.beside[int(words[1]) - 1].rsplit(": ", 1)[-1]
    effect, unit = verdict.effect, verdict.unit
    if words[:1] == ["part"]:
        part, words = verdict.parts[int(words[1]) - 1], words[2:]
        effect, unit = part.effect, part.test.quantity.unit
        if words[:1] == ["longest"]:
            effect, words = part.other or effect, words[1:]
    elif words[:1] == ["longest"]:
        effect, words = hinge(verdict).other or effect, words[1:]
    if effect is None:
        raise ValueError("no such runs")
    return in_words(effect, unit, *words)


def hinge(verdict: Verdict) -> Outcome:
    """The test on which a statement hangs."""
    return next(part for part in verdict.parts if part.effect == verdict.effect)


def in_words(effect: Effect, unit: str, what: str = "") -> str:
    """An effect with its unit and interval, or one number of it."""
    if what in ("seeds", "tasks"):
        return f"{getattr(effect, what):,}"
    sign, digits = unit != "rank correlation", 2 if unit.startswith("points") else 1
    value = f"{number(effect.value, digits, sign)} {unit.removesuffix(' of the units')}"
    ends = f" [{number(effect.low, digits)}, {number(effect.high, digits)}]"
    return value + (ends if not what else "")


def fill(text: str, of: Callable[[str, str], str]) -> str:
    """A page with what belongs into its marks.

    Example:
        >>> fill("It is <!-- number: one -->2<!-- end -->.", lambda kind, key: "1")
        'It is <!-- number: one -->1<!-- end -->.'
    """
    return MARK.sub(lambda mark: f"<!-- {mark[1]}: {mark[2]} -->{of(mark[1], mark[2])}<!-- end -->", text)


def main() -> int:
    """Fill, or check, every page."""
    parser = argparse.ArgumentParser(description="Fill the numbers of README and docs from the stored results.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a number differs")
    check, numbers, stale = parser.parse_args().check, Numbers(), []
    for page in PAGES:
        old = (ROOT / page).read_text()
        new = fill(old, numbers.of)
        if new != old:
            stale += [f"{page}: {mark[2]}" for mark in MARK.finditer(old) if mark[0] not in new]
            if not check:
                (ROOT / page).write_text(new)
    if stale:
        print("\n".join(stale), "run python tools/prose.py" if check else "filled", sep="\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
