"""Inputs without zeros have a figure of their own, each method at its best config; what was not run is one line."""

from pathlib import Path

import polars as pl
from report_checks import bold, drawing
from results_frames import Kind, run, runs

from regrow.report.figures.all import figures
from regrow.report.figures.dense import dense_inputs
from regrow.report.page.page import write_page
from regrow.report.results import Folder, combine
from regrow.report.runs import STANDARDIZED, Runs
from regrow.report.style import SYSTEMS

MEAN = "swr-gradient-proportional-mean"


def frame() -> pl.DataFrame:
    """Two configs of CBP and two variants of SWR, the second better; one seed of a sweep that is better, but short."""
    kinds = {"base": 80.0, "cbp": 84.0, "swr": 82.0, MEAN: 86.0}
    listed = [runs({("small", system): Kind(level)}, tasks=20, seeds=(1, 2)) for system, level in kinds.items()]
    for level, name, tasks in ((85.0, "better", 20), (95.0, "short", 5)):
        more = runs({("small", "cbp"): Kind(level)}, tasks=tasks, seeds=(1, 2))
        listed.append(more.with_columns(config_id=pl.lit(name)))
    return pl.concat(listed)


def test_each_method_is_drawn_at_its_best_config() -> None:
    shown = drawing(dense_inputs(Runs(frame())))
    (axes,) = shown.figure.axes
    for system, level in {"base": 80, "cbp": 85, "swr": 86}.items():
        points = bold(axes, SYSTEMS[system])
        assert len(points) == 20 and abs(points[:, 1].mean() - level) < 1, system
    assert f"(small: {SYSTEMS[MEAN].label})" in shown.caption and "n = 2 seeds × 20 tasks." in shown.caption


def test_short_runs_choose_nothing() -> None:
    """A seed of a sweep, better by chance and of the worse config, is in no mean with longer runs and not drawn."""
    lucky = runs({("small", "cbp"): Kind(99)}, tasks=5, seeds=(7,))
    shown = drawing(dense_inputs(Runs(pl.concat([frame(), lucky]))))
    points = bold(shown.figure.axes[0], SYSTEMS["cbp"])
    assert abs(points[:, 1].mean() - 85) < 1


def test_without_runs_it_is_missing_and_the_options_leave_it_out() -> None:
    usual = Runs(runs({("small", "base"): Kind(80)}, tasks=20))
    missing = {each.name for each in figures(usual) if not hasattr(each, "figure")}
    there = {each.name for each in figures(usual, {STANDARDIZED: Runs(frame())}) if hasattr(each, "figure")}
    assert {"dense-inputs", "options"} <= missing and "dense-inputs" in there and "options" not in there


def test_the_page_says_what_was_not_run_and_draws_what_was(tmp_path: Path) -> None:
    config = {"data": "mnist", "settings": ["small"], "seeds": 3, "tasks": 20}
    usual = Folder(Path("usual"), {"study": "s", "config": config}, run("small", "base", Kind(80), tasks=20), {})
    dense = {"study": "dense-inputs", "config": config | {"pixels": "standardized"}}
    folder = Folder(Path("dense"), dense, frame(), {})
    for folders, drawn in (((usual,), False), ((usual, folder), True), ((folder,), True)):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        write_page(combine(folders), out)
        page = (out / "index.html").read_text()
        assert ('data-figure="dense-inputs"' in page) == drawn == (out / "figures" / "dense-inputs.svg").exists()
        missing = page.split('id="permuted-missing"')[1].split("</details>")[0]
        assert ("Inputs without zeros" in missing) == (not drawn)
        unrun = page.split('id="unrun"')[1].split("</p>")[0] if drawn else ""
        assert "Not run yet: " in unrun or not drawn
        assert "Proportional pruning with ties" in unrun or not drawn
        assert "Inputs without zeros" not in unrun
