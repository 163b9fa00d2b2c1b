"""Make the parts of the docs that come from stored results, and run the tutorial; `make docs` calls this first.

    python tools/site.py            # docs/made: curves, a table, the report; docs/tutorial: the notebook as a page
    python tools/site.py --quick    # without the tutorial, which trains for a minute

Pages take a curve or the table in by name (`--8<-- "made/swr.svg"`), so no number or picture of ours is kept twice.
"""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import polars as pl

import regrow
from regrow.lab.studies.systems import SIX
from regrow.report.stats import estimate
from regrow.report.style import FOUR, SETTING_LABELS, look

ROOT = Path(__file__).resolve().parents[1]
RESULTS, DOCS = ROOT / "results", ROOT / "docs"
MADE, TUTORIAL = DOCS / "made", DOCS / "tutorial"
LAST = 100  # tasks that the table averages over
BIN = 10  # tasks that a point of a curve averages over
NAMES = {
    "base": "plain training",
    "l2": "L2",
    "shrink-perturb": "shrink and perturb",
    "cbp": "Continual Backprop",
    "redo": "ReDo",
    "swr": "SWR",
    "scratch": "a fresh network on every task",
}
METHODS = {name: (name,) for name in ("swr", "cbp", "redo")} | {"shrink-perturb": ("l2", "shrink-perturb")}
"""{page: the systems it is about}"""

Curves = Mapping[str, np.ndarray]
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
    (MADE / "standing.txt").write_text(standing(runs, fresh))
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


def standing(runs: Mapping[str, Curves], fresh: Mapping[str, np.ndarray]) -> str:
    """A table: online accuracy over the last tasks, systems by settings, the best of each setting in bold."""
    cells = {s: {name: estimate(runs[s][name][:, -LAST:].mean(1)) for name in SIX} for s in FOUR}
    best = {s: max(cells[s].values(), key=lambda e: e.mean) for s in FOUR}
    lines = ["| | " + " | ".join(SETTING_LABELS[s] for s in FOUR) + " |", "|---|" + "---|" * len(FOUR)]
    for name in SIX:
        texts = [f"**{e.mean:.1f}**" if e is best[s] else f"{e.mean:.1f}" for s in FOUR for e in [cells[s][name]]]
        errors = [f" ± {e.error:.1f}" if e.error >= 0.05 else "" for s in FOUR for e in [cells[s][name]]]
        lines.append(f"| {NAMES[name]} | " + " | ".join(a + b for a, b in zip(texts, errors, strict=True)) + " |")
    lines.append(f"| {NAMES['scratch']} | " + " | ".join(f"{fresh[s].mean():.1f}" for s in FOUR) + " |")
    seeds, tasks = runs["large"]["base"].shape
    note = (
        f"Online accuracy on permuted MNIST in percent, mean of the last {LAST} of {tasks} tasks and {seeds} seeds, ± "
        "its standard error over seeds where that is 0.05 or more; the best method of each setting is in bold."
    )
    return "\n".join(lines) + f"\n\n{note}\n"


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
        yield plot(SETTING_LABELS[setting], lines, places[-1] - places[0], f"strength ({seeds} seeds, {tasks} tasks)", names)


def plot(title: str, lines: Mapping[str, tuple[np.ndarray, np.ndarray, bool]], end: float, axis: str, names=()) -> str:
    """One panel as SVG: {system: (x, y in percent, whether it is what the panel is about)}.

    Colours follow the page (see docs/extra.css) except those of systems, which are the same everywhere.
    """
    width, height, left, top, bottom = 340, 210, 34, 28, 36
    right = 14 + 7 * max(len(look(name).label) for name, (_, _, chosen) in lines.items() if chosen)
    values = np.concatenate([y[1:] for _, y, _ in lines.values()])  # the first point is the rise from nothing
    low, high = np.floor(values.min()), np.ceil(values.max())

    def x(value: float) -> float:
        return left + (width - left - right) * value / end

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    step = next(s for s in (1, 2, 5, 10, 20) if (high - low) / s <= 5)
    drawn = [f'<text x="{left}" y="14" class="title">{escape(title)}</text>']
    for tick in np.arange(np.ceil(low / step) * step, high + 0.1, step):
        drawn.append(f'<path d="M{left} {y(tick):.1f}H{width - right}" class="grid"/>')
        drawn.append(f'<text x="{left - 5}" y="{y(tick) + 4:.1f}" class="tick end">{tick:.0f}</text>')
    for place, name in enumerate(names) if names else ((v, f"{v:,.0f}") for v in (0, end / 2, end)):
        drawn.append(f'<text x="{x(place):.1f}" y="{height - bottom + 15}" class="tick middle">{name}</text>')
    drawn.append(f'<text x="{(left + width - right) / 2}" y="{height - 4}" class="tick middle">{escape(axis)}</text>')
    labels = []
    for name, (places, means, chosen) in sorted(lines.items(), key=lambda line: line[1][2]):
        path = "M" + "L".join(f"{x(p):.1f} {y(min(max(m, low), high)):.1f}" for p, m in zip(places, means, strict=True))
        colour = "" if name == "base" or not chosen else f' style="stroke:{look(name).colour}"'
        kind = "base" if name == "base" else "chosen" if chosen else "other"
        drawn.append(f'<path d="{path}" class="line {kind}"{colour}/>')
        if chosen or name == "base":
            labels.append((y(means[-1]), name))
    for height_, name in apart(labels, 13):
        colour = "" if name == "base" else f' style="fill:{look(name).colour}"'
        drawn.append(f'<text x="{width - right + 6}" y="{height_ + 4:.1f}" class="label"{colour}>{look(name).label}</text>')
    body = "\n".join(drawn)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">\n{body}\n</svg>'


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
