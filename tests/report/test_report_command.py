"""`regrow report` and `regrow watch`: what they read, what they refuse in one line, and what they say."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from report_checks import Page, check_refused
from results_frames import run

from regrow.commands.report import Report, Watch
from regrow.report.results import Folder, combine, read

STORED = Path(__file__).parent / "stored"

Capture = pytest.CaptureFixture[str]


def no_folder(folder: Path) -> Path:
    return folder / "nowhere"


def empty(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def no_rows(folder: Path) -> Path:
    shutil.rmtree(folder / "results")
    return folder


def cut(folder: Path) -> Path:
    path = folder / "results" / "all.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    return folder


def foreign_rows(folder: Path) -> Path:
    pl.DataFrame({"setting": ["large"], "price": [1.0]}).write_parquet(folder / "results" / "all.parquet")
    return folder


def wrong_types(folder: Path) -> Path:
    rows = pl.read_parquet(folder / "results" / "all.parquet")
    rows.with_columns(task=pl.lit("first")).write_parquet(folder / "results" / "all.parquet")
    return folder


def foreign_settings(folder: Path) -> Path:
    rows = pl.read_parquet(folder / "results" / "all.parquet")
    rows.with_columns(setting=pl.lit("huge")).write_parquet(folder / "results" / "all.parquet")
    return folder


def foreign_manifest(folder: Path) -> Path:
    (folder / "manifest.json").write_text("[1, 2]")
    return folder


def bad_bench(folder: Path) -> Path:
    (folder / "bench.json").write_text('{"large": {"seconds": 3}}')
    return folder


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_folder, "nowhere is no folder: give a folder that `regrow run` wrote"),
        (empty, "run holds no manifest.json: give a folder that `regrow run` wrote"),
        (no_rows, "run holds no rows of `results` yet"),
        (cut, "all.parquet is damaged ("),
        (foreign_rows, "all.parquet is incomplete or not of this run: it has no column system, config_id, seed, task"),
        (wrong_types, "all.parquet is incomplete or not of this run: its column task is of type String"),
        (foreign_settings, "it holds rows of setting huge, system "),
        (foreign_manifest, "manifest.json is no manifest of a run"),
        (bad_bench, "bench.json is damaged (KeyError: 'ms_per_network_update'): write it again with regrow bench"),
    ],
)
def test_a_folder_that_is_none_is_refused_in_one_line(small: Path, spoil: Callable[[Path], Path], says: str) -> None:
    check_refused(spoil(small), says)


def test_runs_on_different_images_are_not_mixed(small: Path) -> None:
    one = read(small)
    other = replace(one, manifest=one.manifest | {"config": {**one.config, "data": "mnist", "data_checksum": "f"}})
    with pytest.raises(ValueError, match=r"a report is of one set of images; got .* of digits, .* of mnist: make one"):
        combine([one, other])


def test_of_a_network_in_two_folders_the_longer_series_counts() -> None:
    """Whole: rows of two runs are never put together."""
    short = run("large", "swr", tasks=3, online_accuracy=0.5)
    long = run("large", "swr", tasks=5, online_accuracy=0.9)
    results = combine([Folder(Path(str(i)), {}, rows, {}) for i, rows in enumerate((short, long, short))])
    (only,) = results.runs.main("large", "swr")
    assert only.measure("online_accuracy").tolist() == [90.0] * 5


def test_options_are_told_apart(small: Path) -> None:
    results = combine([read(small), read(STORED / "weights-vs-units")])
    assert len(results.runs.main("small-ln", "cbp")[0].rows) == 4
    assert len(results.others["units read after the norm"].main("small-ln", "cbp")[0].rows) == 3
    assert results.pixels == 64


def test_the_times_of_a_bench_are_read() -> None:
    assert read(STORED / "weights-vs-units").cost == {
        ("large", "base"): 0.2, ("large", "cbp"): 0.23, ("large", "swr"): 0.2, ("small", "base"): 0.03,
    }  # fmt: skip


def test_a_page_that_is_no_report_is_not_overwritten(small: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(OSError, match="index.html is no report and would be overwritten: choose another --out"):
        Report((small,), tmp_path / "site").run()
    assert (tmp_path / "site" / "index.html").read_text() == "<h1>mine</h1>"
    with pytest.raises(OSError, match="manifest.json cannot be written"):
        Report((small,), small / "manifest.json").run()


def test_report_says_where_it_is(small: Path, capsys: Capture) -> None:
    Report((small, small / ".")).run()
    assert capsys.readouterr().out.startswith(f"Report: {small / 'report' / 'index.html'}. Statements: not run")
    page = Page(small / "report" / "index.html")
    assert page.text.count(">weights-vs-units</th>") == 1  # the same folder twice is one
    Report((small,)).run()  # over its own
    with pytest.raises(ValueError, match="needs folders of results; got none"):
        Report(()).run()


def test_report_opens_in_the_browser(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "regrow", "report", str(small), "--open"]
    subprocess.run(command, env=os.environ | {"BROWSER": str(browser)}, check=True)
    assert seen.read_text() == (small / "report" / "index.html").as_uri()
    done = subprocess.run(command, env=os.environ | {"BROWSER": "/bin/false"}, capture_output=True, text=True)
    assert done.returncode == 1 and "`--open` needs a browser, and none was found" in done.stderr


def test_watch_draws_what_is_new_and_stops_when_the_run_is_complete(small: Path, capsys: Capture) -> None:
    path = small / "results" / "all.parquet"
    rows = pl.read_parquet(path)
    path.unlink()
    refreshes = []

    def store(tasks: int) -> None:
        rows.filter(pl.col("task") < tasks).write_parquet(small / "new")
        os.replace(small / "new", path)

    def sleep(seconds: float) -> None:
        """What the run does meanwhile: one task more, and once nothing."""
        assert seconds >= 0.5
        index = small / "report" / "index.html"
        refreshes.append(index.exists() and 'http-equiv="refresh"' in index.read_text())
        if len(refreshes) != 3:
            store({1: 0, 2: 1, 4: 2, 5: 3}[len(refreshes)])

    Watch(small).run(pause=0.5, sleep=sleep)
    said = capsys.readouterr().out
    assert refreshes == [False, False, True, True, True]
    assert "No rows yet" in said and said.count("up to task 0: 2 rows") == 1
    assert "up to task 1: 4 rows" in said and "up to task 2: 6 rows" in said
    assert said.endswith(f"The run is complete. Report: {small / 'report' / 'index.html'}\n")
    final = (small / "report" / "index.html").read_text()
    assert 'http-equiv="refresh"' not in final and "The run goes on" not in final
    assert (small / "report" / "figures" / "options.svg").exists()


def test_watch_stops_on_ctrl_c_with_a_clear_line(small: Path) -> None:
    rows = pl.read_parquet(small / "results" / "all.parquet")
    rows.filter(pl.col("task") < 2).write_parquet(small / "results" / "all.parquet")

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(
        KeyboardInterrupt, match="stopped watching; the page is .*index.html. To watch again: regrow watch"
    ):
        Watch(small).run(sleep=interrupt)
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        Watch(small / "nowhere").run(sleep=interrupt)
