"""The part of a report on CIFAR-100: its figures and tables show the stored numbers, its page stands by itself.

`stored_vit` holds runs that the laboratory made of CIFAR-100, of 12 channels, one block, 2 epochs of 18 images a class:
`regrow run vit-cifar` with the words in each manifest, all stacks in one file, checkpoints left out.
"""

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from report_checks import Page, as_rows, bold, check_links, check_refused, check_texts, drawing
from vit_frames import AS_IN_THE_PAPER, Kind, run, runs

from regrow.lab.studies import choose
from regrow.report.figures import vit, vit_optimizers
from regrow.report.figures.against_fresh import AGAINST_FRESH
from regrow.report.figures.panels import draw
from regrow.report.figures.sheet import Drawing, Missing
from regrow.report.page.page import gather, write_page
from regrow.report.page.part_vit import judge
from regrow.report.results import Folder, read
from regrow.report.results_vit import ViTResults, combine
from regrow.report.style import SYSTEMS, Look
from regrow.report.tables import vit as tables

STORED, MNIST = Path(__file__).parent / "stored_vit", Path(__file__).parent / "stored"


def made(frame: pl.DataFrame, epochs: pl.DataFrame | None = None) -> ViTResults:
    """A report's results from rows that were made up, at the paper's scale."""
    results = combine([Folder(Path("made"), {"config": {}}, frame, {})])
    return replace(results, epochs=pl.DataFrame() if epochs is None else epochs)


@pytest.fixture(scope="module")
def results() -> ViTResults:
    return combine([read(folder) for folder in sorted(STORED.iterdir())])


@pytest.fixture(scope="module")
def drawn(results: ViTResults) -> list[Drawing | Missing]:
    return all_figures(results)


def stored(folder: str, setting: str, system: str, column: str = "best_test_accuracy") -> np.ndarray:
    """One column straight from the stored rows, (seeds, tasks)."""
    rows = pl.read_parquet(STORED / folder / "results" / "all.parquet").sort("seed", "task")
    rows = rows.filter((pl.col("setting") == setting) & (pl.col("system") == system))
    return rows[column].to_numpy().reshape(2, 4)


def heights(axes: Axes, look: Look) -> np.ndarray:
    """Of a look's bold line."""
    return bold(axes, look)[:, 1]


def figure(results: ViTResults, name: str) -> Drawing:
    """One of the paper's."""
    (plan,) = [plan for plan in vit.plans(results) if plan.topic.name == name]
    return drawing(draw(results.main, plan))


def all_figures(results: ViTResults) -> list[Drawing | Missing]:
    return [*vit.figures(results), vit_optimizers.boundaries(results)]


# Figures.


def test_every_figure_comes_from_stored_results(drawn: list[Drawing | Missing]) -> None:
    names = [drawing(each).name for each in drawn]
    assert names == ["figure-03", "figure-15", "figure-16", "figure-17", "figure-18", "optimizer"]
    for each in map(drawing, drawn):
        assert "n = 2 seeds × 4 tasks." in each.caption and "band: ± 1 standard error" in each.caption
        assert "Not at the paper's scale: width 12 (the paper's: 384); " in each.caption
        assert each.gaps == () and len(each.alt) > 40 and "\n" not in each.caption


def test_no_texts_overlap_and_none_leave_the_figure(drawn: list[Drawing | Missing]) -> None:
    check_texts(drawn)


def test_figure_3_is_the_stored_numbers(results: ViTResults) -> None:
    scale, accuracy, gap = figure(results, "figure-03").figure.axes
    np.testing.assert_allclose(
        heights(scale, vit.BASE_STANDARD.look), stored("base", "vit", "base", "ln_scale").mean(0)
    )
    base, fresh = (100 * stored("base", "vit-reparam", system).mean(0) for system in ("base", "scratch"))
    np.testing.assert_allclose(heights(accuracy, SYSTEMS["base"]), base)
    np.testing.assert_allclose(heights(accuracy, SYSTEMS["scratch"]), fresh)
    for system in ("shrink-perturb", "cbp", "redo", "swr"):
        expected = 100 * stored("methods", "vit-reparam", system).mean(0) - fresh
        np.testing.assert_allclose(heights(gap, SYSTEMS[system]), expected, atol=1e-9, err_msg=system)


def test_figure_15_has_all_six_settings(results: ViTResults) -> None:
    accuracy, scale = figure(results, "figure-15").figure.axes
    looks = {line.setting: line.look for line in vit.plans(results)[1].panels[0].lines if line.system == "base"}
    assert len(set(looks.values())) == 6
    for setting, look in looks.items():
        np.testing.assert_allclose(heights(accuracy, look), 100 * stored("base", setting, "base").mean(0))
        np.testing.assert_allclose(heights(scale, look), stored("base", setting, "base", "ln_scale").mean(0))


def test_figure_16_is_logarithmic(results: ViTResults) -> None:
    axes = figure(results, "figure-16").figure.axes
    for panel, column in zip(axes, ("qkv_median_last", "mlp_median_last", "qkv_mean", "mlp_mean"), strict=True):
        assert panel.get_yscale() == "log"
        np.testing.assert_allclose(
            heights(panel, SYSTEMS["swr"]), stored("methods", "vit-reparam", "swr", column).mean(0)
        )


def test_figure_17_leaves_out_what_diverged(results: ViTResults) -> None:
    assert "No run diverged, so these are the lines of figure 3." in figure(results, "figure-17").caption
    kinds = {key: kind for key, kind in AS_IN_THE_PAPER.items() if key[0] == "vit-reparam" and key[1] != "base"}
    lost = [run("vit-reparam", "base", Kind(4), seed=seed, diverged_at=19 if seed == 2 else None) for seed in range(3)]
    results = made(pl.concat([runs(kinds, range(3)), *lost]))
    with_, without = (figure(results, name) for name in ("figure-03", "figure-17"))
    one, other = (heights(each.figure.axes[i], SYSTEMS["base"]) for each, i in ((with_, 2), (without, 1)))
    assert one[-1] < -20 and other[-1] == pytest.approx(-4, abs=0.5)
    assert "1 run diverged, counted at chance from there on." in with_.caption
    assert "No run diverged" not in without.caption and "diverged, counted" not in without.caption
    assert "Not at the paper's scale" not in with_.caption
    assert "2 seeds × 20 tasks (base)" in without.caption


def test_figure_18_is_of_the_standard_norm(results: ViTResults) -> None:
    accuracy, gap = figure(results, "figure-18").figure.axes
    fresh = 100 * stored("base", "vit", "scratch").mean(0)
    for system, folder in (("base", "base"), ("cbp", "methods")):
        mine = 100 * stored(folder, "vit", system).mean(0)
        np.testing.assert_allclose(heights(accuracy, SYSTEMS[system]), mine)
        np.testing.assert_allclose(heights(gap, SYSTEMS[system]), mine - fresh, atol=1e-9)


def test_both_optimizers_stand_side_by_side(results: ViTResults) -> None:
    shown = drawing(vit_optimizers.boundaries(results))
    standard, reparam, below, _ = shown.figure.axes
    for axes, setting in ((standard, "vit"), (reparam, "vit-reparam")):
        for way, folder in (("authors", "base"), ("clean", "clean")):
            for system in ("base", "scratch"):
                expected = 100 * stored(folder, setting, system).mean(0)
                np.testing.assert_allclose(heights(axes, vit_optimizers.LOOKS[way, system]), expected)
    epochs = pl.read_parquet(STORED / "clean" / "epochs" / "all.parquet").sort("seed", "task", "epoch")
    epochs = epochs.filter((pl.col("setting") == "vit") & (pl.col("system") == "base"))
    expected = epochs["weight_magnitude"].to_numpy().reshape(2, 8).mean(0)
    np.testing.assert_allclose(heights(below, vit_optimizers.LOOKS["clean", "base"]), expected)
    assert "a decay a seventh to a twentieth as strong" in shown.caption and "Short tasks" in shown.caption


def test_what_is_missing_comes_with_a_command_that_works() -> None:
    results = made(run("vit", "scratch", tasks=3))
    for gap in all_figures(results):
        assert isinstance(gap, Missing) and gap.reason and "\n" not in gap.reason
        words = shlex.split(gap.command)
        places = [words.index(word) for word in ("--settings", "--systems", "--tasks")]
        assert choose(words[2], words[places[0] + 1 : places[1]], words[places[1] + 1 : places[2]])
        assert words[places[2] + 1] == "3" and ("clean" in words) == (gap.name == "optimizer")


def test_a_part_that_is_missing_is_named(results: ViTResults) -> None:
    part = combine([read(STORED / "base")])
    shown = figure(part, "figure-03")
    assert [gap.reason for gap in shown.gaps] == ["no run of S&P; CBP; ReDo; SWR in vit-reparam"]
    assert shown.gaps[0].command.endswith(
        "--tasks 4 --seeds 5 --width 12 --depth 1 --epochs-per-task 2 --images-per-class 18"
    )
    assert isinstance(vit_optimizers.boundaries(part), Missing)
    assert not results.scale.options.startswith("--optimizer")


def test_the_clean_optimizer_alone_is_drawn_and_said_to_be() -> None:
    results = combine([read(STORED / "clean")])
    assert results.optimizer == "clean" and results.options.startswith("--optimizer clean --width 12")
    assert "With the clean optimizer, not the authors'." in figure(results, "figure-03").caption
    assert all("of the clean optimizer; the paper's are of the authors'" in verdict.notes for verdict in judge(results))


def test_systems_are_those_whose_colours_differ(results: ViTResults) -> None:
    """The tests of the style check those of this other figure."""
    shown = {line.system for plan in vit.plans(results) for panel in plan.panels for line in panel.lines}
    assert shown <= {*AGAINST_FRESH, "scratch"}


# Tables.


def test_the_last_task_against_a_fresh_network_by_hand() -> None:
    kinds = {("vit", "base"): Kind(10), ("vit", "scratch"): Kind()}
    row = as_rows(tables.summary(made(runs(kinds, range(3)))))["authors", "standard norm", "base"]
    assert row["Against fresh"].startswith(("−10.", "−9.")) and "[" in row["Against fresh"]
    assert (row["Seeds × tasks"], row["Diverged"], row["Published"]) == ("3 × 20", "0 of 3", "≈ 51")


def test_how_much_goes_with_the_boundary_by_hand() -> None:
    """The base falls 10, 5 or 2 points behind, by optimizer; the authors' doubles its weights at each boundary."""
    gaps = {"authors": 10, "authors-cleared": 5, "clean": 2}
    frames = [run("vit", "scratch", seed=s, optimizer=way) for s in range(3) for way in gaps]
    bases = [run("vit", "base", Kind(gap), seed=s, optimizer=way, weight_magnitude=0.04, noise=0.01)
             for s in range(3) for way, gap in gaps.items()]  # fmt: skip
    keys = ["study", "setting", "system", "config_id", "config", "seed", "task"]
    epochs = pl.concat([
        frame.select(*keys, epoch=pl.lit(e), weight_magnitude=pl.lit(0.08 if way == "authors" and e == 0 else 0.04))
        for frame, way in zip(bases, [*gaps] * 3) for e in range(5)
    ])  # fmt: skip
    results = made(pl.concat([*frames, *bases]), epochs)
    rows = as_rows(tables.optimizers(results))
    gap = rows[("standard norm: base minus fresh network, last task (points)",)]
    kept = rows[("standard norm: |w| of the base over a boundary (%)",)]
    names = ("Authors'", "Buffer cleared", "Buffer cleared minus authors'", "Clean", "Clean minus authors'")
    numbers = [float(gap[name].split(" ")[0].replace("−", "-")) for name in names]
    np.testing.assert_allclose(numbers, [-10, -5, 5, -2, 8], atol=0.35)
    assert kept["Authors'"].startswith("200.00") and kept["Clean"].startswith("100.00")
    assert gap["Seeds × tasks"] == "3 × 20" and len(rows) == 2
    shown = drawing(vit_optimizers.boundaries(results))
    for way, behind in gaps.items():
        fresh, base = (heights(shown.figure.axes[0], vit_optimizers.LOOKS[way, name]) for name in ("scratch", "base"))
        assert base[-1] - fresh[-1] == pytest.approx(-behind, abs=0.35)
    assert "all of the difference is the buffer's" in shown.caption
    scarce = [frame for frame in (*frames, *bases) if '"clean"' not in frame["config"][0] or frame["seed"][0] == 2]
    fewer = as_rows(tables.optimizers(made(pl.concat(scarce), epochs)))
    (row,) = [row for name, row in fewer.items() if "last task" in name[0]]
    assert row["Seeds × tasks"] == "3 × 20" and "Clean" not in row  # a control of one seed does not cost the others'
    without = combine([Folder(Path("made"), {"config": {}}, pl.concat([*frames[::3], *bases[::3]]), {})])
    assert isinstance(vit_optimizers.boundaries(without), Missing)


def test_table_d_has_the_papers_values_and_the_best_by_validation(results: ViTResults) -> None:
    table = tables.table_d(results)
    rows = as_rows(table)
    assert rows["standard norm", "base", "decay λ"]["Paper"] == "2e-6"
    assert rows["reparametrized norm", "SWR", "factor"]["Values tested"] == "1e-4, 5e-4, 1e-3"
    assert "the authors selected by test accuracy" in table.caption
    swept = pl.read_parquet(STORED / "sweep" / "results" / "all.parquet")
    best = swept.sort("best_validation_accuracy", descending=True)
    row = rows["reparametrized norm", "base", "decay λ"]
    top = {json.loads(config)["decay"] for config in best.filter(
        pl.col("best_validation_accuracy") == pl.col("best_validation_accuracy").max())["config"]}  # fmt: skip
    assert float(row["Ours"]) in top and row["Our sweep"] == "8 configs, 1 × 1"
    assert rows["standard norm", "base", "decay λ"]["Ours"] == "–"


def test_a_sweep_on_all_classes_at_once_is_no_run_of_the_study() -> None:
    results = combine([read(STORED / "sweep")])
    assert not results.main.settings and results.tuning["authors"].settings == ("vit-reparam",)
    assert results.tasks == 0 and all(isinstance(each, Missing) for each in all_figures(results))


def test_table_6_stands_beside_the_papers() -> None:
    kinds = {("vit", "base"): Kind(), ("vit-scaled", "base"): Kind(order=1.0)}
    rows = as_rows(tables.table_6(made(runs(kinds, range(3)))))
    plain, scaled = rows[("standard norm",)], rows[("standard norm, scaled decay",)]
    assert (plain["Paper: correlation"], plain["Paper: p"]) == ("0.0636", "0.15")
    assert float(scaled["Ours: correlation"]) > 0.3 and scaled["Ours: p"] == "0.0002"  # twice 1 of 10,000
    assert scaled["Seeds × classes"] == "3 × 100" and rows[("reparametrized norm",)]["Ours: p"] == "–"


# Pages.


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """One page of both problems."""
    out = tmp_path_factory.mktemp("report")
    folders = [read(folder) for folder in (*sorted(STORED.iterdir()), MNIST / "units-read")]
    write_page(gather(folders), out)
    return Page(out / "index.html")


def test_links_resolve_on_a_page_of_both_problems(page: Page) -> None:
    check_links(page)
    ids = {attributes.get("id") for _, attributes, _ in page.elements}
    assert {"permuted-missing", "cifar100-missing", "table-table-6", "figure-03"} <= ids


def test_both_parts_have_their_names(page: Page) -> None:
    assert "--optimizer clean --width 12 --depth 1 --epochs-per-task 2 --images-per-class 18" in page.text
    assert "at most 4 tasks and 2 seeds, with the authors&#39; optimizer and with a clean one" in page.text
    assert "Class-incremental CIFAR-100: 6 systems in 6 settings, at most 4 tasks and 2 seeds" in page.text
    assert "Permuted digits: " in page.text and "These networks are not at the paper&#39;s scale: width 12" in page.text
    assert '<details id="cifar100-missing">' in page.text and "over the statements of one numbered claim" in page.text
    claims = json.loads((page.path.parent / "claims.json").read_text())["claims"]
    assert {claim["claim"] for claim in claims} == {*range(1, 19)}
    assert all(any("not at the paper's scale" in n for n in c["notes"]) == (c["claim"] > 12) for c in claims)
    names = {path.stem for path in (page.path.parent / "tables").iterdir()}
    assert {"summary", "claims", "summary-cifar100", "claims-cifar100", "table-D", "table-6", "runs-cifar100"} <= names


@pytest.fixture
def small(tmp_path: Path) -> Path:
    shutil.copytree(STORED / "clean", tmp_path / "run")
    return tmp_path / "run"


def cut_epochs(folder: Path) -> Path:
    path = folder / "epochs" / "all.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    return folder


def foreign_settings(folder: Path) -> Path:
    path = folder / "results" / "all.parquet"
    pl.read_parquet(path).with_columns(setting=pl.lit("resnet")).write_parquet(path)
    return folder


def foreign_columns(folder: Path) -> Path:
    pl.DataFrame({"scratch_difference": [1.0], "price": [2]}).write_parquet(folder / "results" / "all.parquet")
    return folder


def no_config(folder: Path) -> Path:
    path = folder / "results" / "all.parquet"
    pl.read_parquet(path).with_columns(config=pl.lit("{")).write_parquet(path)
    return folder


def odd_size(folder: Path) -> Path:
    content = json.loads((folder / "manifest.json").read_text())
    content["config"]["width"] = "wide"
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut_epochs, "all.parquet is damaged ("),
        (foreign_settings, "it holds rows of setting resnet, system "),
        (foreign_columns, "it has no column setting, system, config_id, seed, task"),
        (no_config, "run holds rows that are not of a run ("),
        (odd_size, "manifest.json is damaged (width, depth, epochs and images must be whole numbers; got ['wide'"),
    ],
)
def test_a_folder_that_is_none_is_refused_in_one_line(small: Path, spoil: Callable[[Path], Path], says: str) -> None:
    check_refused(spoil(small), says)


def test_networks_of_different_sizes_are_not_mixed(small: Path) -> None:
    one = read(small)
    other = replace(one, manifest=one.manifest | {"config": {**one.config, "width": 384, "depth": 8}})
    with pytest.raises(ValueError, match="a report is of networks of one size; got .* with --width 12 --depth 1 .*"):
        combine([one, other])
