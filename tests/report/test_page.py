"""The page needs nothing but itself, shows what it is given and runs none of it, and fits a telephone."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from report_checks import Page, check_links

from regrow.report.page.page import environment, write_page
from regrow.report.results import combine, read
from regrow.report.tables.permuted import runs_table

STORED = Path(__file__).parent / "stored"
HOSTILE = '</script><script>alert("1")</script><img src=x onerror=alert(2)>&amp;\'"'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A report of stored runs of the laboratory."""
    out = tmp_path_factory.mktemp("report")
    write_page(combine([read(folder) for folder in sorted(STORED.iterdir())]), out)
    return Page(out / "index.html")


def test_it_asks_for_nothing_from_outside(page: Page) -> None:
    for _, attributes, _ in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or re.match(r"(#|data:|figures/|tables/|claims\.json)", value), value
    assert [each.get("type") for each in page.all("script")] == [
        "application/json",
        None,
    ] and "@import" not in page.text
    script = page.text[page.text.rindex("<script>") + 8 : page.text.rindex("</script>")]
    assert "fetch(" not in script and "http" not in script.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"url\(\s*['\"]?(?!#)", page.text)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; img-src data:"
    assert page.path.stat().st_size < 1.5e6


def test_links_resolve(page: Page) -> None:
    check_links(page)
    assert len(page.all("a")) > 50


def test_every_figure_is_there_as_picture_and_files(page: Page) -> None:
    figures = page.path.parent / "figures"
    names = {path.stem for path in figures.iterdir()}
    for kind in ("svg", "csv"):
        assert {path.stem for path in figures.glob(f"*.{kind}")} == names
    assert [path.name for path in figures.glob("*.png")] == ["answer.png"]  # for pages that show no SVG
    assert {"answer", "figure-01", "figure-09", "figure-14", "cost", "options"} <= names and len(names) >= 21
    panels = [each for each in page.all("svg") if each.get("data-panel")]
    shown = {str(each["data-panel"]).rsplit("-", 1)[0] for each in panels}
    assert shown == names and len(page.all("figcaption")) == len(names)
    described = [
        each["aria-label"] or "" for each in page.all("svg") if each.get("role") == "img" and "data-panel" in each
    ]
    assert len(described) >= 21 and all(len(text) > 40 for text in described)
    assert (figures / "answer.png").read_bytes().startswith(b"\x89PNG")
    linked = [each["href"] for each in page.all("a") if (each.get("href") or "").endswith((".svg", ".png", ".csv"))]
    assert sorted(linked) == sorted(f"figures/{path.name}" for path in figures.iterdir())


def test_the_table_of_a_figure_is_what_is_drawn(page: Page) -> None:
    rows = pl.read_csv(page.path.parent / "figures" / "figure-02.csv")
    assert rows.columns == ["panel", "line", "seeds", "x", "mean", "standard_error"]
    mine = rows.filter(panel="small", line="CBP")
    stored = pl.read_parquet(STORED / "weights-vs-units" / "results" / "all.parquet")
    stored = stored.filter(setting="small", system="cbp").group_by("task").agg(pl.col("online_accuracy").mean())
    assert mine["mean"].to_list() == pytest.approx((100 * stored.sort("task")["online_accuracy"]).to_list(), rel=1e-4)
    data = json.loads(page.text[page.text.index('id="data">') + 10 :].split("</script>")[0])
    panel = next(each for each in data["figures"]["figure-02"] if each["id"] == "figure-02-2")
    (line,) = [each for each in panel["series"] if each["label"] == "CBP"]
    assert (
        data["series"][line["m"]] == pytest.approx(mine["mean"].to_list(), rel=1e-3)
        and line["start"] == 0
        and line["step"] == 1
    )


def test_the_browser_of_runs_has_every_system(page: Page) -> None:
    data = json.loads(page.text[page.text.index('id="data">') + 10 :].split("</script>")[0])["browser"]
    assert [each["name"] for each in data["settings"]][:4] == [
        "large",
        "large, layer norm",
        "small",
        "small, layer norm",
    ]
    small = data["settings"][2]
    assert {"base", "cbp", "redo", "swr", "fresh-network"} <= {each["key"] for each in small["systems"]}
    assert len(small["lengths"][0]["curves"]) == len(data["measures"]) == 7
    assert all(len(curves) == len(small["systems"]) for curves in small["lengths"][0]["curves"])


def test_every_table_is_there_as_table_and_file(page: Page) -> None:
    tables = page.path.parent / "tables"
    names = {path.stem for path in tables.glob("*.md")}
    assert names == {path.stem for path in tables.glob("*.tex")}
    assert names == {"runs", "summary", "renewals", "table-1", "table-2", "table-3", "table-4", "claims"}
    sortable = [attributes for attributes in page.all("table") if attributes.get("class") == "sortable"]
    assert len(sortable) == len(names) - 1  # the claims are cards
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("div" in parents for name, _, parents in page.elements if name == "table")  # a box that scrolls


def test_headings_are_in_order(page: Page) -> None:
    levels = [int(name[1]) for name, *_ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    assert page.all("html")[0]["lang"] == "en" and len(page.all("main")) == len(page.all("title")) == 1
    assert page.all("meta")[1]["content"] == "width=device-width, initial-scale=1"


def test_the_page_has_all_its_sections(page: Page) -> None:
    for text in ("How well each system learns", "What is missing", "How the numbers come about", "fresh network"):
        assert text in page.text
    verdicts = json.loads((page.path.parent / "claims.json").read_text())["claims"]
    assert len(verdicts) > 20
    assert [f"claim-{verdict['id']}" for verdict in verdicts] == [each["id"] for each in page.all("article")]
    places = [page.text.index(f'id="{name}"') for name in ("answer", "scoreboard", "figures", "new", "explore", "more")]
    assert places == sorted(places) and places[-1] < page.text.index('id="provenance"')
    assert "These runs are on scikit-learn&#39;s digits, not on MNIST" in page.text


def test_every_folder_has_a_row() -> None:
    folder = read(STORED / "sweep")
    row = dict(zip(*((t := runs_table([folder])).columns, t.rows[0]), strict=True))
    assert row["Study"] == "weights-vs-units, sweep" and row["Seeds × tasks"] == "1 × 2"
    assert row["Command"].startswith("regrow run weights-vs-units --settings small --systems cbp redo swr")
    assert row["Version"].startswith("0.1.0, commit ") and "torch 2." in row["Version"]
    half = replace(folder, rows=folder.rows.filter(pl.col("task") == 0))
    assert runs_table([half]).rows[0][2] == "1 × 2 (not finished)"
    assert runs_table([replace(folder, manifest={"study": "optimizers"})]).rows[0][0] == "optimizers"


def test_every_text_is_escaped(small: Path, tmp_path: Path) -> None:
    """A manifest and rows from elsewhere may hold anything."""
    manifest = json.loads((small / "manifest.json").read_text())
    for key in ("study", "version", "machine", "commit", "started", "torch", "device"):
        manifest[key] = HOSTILE
    manifest["command"] = ["run", HOSTILE]
    manifest["config"] |= {"data": HOSTILE, "settings": [HOSTILE]}
    (small / "manifest.json").write_text(json.dumps(manifest))
    rows = pl.read_parquet(small / "results" / "all.parquet")
    rows = rows.with_columns(study=pl.lit(HOSTILE), config=pl.lit(json.dumps({HOSTILE: HOSTILE})))
    rows.write_parquet(small / "results" / "all.parquet")
    write_page(combine([read(small)]), tmp_path / "out", note=HOSTILE)
    page = Page(tmp_path / "out" / "index.html")
    assert len(page.all("script")) == 2 and not page.all("img") and "onerror=alert(2)&gt;" in page.text
    assert "&lt;script&gt;alert(&#34;1&#34;)" in page.text


def test_nothing_missing_is_said() -> None:
    assert "every figure has all its runs" in environment().get_template("parts.html.j2").module.missing([])  # type: ignore[attr-defined]


def test_a_table_keeps_its_notes_outside_of_its_box() -> None:
    shown = environment().get_template("parts.html.j2").module.table(runs_table([read(STORED / "sweep")]))  # type: ignore[attr-defined]
    assert shown.index("One row for each folder") < shown.index('class="scroll"')


def test_what_an_earlier_report_drew_and_this_one_lacks_goes(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    for name in ("figure-02.svg", "figure-02.png", "figure-02.csv", "options.png", "mine.txt"):
        (out / "figures" / name).touch()
    write_page(combine([read(small)]), out)
    left = {path.name for path in (out / "figures").iterdir()}
    assert {"mine.txt", "options.svg"} <= left
    assert not left & {"figure-02.svg", "figure-02.png", "figure-02.csv", "options.png"}
