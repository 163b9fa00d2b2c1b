"""Every figure shows the numbers of the results, says how many runs it is of, and names what is missing."""

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from report_checks import bold, check_texts, drawing
from results_frames import Kind, run, runs, sweep

from regrow.lab.studies import SIX, choose
from regrow.lab.studies.permuted_values import chosen
from regrow.report.figures import line as lines
from regrow.report.figures import sweeps
from regrow.report.figures.against_fresh import against_fresh
from regrow.report.figures.all import figures
from regrow.report.figures.cost import cost
from regrow.report.figures.panels import draw
from regrow.report.figures.permuted import PLANS, options
from regrow.report.figures.plan import FigurePlan, by_setting
from regrow.report.figures.renewals import renewals
from regrow.report.figures.sheet import Drawing, Missing, Topic, counts
from regrow.report.page import svg
from regrow.report.results import Results, combine, read
from regrow.report.runs import Runs
from regrow.report.style import SYSTEMS

STORED = Path(__file__).parent / "stored"
FOUR = ("large", "large-ln", "small", "small-ln")


@pytest.fixture(scope="module")
def results() -> Results:
    """Small runs that the laboratory made, on digits."""
    return combine([read(folder) for folder in sorted(STORED.iterdir())])


@pytest.fixture(scope="module")
def drawn(results: Results) -> list[Drawing | Missing]:
    """All but those on inputs without zeros, see `test_dense.py`."""
    listed = figures(results.runs, results.others, results.cost, results.pixels)
    assert [each.name for each in listed if isinstance(each, Missing)] == ["dense-inputs"]
    return [each for each in listed if each.name != "dense-inputs"]


def points(axes: Axes, system: str) -> np.ndarray:
    """The points (x, y) of a system's bold line."""
    return bold(axes, SYSTEMS[system])


def figure(results: Runs | pl.DataFrame, name: str) -> Drawing:
    """One that only depends on what runs there are."""
    return drawing(draw(Runs.of(results), PLANS[name]))


def by_task(results: Results, setting: str, system: str, column: str = "online_accuracy") -> np.ndarray:
    """Mean over seeds of each task, straight from the rows."""
    rows = pl.concat([f.rows for f in results.folders if f.path.name == "weights-vs-units"])
    rows = rows.filter((pl.col("setting") == setting) & (pl.col("system") == system))
    return rows.group_by("task").agg(pl.col(column).mean()).sort("task")[column].to_numpy()


def test_every_figure_comes_from_stored_results(drawn: list[Drawing | Missing]) -> None:
    names = [each.name for each in drawn]
    assert len(set(names)) == len(names) == 21
    assert names[:13] == [f"figure-{n:02d}" for n in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)]


def test_every_figure_says_what_it_is(drawn: list[Drawing | Missing]) -> None:
    for each in map(drawing, drawn):
        assert re.search(r"\bn = \d", each.caption) or each.name == "cost", each.caption
        assert len(each.alt) > 40 and each.title and "\n" not in each.caption


def test_n_stands_wherever_there_are_lines(drawn: list[Drawing | Missing]) -> None:
    for each in map(drawing, drawn):
        labels = [axes.get_xlabel() for axes in each.figure.axes]
        assert all("(n = " in label for label in labels if label.startswith("task")), each.name


def test_a_figure_is_the_same_file_every_time_and_sound(results: Results) -> None:
    one, two = (svg.svg(figure(results.runs, "figure-02")) for _ in range(2))
    assert one == two and len(one) < 400_000
    assert ElementTree.fromstring(one).tag.endswith("svg")


def test_numbers_on_axes_are_whole_in_the_file(results: Results) -> None:
    """The file has its places rounded, not its texts."""
    shown = figure(results.runs, "figure-11")
    texts = re.findall(r">([^<>]*)</text>", svg.svg(shown))
    assert {"0.025", "0.050", "0.075"} <= set(texts) and {"0.002", "0.004", "0.006"} <= set(texts)


def test_no_texts_overlap_and_none_leave_the_figure(drawn: list[Drawing | Missing]) -> None:
    check_texts(drawn)


def test_lines_are_means_over_seeds(results: Results) -> None:
    panels = figure(results.runs, "figure-02").figure.axes
    for axes, setting in list(zip(panels, FOUR, strict=True))[1:]:  # another study holds runs of large too
        for system in SIX:
            expected = 100 * by_task(results, setting, system)
            np.testing.assert_allclose(points(axes, system), np.stack([np.arange(4), expected], 1), err_msg=system)


def test_correlates_are_in_their_units(results: Results) -> None:
    panels = figure(results.runs, "figure-13").figure.axes
    columns = {"dead_units": 100, "weight_magnitude": 1, "rank99": 1, "gradient_magnitude": 1}
    for axes, (column, factor) in zip(panels, columns.items(), strict=True):
        expected = factor * by_task(results, "small", "cbp", column)
        np.testing.assert_allclose(points(axes, "cbp")[:, 1], expected, err_msg=column)


def test_rows_of_panels_share_their_axis(results: Results) -> None:
    large, large_ln, small, small_ln = figure(results.runs, "figure-02").figure.axes
    assert large.get_ylim() == large_ln.get_ylim() != small.get_ylim() == small_ln.get_ylim()
    one, two = figure(results.runs, "figure-01").figure.axes
    assert one.get_ylim() == two.get_ylim()


def test_bins_hold_whole_tasks_and_the_last_that_is_not_full_is_left_out() -> None:
    made = Runs(run("large", "base", tasks=7, online_accuracy=np.arange(7) / 100)).main("large", "base")
    curve = lines.to_curve(made, "online_accuracy", 2)
    assert curve.centres.tolist() == [0.5, 2.5, 4.5]
    np.testing.assert_allclose(curve.values, [[0.5, 2.5, 4.5]])
    assert [lines.bin_width(tasks) for tasks in (1, 50, 51, 100, 101, 250, 251, 1000, 2000)] == [
        1, 1, 2, 2, 5, 5, 10, 20, 50,
    ]  # fmt: skip


def test_the_band_is_one_standard_error() -> None:
    rows = [run("large", "base", seed=s, tasks=2, online_accuracy=[a, 0.5]) for s, a in enumerate((0.1, 0.2, 0.6))]
    curve = lines.to_curve(Runs(pl.concat(rows)).main("large", "base"), "online_accuracy", 1)
    np.testing.assert_allclose(curve.mean, [30, 50])
    # Deviations -20, -10, 30: variance 1400 / 2, error sqrt(700 / 3).
    np.testing.assert_allclose(curve.error, [np.sqrt(700 / 3), 0], atol=1e-12)


def test_one_seed_has_no_band_and_that_is_said() -> None:
    frame = runs({("large", system): Kind() for system in SIX}, tasks=20, seeds=[0])
    shown = figure(frame, "figure-02")
    assert not shown.figure.axes[0].collections
    assert "One seed each, so no band." in shown.caption and "n = 1 seed × 20 tasks." in shown.caption
    several = figure(runs({("large", system): Kind() for system in SIX}, tasks=20), "figure-02")
    assert len(several.figure.axes[0].collections) == 6 and "band: ± 1 standard error" in several.caption
    thin = [line for line in several.figure.axes[0].lines if line.get_linewidth() < 1]
    assert len(thin) == 6 and all(np.isnan(line.get_ydata()).sum() == 5 for line in thin)  # one gap after each seed


def uneven(seeds: int = 1) -> pl.DataFrame:
    """Five seeds of 20 tasks, some of which have 40."""
    return pl.concat(
        [
            runs({("large", "swr"): Kind(90)}, tasks=20, seeds=range(seeds, 5)),
            runs({("large", "swr"): Kind(80)}, tasks=40, seeds=range(seeds)),
        ]
    )


@pytest.mark.parametrize(("seeds", "first"), [(1, 20), (3, 40)])
def test_a_line_is_of_the_same_seeds_throughout(seeds: int, first: int) -> None:
    """The mean of five seeds does not run on as the level of one: the two are figures of their own."""
    shown = figure(uneven(seeds), "figure-02")
    (other,) = shown.others
    for each, tasks in ((shown, first), (other, 60 - first)):
        n = 5 if tasks == 20 else seeds
        (line,) = [line for line in each.figure.axes[0].lines if line.get_linewidth() > 1]
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == (0, tasks - 1)
        assert f"n = {n} seed{'s' * (n > 1)} × {tasks} tasks." in each.caption
        assert each.figure.axes[0].get_xlabel() == f"task (n = {n})"
        assert each.length == f"{tasks} tasks, {n} seed{'s' * (n > 1)}"
    assert other.name == f"figure-02-{60 - first}-tasks-{n}-seed{'s' * (n > 1)}"


def test_a_seed_that_has_only_begun_is_left_out() -> None:
    frame = pl.concat([uneven(3), run("large", "swr", tasks=2, seed=5)])
    assert figure(frame, "figure-02").others[0].length == "20 tasks, 5 seeds"


def test_no_line_is_longer_than_what_a_figure_is_about() -> None:
    frame = pl.concat([run("large", "swr", tasks=40), run("large", "swr-gradient-proportional-resample", tasks=20),
                       run("large", "swr-zero-only", tasks=10)])  # fmt: skip
    assert len(points(figure(frame, "zero-gradient").figure.axes[0], "swr")) == 10


def test_published_levels_are_marked_at_the_papers_values() -> None:
    """The axis of a run as long as the paper's takes them in."""
    kinds = {("large", system): Kind(92) for system in ("base", "swr", "l2")}
    for tasks, marked in ((800, {"#D55E00": 92.79, "#111111": 82.0}), (20, {})):
        shown = figure(runs(kinds, tasks=tasks, seeds=[0]), "figure-02")
        axes = shown.figure.axes[0]
        triangles = [line for line in axes.lines if line.get_marker() == "<"]
        found = {to_hex(line.get_color()).upper(): line.get_ydata()[0] for line in triangles}
        assert found == marked and ("Triangles: the levels" in shown.caption) == bool(marked)
    other = run("large", "swr", tasks=800, config={**chosen("large", "swr"), "factor": 0.5})
    assert "Triangles" not in figure(other, "figure-02").caption


def test_runs_of_nearly_the_same_length_are_counted_together() -> None:
    frame = pl.concat([run("large", "swr", tasks=38 + seed, seed=seed) for seed in range(3)])
    assert counts({"SWR": Runs(frame).main("large", "swr")}) == "n = 3 seeds × 38 to 40 tasks."


def test_a_system_that_is_lost_does_not_flatten_the_others() -> None:
    frame = pl.concat([run("large", "swr", Kind(92), 20), run("large", "base", Kind(20), 20)])
    shown = figure(frame, "figure-02")
    low, high = shown.figure.axes[0].get_ylim()
    assert 45 < low < 55 and 92 < high < 96
    assert "Below the axes: base (a)." in shown.caption


def test_diverged_runs_are_mentioned() -> None:
    frame = run("large", "swr", tasks=4, online_accuracy=[0.9, 0.9, None, None], diverged=[False, False, True, True])
    shown = figure(frame, "figure-02")
    assert "1 run diverged, counted at chance from there on." in shown.caption
    assert points(shown.figure.axes[0], "swr")[:, 1].tolist() == [90, 90, 10, 10]


@pytest.mark.parametrize("frame", [pl.DataFrame(), run("large", "base", tasks=3)], ids=["empty", "base"])
def test_what_is_missing_comes_with_a_command_that_works(frame: pl.DataFrame) -> None:
    drawn = figures(Runs(frame))
    missing = [each for each in drawn if isinstance(each, Missing)]
    assert len(missing) >= len(drawn) - 2
    assert {each.name for each in missing} >= {"figure-02", "figure-09", "against-fresh", "cost", "options"}
    for each in missing:
        assert each.reason and "\n" not in each.reason
        words = shlex.split(each.command)
        assert words[0] == "regrow"
        if words[1] == "run":
            after = {word: words.index(word) for word in ("--settings", "--systems", "--tasks")}
            settings = words[after["--settings"] + 1 : after["--systems"]]
            chosen = choose(words[2], settings, words[after["--systems"] + 1 : after["--tasks"]])
            assert chosen[0] == tuple(settings)
            assert ("--sweep" in words) == (each.name in ("figure-08", "figure-09", "dense-inputs"))


def test_a_part_that_is_missing_is_named() -> None:
    kinds = {(s, system): Kind() for s in FOUR for system in SIX if (s, system) != ("large-ln", "cbp") and s != "small"}
    shown = figure(runs(kinds, tasks=3, seeds=[0]), "figure-02")
    assert [gap.reason for gap in shown.gaps] == [
        "no run of CBP in large-ln",
        "no run of base; L2; S&P; CBP; ReDo; SWR in small",
    ]
    assert "--settings large-ln --systems cbp " in shown.gaps[0].command
    assert [axes.get_title("left") for axes in shown.figure.axes][2] == "c   small"


def test_rows_of_panels_without_runs_are_left_out() -> None:
    shown = figure(runs({("small", "swr"): Kind()}, tasks=3), "figure-02")
    assert [axes.get_title("left") for axes in shown.figure.axes] == ["c   small", "d   small, layer norm"]


def test_sensitivity_shows_the_grid_the_papers_choice_and_the_best() -> None:
    frame = sweep("large", "swr", lambda c: 90 + 2 * (c["factor"] == 1e-3 and c["every"] == 512), tasks=4)
    grid = sweeps.as_grid(Runs(frame), "large", "swr")
    assert grid is not None and len(grid.points) == 36 and (grid.seeds, grid.tasks) == (5, 4)
    assert (grid.best.x, grid.best.line) == (1e-3, 512)
    assert [(point.x, point.line) for point in grid.points if point.papers] == [(1e-5, 2048)]
    drawn = drawing(sweeps.sensitivity(Runs(frame), sweeps.SENSITIVITIES[0]))
    (axes,) = drawn.figure.axes
    assert axes.get_title("left") == "f   gradient, threshold" and axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == "256 512 1024 2048 4096 8192".split()
    (ring,) = [line for line in axes.lines if line.get_marker() == "o" and line.get_fillstyle() == "none"]
    assert ring.get_xdata()[0] == 1e-5
    assert len(drawn.gaps) == 1 and "--sweep" in drawn.gaps[0].command


def test_a_long_run_at_chosen_values_is_compared_over_the_tasks_of_the_sweep() -> None:
    """Accuracy falls with the tasks: over more of them the same values would look worse."""
    swept = sweep("large", "swr", lambda c: 90, tasks=4, seeds=[0])
    long = run("large", "swr", Kind(90, drop=50), 400)
    grid = sweeps.as_grid(Runs(pl.concat([swept, long])), "large", "swr")
    assert grid is not None and grid.tasks == 4
    assert all(abs(point.mean - grid.points[0].mean) < 1 for point in grid.points)


def test_against_a_fresh_network_of_the_same_seed() -> None:
    frame = pl.concat(
        [run("large", "scratch", tasks=2, seed=s, online_accuracy=[level - 0.01, level + 0.01])
         for s, level in enumerate((0.8, 0.9))]
        + [run("large", "swr", tasks=3, seed=s, online_accuracy=[0.85, 0.86, 0.87]) for s in range(3)]
    )  # fmt: skip
    shown = drawing(against_fresh(Runs(frame)))
    # Seed 2 has no fresh network; those of seeds 0 and 1 lie at 80 and 90.
    np.testing.assert_allclose(points(shown.figure.axes[0], "swr")[:, 1], [0, 1, 2], atol=1e-9)
    assert "n = 2 seeds × 3 tasks." in shown.caption


def test_renewals_are_shares_of_what_there_is() -> None:
    frame = pl.concat(
        [
            run("large", "swr", tasks=3, renewed=[49_855, 0, 99_710], renewed_zero=[49_855, 0, 0]),
            run("large", "cbp", tasks=3, renewed=997, renewed_units=4, renewed_zero=1),
        ]
    )
    share, zero = drawing(renewals(Runs(frame))).figure.axes
    assert points(share, "swr")[:, 1][[0, 2]].tolist() == [50, 100] and np.isnan(points(share, "swr")[1, 1])
    assert points(zero, "swr")[:, 1][[0, 2]].tolist() == [100, 0]
    assert points(zero, "cbp")[:, 1].tolist() == [25, 25, 25]


def test_cost_stands_beside_accuracy() -> None:
    frame = runs({("large", system): Kind() for system in SIX}, tasks=3)
    spent = {("large", "base"): 0.2, ("large", "cbp"): 0.3, ("small", "swr"): 0.1}
    (axes,) = drawing(cost(Runs(frame), spent)).figure.axes
    assert [text.get_text() for text in axes.texts] == ["base", "CBP"]
    assert [bars[0].get_xdata()[0] for bars in axes.containers] == [0.2, 0.3]
    assert isinstance(cost(Runs(frame), {}), Missing)


def test_another_option_is_drawn_beside_the_usual_one(results: Results) -> None:
    assert list(results.others) == ["units read after the norm"]
    shown = drawing(options(results.runs, results.others))
    labels = [text.get_text() for text in shown.figure.legends[0].get_texts()]
    assert labels == ["CBP", "CBP, units read after the norm", "ReDo", "ReDo, units read after the norm"]
    usual, other = [line for line in shown.figure.axes[0].lines if to_hex(line.get_color()) == "#009e73"][-2:]
    assert usual.get_linestyle() == "-" and other.get_linestyle() == ":"


def test_the_legend_is_in_the_order_of_all_legends(drawn: list[Drawing | Missing]) -> None:
    order = [look.label.replace("proportional", "prop.") for look in SYSTEMS.values()]
    for each in map(drawing, drawn):
        for legend in each.figure.legends:
            shown = [text.get_text() for text in legend.get_texts() if text.get_text() in order]
            assert shown == sorted(shown, key=order.index), each.name


def test_a_figure_of_ones_own() -> None:
    """Panels, systems and title are all it takes."""
    plan = FigurePlan(Topic("mine", "Mine", "optimizers"), by_setting(["large-adamw"], ["swr"]), columns=1)
    mine = drawing(draw(Runs(run("large-adamw", "swr", tasks=3)), plan))
    assert (mine.name, mine.gaps) == ("mine", ()) and len(mine.figure.axes) == 1
