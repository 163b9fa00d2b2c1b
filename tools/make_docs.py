"""Make the parts of the docs that come from stored results, and run the tutorial; `make docs` calls this first.

    python tools/make_docs.py            # docs/made: curves, the report; docs/tutorial: the notebook as a page
    python tools/make_docs.py --quick    # without the tutorial, which trains for a minute

Pages take a curve in by name (`--8<-- "made/swr.svg"`), so no picture of ours is kept twice. Numbers in
pages are filled by `prose.py`.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import cartpole
import numpy as np
import polars as pl

import regrow
from regrow.lab.studies.systems import SIX
from regrow.report.style import FOUR, SETTING_LABELS, look

ROOT = Path(__file__).resolve().parents[1]
RESULTS, DOCS = ROOT / "results", ROOT / "docs"
MADE, TUTORIAL = DOCS / "made", DOCS / "tutorial"
BIN = 10  # tasks that a point of a curve averages over
METHODS = {name: (name,) for name in ("swr", "cbp", "redo")} | {"shrink-perturb": ("l2", "shrink-perturb")}
"""{page: the systems it is about}"""

Curves = dict[str, np.ndarray]
"""{system: online accuracy in percent, of shape (seeds, tasks)}"""


def main() -> None:
    shutil.rmtree(MADE, ignore_errors=True)
    MADE.mkdir()
    runs = {setting: curves(RESULTS / "weights-vs-units", setting) for setting in FOUR}
    fresh = {setting: curves(RESULTS / "scratch", setting)["scratch"] for setting in FOUR}
    for page, systems in METHODS.items():
        write(f"{page}.svg", *(panel(setting, runs[setting], systems) for setting in FOUR))
    write("finding.svg", *(panel(setting, runs[setting], SIX) for setting in FOUR))
    with_fresh = {s: runs[s] | {"scratch": fresh[s].mean(1, keepdims=True)} for s in FOUR}
    write("resets.svg", *(panel(setting, with_fresh[setting], ("scratch",), others=()) for setting in FOUR))
    write("l2-init.svg", *strengths(RESULTS / "l2-init"))
    lines, end = cartpole.curves(cartpole.load())
    write("cartpole.svg", plot("Return of an episode", lines, end, "thousand steps"))
    report(MADE / "report")
    if "--quick" not in sys.argv:
        tutorial()


def report(copy: Path) -> None:
    """The report, its tables in Markdown as plain text: or they would be taken for pages of the docs."""
    shutil.copytree(RESULTS / "report", copy)
    for table in copy.glob("tables/*.md"):
        table.rename(f"{table}.txt")
    page = copy / "index.html"
    page.write_text(page.read_text().replace('.md"', '.md.txt"'))


def curves(folder: Path, setting: str) -> Curves:
    """Online accuracy of every system of a setting, over the tasks that all of its seeds have finished."""
    rows = regrow.load(folder).filter(pl.col("setting") == setting).sort("system", "seed", "task")
    rows = rows.filter(pl.col("system").is_in([*SIX, "scratch"]))
    ends = rows.group_by("system", "seed").agg(pl.col("task").max())
    rows = rows.filter(pl.col("task") <= ends["task"].min())
    return {
        str(system): 100 * part["online_accuracy"].to_numpy().reshape(part["seed"].n_unique(), -1)
        for (system,), part in rows.group_by("system", maintain_order=True)
    }


def panel(setting: str, curves: Curves, systems: Sequence[str], others: Sequence[str] = SIX) -> str:
    """The course of some systems in colour, and of the others in grey."""
    seeds, tasks = curves["base"].shape
    lines = {}
    for name in (*others, "base", *systems):
        course = curves[name].mean(0)
        whole = course[: len(course) // BIN * BIN].reshape(-1, BIN).mean(1) if len(course) > 1 else course.repeat(2)
        places = (np.arange(len(whole)) + 0.5) * BIN if len(course) > 1 else np.array([0, tasks])
        lines[name] = (places, whole, name in systems)
    return plot(SETTING_LABELS[setting], lines, tasks, f"task ({seeds} seeds)")


def strengths(folder: Path) -> Iterator[str]:
    """Online accuracy of L2-Init by its strength."""
    rows = regrow.load(folder).with_columns(
        pl.col("config").str.json_path_match("$.strength").cast(pl.Float64).log10().alias("power")
    )
    seeds, tasks = rows["seed"].n_unique(), rows["task"].n_unique()
    for setting in ("large", "small"):
        means = rows.filter(pl.col("setting") == setting).group_by("power").agg(pl.col("online_accuracy").mean())
        means = means.sort("power")
        places = means["power"].to_numpy()
        lines = {"l2-init": (places - places[0], 100 * means["online_accuracy"].to_numpy(), True)}
        names = [f"1e{round(power)}" for power in places]
        yield plot(
            SETTING_LABELS[setting], lines, places[-1] - places[0], f"strength ({seeds} seeds, {tasks} tasks)", names
        )


WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 340, 210, 34, 28, 36  # of a panel and its margins, in SVG units

Lines = Mapping[str, tuple[np.ndarray, np.ndarray, bool]]
"""{system: (x, y in percent, whether it is what the panel is about)}"""


def plot(title: str, lines: Lines, end: float, axis: str, names: Sequence[str] = ()) -> str:
    """One panel as SVG; its classes are in docs/extra.css, so that it follows the colours of the page.

    Args:
        title: above it.
        lines: what to draw.
        end: the largest x; the smallest is 0.
        axis: below it.
        names: of the places 0, 1, …, end; none: 0, the middle and the end as numbers.
    """
    right = 14 + 7 * max(len(look(name).label) for name, (_, _, chosen) in lines.items() if chosen)
    values = np.concatenate([y[1:] for _, y, _ in lines.values()])  # the first point is the rise from nothing
    low, high = np.floor(values.min()), np.ceil(values.max())

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - right) * value / end

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - min(max(value, low), high)) / (high - low)

    step = next(s for s in (1, 2, 5, 10, 20, 50, 100) if (high - low) / s <= 5)
    drawn = [text(LEFT, 14, title, "title"), text((LEFT + WIDTH - right) / 2, HEIGHT - 4, axis, "tick middle")]
    for tick in np.arange(np.ceil(low / step) * step, high + 0.1, step):
        drawn.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - right}" class="grid"/>')
        drawn.append(text(LEFT - 5, y(tick) + 4, f"{tick:.0f}", "tick end"))
    for place, name in enumerate(names) if names else [(v, f"{v:,.0f}") for v in (0, end / 2, end)]:
        drawn.append(text(x(place), HEIGHT - BOTTOM + 15, name, "tick middle"))
    heights = []
    for name, (places, means, chosen) in sorted(lines.items(), key=lambda line: line[1][2]):
        path = "M" + "L".join(f"{x(p):.1f} {y(m):.1f}" for p, m in zip(places, means, strict=True))
        kind = "base" if name == "base" else "chosen" if chosen else "other"
        drawn.append(f'<path d="{path}" class="line {kind}"{coloured("stroke", name) if chosen else ""}/>')
        if kind != "other":
            heights.append((y(means[-1]), name))
    for height, name in apart(heights, 13):
        drawn.append(text(WIDTH - right + 6, height + 4, look(name).label, "label", coloured("fill", name)))
    body = "\n".join(drawn)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">\n{body}\n</svg>'


def text(x: float, y: float, words: str, kind: str, colour: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{colour}>{escape(words)}</text>'


def coloured(what: str, system: str) -> str:
    """The colour a system has everywhere; base has that of the text."""
    return "" if system == "base" else f' style="{what}:{look(system).colour}"'


def apart(labels: list[tuple[float, str]], gap: float) -> list[tuple[float, str]]:
    """Heights of labels, moved until none covers another."""
    placed: list[tuple[float, str]] = []
    for height, name in sorted(labels):
        placed.append((max(height, placed[-1][0] + gap) if placed else height, name))
    return placed


def write(name: str, *panels: str) -> None:
    (MADE / name).write_text('<div class="panels">\n' + "\n".join(panels) + "\n</div>\n")


def tutorial() -> None:
    """Run the notebook, and write what it shows as a page; an error in a cell ends this."""
    import nbformat
    from nbconvert import MarkdownExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook = nbformat.read(TUTORIAL / "tutorial.ipynb", as_version=4)
    ExecutePreprocessor(timeout=600).preprocess(notebook, {"metadata": {"path": str(TUTORIAL)}})
    text, more = MarkdownExporter().from_notebook_node(notebook)
    (TUTORIAL / "index.md").write_text(text.replace("![png]", "![What the code above draws]"))
    for name, picture in more["outputs"].items():
        (TUTORIAL / name).write_bytes(picture)


if __name__ == "__main__":
    main()
