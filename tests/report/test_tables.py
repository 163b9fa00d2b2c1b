"""Tables show what the runs are, in three forms, and every string in them is text."""

import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from markdown_it import MarkdownIt
from report_checks import as_rows
from results_frames import AS_IN_THE_PAPER, LOST, Kind, run, runs, sweep
from scipy import stats as scipy_stats

from regrow.lab.nets import MLP
from regrow.lab.studies import SETTINGS, SYSTEMS
from regrow.lab.studies.permuted_values import CHOSEN, chosen
from regrow.report.claims import STATEMENTS, evaluate
from regrow.report.format import chance, number, value
from regrow.report.page.page import environment
from regrow.report.published import LEVELS, level
from regrow.report.runs import entries
from regrow.report.tables.permuted import claims, renewals, summary, tables, values
from regrow.report.tables.table import Table

CHOSEN_SWR = chosen("large", "swr")
HOSTILE = (
    "<script>alert('1')</script>",
    "</td></tr></table><h1>out",
    '" onmouseover="x',
    "a | b || c",
    "back\\slash \\| \\\\",
    "**bold** __b__ *i* _i_ ~~s~~ `code`",
    "[x](javascript:alert(1)) ![i](y.png) [r][r]",
    "<https://example.org> https://example.org www.example.org",
    "&lt; &amp; &copy; &#60;",
    "$x^2_1$ $$y$$",
    "50 % of #1 & {a} ~ ^ _ \\input{x} \\\\ [2ex]",
    "− ± × ≈ α λ σ² β₁ – …",
    "1. item",
    "- item",
    "# head",
    "ends with \\",
)


class Cells(HTMLParser):
    """The texts of a document's cells, and all of its tags."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.cells: list[str] = []
        self.tags: list[str] = []
        self.scopes: list[str | None] = []
        self._inside = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self.scopes.append(dict(attrs).get("scope"))
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


def hostile() -> Table:
    rows = tuple((text, "cell", text) for text in HOSTILE)
    return Table("x/../<y>", HOSTILE[0], HOSTILE[1], ("head", HOSTILE[2], HOSTILE[3]), rows, HOSTILE, 1, frozenset({1}))


def to_html(table: Table) -> str:
    return environment().get_template("parts.html.j2").module.table(table)  # type: ignore[attr-defined]


def test_html_shows_every_string_as_it_is() -> None:
    shown = Cells(to_html(hostile()))
    assert set(shown.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td", "p", "div", "a"}
    assert shown.cells == ["head", HOSTILE[2], HOSTILE[3], *(c for text in HOSTILE for c in (text, "cell", text))]
    assert shown.scopes[:6] == ["col", "col", "col", "row", None, None]
    assert shown.tags.count("table") == shown.tags.count("caption") == 1


def test_html_groups_rows_that_share_their_first_name() -> None:
    rows = (("large", "base", "1"), ("large", "SWR", "2"), ("small", "base", "3"))
    shown = Cells(to_html(Table("t", "", "", ("Setting", "System", "Mean"), rows, (), 2, frozenset({2}))))
    assert shown.cells == ["System", "Mean", "large", "base", "1", "SWR", "2", "small", "base", "3"]
    assert shown.scopes[2] == "rowgroup" and shown.tags.count("tbody") == 2


def test_markdown_shows_every_string_as_it_is() -> None:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(hostile().to_markdown())
    shown = Cells(page)
    assert set(shown.tags) == {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    rows = [cell for text in HOSTILE for cell in (text, "cell", text)]
    assert shown.cells == ["head", HOSTILE[2], HOSTILE[3], *rows]
    assert page.count("Note: ") == len(HOSTILE)
    assert not re.search(r"https?://|www\.", hostile().to_markdown())  # GitHub would make links of them


def test_latex_leaves_no_string_a_command() -> None:
    text = hostile().to_latex()
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line != r"\midrule"]
    assert len(lines) == len(HOSTILE)
    for line in lines:
        assert line.endswith(r" \\") and len(re.findall(r"(?<!\\)&", line)) == 2
    ours = (
        r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textasciigrave|textquotedbl)\{\}"
    )
    signs = r"\$(-|\\(pm|times|approx|leq|geq|alpha|beta|gamma|lambda|mu|sigma))\$"
    more = r"\\text(super|sub)script\{\d\}|\\dag\{\}|\\dots\{\}|\{[\[\]]\}|\\[{}$&#_%]"
    left = re.sub(f"{ours}|{signs}|{more}", "", "\n".join(line.removesuffix(r" \\") for line in lines))
    assert not re.search(r"[\\{}$#%^~_]", left), left
    assert r"\label{tab:x-y}" in text and r"\toprule" in text and text.count(r"\begin") == text.count(r"\end") == 2


def test_line_ends_and_hidden_characters_are_spaces_or_nothing() -> None:
    sly = "one\ntwo\r\n\tthree\x00\x1b[31m \u202egnp\u200b"
    table = Table("t", sly, "", ("c",), ((sly,),))
    assert Cells(to_html(table)).cells == ["c", "one two three[31m gnp"]
    assert r"| one two three\[31m gnp |" in table.to_markdown().splitlines()
    assert r"one two three{[}31m gnp \\" in table.to_latex().splitlines()


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="table 't': a row must have 2 cells; got 1"):
        Table("t", "", "", ("a", "b"), (("1",),))


def test_tables_1_to_4_are_the_papers() -> None:
    rows = as_rows(values(pl.DataFrame(), "2"))
    assert rows["large", "CBP", "maturity"]["Values tested"] == "1, 5, 10, 50, 100, 500"
    assert rows["large", "CBP", "maturity"]["Paper"] == "500"
    assert rows["large-ln", "L2", "decay λ"]["Paper"] == "1e-5"
    assert rows["large-ln", "base", "layer norm"] == rows["large-ln", "base", "layer norm"] | {
        "Values tested": "before, after",
        "Paper": "after",
        "Ours": "–",
    }
    assert as_rows(values(pl.DataFrame(), "4"))["large-adamw", "base", "β₂"]["Paper"] == "0.999"
    assert as_rows(values(pl.DataFrame(), "3"))["small-ln", "ReDo", "every"]["Paper"] == "8192"
    assert not {"CBP", "ReDo"} & {row[1] for row in values(pl.DataFrame(), "1").rows}


def test_our_sweep_stands_beside_the_papers_choice() -> None:
    better = sweep("small", "cbp", lambda c: 88.0 if (c["maturity"], c["replacement_rate"]) == (10, 1e-4) else 86.0)
    same = sweep("small", "l2", lambda c: 89.0 if c["decay"] == 1e-4 else 80.0)
    rows = as_rows(values(pl.concat([better, same]), "3"))
    first, second = rows["small", "CBP", "maturity"], rows["small", "CBP", "replacement rate"]
    assert (first["Ours"], second["Ours"], first["Our sweep"]) == ("10", "1e-4", "25 configs, 5 × 30")
    assert re.fullmatch(r"\+(1\.9|2\.0)\d \[.*\]", first["Ours minus paper's (points)"])
    assert rows["small", "L2", "decay λ"]["Ours minus paper's (points)"] == "the same"
    assert rows["small-ln", "CBP", "maturity"]["Ours"] == "–"


def test_summary_by_hand() -> None:
    frame = runs({("large", "swr"): Kind(92.8), ("large", "scratch"): Kind(90.5)}, seeds=range(5))
    row = as_rows(summary(frame))["large", "SWR"]
    by_seed = 100 * frame.filter(pl.col("system") == "swr")["online_accuracy"].to_numpy().reshape(5, 200)
    mean = by_seed.mean(1)
    low, high = scipy_stats.ttest_1samp(mean, 0).confidence_interval(0.95)
    assert row["Mean"] == f"{mean.mean():.2f} [{low:.2f}, {high:.2f}]"
    assert row["Last 100"].startswith(f"{by_seed[:, 100:].mean():.2f} [")
    slopes = [100 * scipy_stats.linregress(range(100), seed[100:]).slope for seed in by_seed]
    assert row["Slope"].startswith(number(float(np.mean(slopes)), 2, sign=True) + " [")
    assert row["Against fresh"].startswith("+2.3")
    assert (row["Published"], row["Seeds × tasks"], row["Diverged"]) == ("92.79", "5 × 200", "0 of 5")


def test_summary_of_unequal_runs_has_both_and_marks_the_single_seed() -> None:
    frame = pl.concat([run("small", "cbp", tasks=400), *(run("small", "cbp", seed=s) for s in range(1, 4))])
    table = summary(frame)
    assert [row[-2] for row in table.rows] == ["1 × 400", "4 × 200"]
    assert table.rows[0][2].endswith("†") and not table.rows[1][2].endswith("†")
    assert any(note.startswith("† fewer than 3 seeds") for note in table.notes)
    assert table.rows[0][6] == "≈ 85 at the end"


@pytest.mark.parametrize("tasks", [1, 5, 15, 16, 31, 99])
def test_summary_of_few_tasks_leaves_out_what_they_cannot_tell(tasks: int) -> None:
    (row,) = summary(run("small", "cbp", tasks=tasks)).rows
    assert re.match(r"\d\d\.\d\d", row[2]) and ("[" in row[2]) == (tasks >= 16)
    assert row[3] == "–" and (row[4] == "–") == (tasks < 31)


def test_published_levels_stand_beside_the_papers_values_only() -> None:
    other = {**CHOSEN_SWR, "every": 1}
    (row,) = summary(run("large", "swr", config=other)).rows
    assert row[6] == "–"


def test_summary_counts_diverged_runs() -> None:
    lost = run("large", "redo", seed=4, online_accuracy=None, diverged=True)
    (row,) = summary(pl.concat([runs({("large", "redo"): Kind()}, seeds=range(4)), lost])).rows
    assert row[-1] == "1 of 5" and float(row[2][:5]) == pytest.approx((4 * 92 + 10) / 5, abs=0.1)


def test_renewals_by_hand() -> None:
    kinds = {("large", system): Kind() for system in ("base", "swr", "cbp")}
    rows = as_rows(renewals(runs(kinds), {("large", "swr"): 0.21234}))
    assert rows["large", "SWR"] == rows["large", "SWR"] | {
        "Renewals a task": "1.00",
        "Renewed a task (% of all entries)": "48.1",
        "Units a task": "–",
        "Of them utility 0 (%)": "99.8",
        "As the time before (%)": "57.0",
        "Loss jump": "+0.100",
        "ms an update": "0.212",
    }
    assert rows["large", "CBP"]["Of them utility 0 (%)"] == "100.0" and rows["large", "CBP"]["Units a task"] == "3.0"
    assert rows["large", "base"]["ms an update"] == "–"
    assert {row[1] for row in renewals(runs(kinds)).rows} == {"SWR", "CBP"}  # no cost, nothing to say of base


def test_a_system_that_never_renews_is_seen() -> None:
    silent = {"renewals": 0, "renewed": 0, "renewed_units": 0, "renewed_zero": 0, "overlap": None, "loss_jump": None}
    (row,) = renewals(run("small", "redo", **silent)).rows
    assert row[2:8] == ("0.00", "0", "–", "–", "–", "–")


@pytest.mark.parametrize("setting", SETTINGS)
def test_entries_are_those_of_the_network(setting: str) -> None:
    net = MLP(SETTINGS[setting].hidden, SETTINGS[setting].layer_norm)
    assert entries(setting) == sum(p.numel() for p in net.parameters())


def test_claims_have_a_row_each_with_number_or_command() -> None:
    verdicts = evaluate(runs({("large", "base"): LOST}))
    rows = claims(verdicts).rows
    assert [row[0] for row in rows] == [statement.id for statement in STATEMENTS]
    first, second = rows[0], rows[1]
    assert (
        first[3] == "confirmed" and re.fullmatch(r"−4\.\d\d \[−4\.\d\d, −4\.\d\d\] points", first[4]) and not first[-1]
    )
    assert second[3] == "not run" and second[4] == "–"
    assert second[-1].startswith("missing: scratch in large: no run") and ": regrow run weights-vs-units " in second[-1]


@pytest.mark.parametrize("frame", [pl.DataFrame(), run("large", "base").head(0), run("small-ln", "swr", tasks=1)])
def test_every_table_stands_on_little_or_nothing(frame: pl.DataFrame) -> None:
    listed = tables(frame, evaluate(frame))
    assert [table.name for table in listed] == [
        "summary", "renewals", "table-1", "table-2", "table-3", "table-4", "claims",
    ]  # fmt: skip
    for table in listed:
        assert to_html(table) and table.to_latex() and table.to_markdown()
        assert not any(re.search(r"\b(nan|inf|None)\b", cell) for row in table.rows for cell in row)


def test_every_table_in_full() -> None:
    kinds = {key: kind for key, kind in AS_IN_THE_PAPER.items() if key[0] in ("large", "small-ln")}
    for table in tables(runs(kinds, seeds=[0]), cost={("large", "base"): 0.2}):
        assert not any(re.search(r"\b(nan|inf|None)\b", cell) for row in table.rows for cell in row)


def test_published_levels_are_of_systems_in_the_laboratory() -> None:
    assert set(LEVELS) <= {(setting, system) for setting in CHOSEN for system in SYSTEMS}
    exact = {key: each.text for key, each in LEVELS.items() if each.exact and each.high is None}
    assert exact["large", "swr"] == "92.79" and exact["large", "redo"] == "92.49" and len(exact) == 8
    assert all(10 < each.low < (each.high or 101) <= 101 for each in LEVELS.values())
    assert level("small", "base") is None


def test_numbers_are_short_and_have_true_minus_signs() -> None:
    assert (number(-1.005, 1), number(float("inf"), 1), number(-0.001, 2)) == ("−1.0", "–", "0.00")
    assert [value(v) for v in (5e-4, 1e-10, 0.05, 1.0, 8192, 0.999)] == ["5e-4", "1e-10", "0.05", "1", "8192", "0.999"]
    assert (chance(0.0), chance(0.5), chance(float("nan"))) == ("< 0.0001", "0.5", "–")
