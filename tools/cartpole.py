"""What came of `examples/sb3_cartpole.py --full`: the table and the curves of docs/howto/stable-baselines3.md.

    python tools/cartpole.py FOLDER     # take the runs of a folder into results/cartpole, and fill the page

Runs that are not there yet are left out, and the table says how many there are. `make_docs.py` draws the curves.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regrow.report.format import DASH, number
from regrow.report.stats import estimate
from regrow.report.style import look

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "results" / "cartpole"
SYSTEMS = ("base", "swr", "redo", "cbp", "l2-init")
SEEDS, BIN = 3, 25  # seeds of each system; iterations that a point of a curve averages over, and the end of a level
LEARNED = 100  # return from which a level counts as learned: a tenth of that is one action for ever, 400 the most

Runs = Mapping[str, Mapping[int, Any]]
"""{system: {seed: what the example has stored}}"""


def load(folder: Path = FOLDER) -> Runs:
    """All runs of a folder."""
    stored = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {system: {run["seed"]: run for run in stored if run["system"] == system} for system in SYSTEMS}


def returns(run: Any) -> np.ndarray:
    """Mean return of each iteration, of shape (levels, iterations); NaN where no episode ended."""
    return np.array(run["returns"], float).reshape(run["protocol"]["levels"], -1)


def first(run: Any) -> float:
    """Mean return in the first level."""
    return float(np.nanmean(returns(run)[0]))


def later(run: Any) -> float:
    """Mean return in all later levels."""
    return float(np.nanmean(returns(run)[1:], axis=1).mean())


def ends(run: Any) -> float:
    """Mean return at the end of the later levels."""
    return float(np.nanmean(returns(run)[1:, -BIN:], axis=1).mean())


def learned(mine: Mapping[int, Any]) -> str:
    """How many of the later levels were learned, over all seeds: they end at `LEARNED` or more."""
    last = [np.nanmean(returns(run)[1:, -BIN:], axis=1) for run in mine.values()]
    return f"{int(np.sum(np.array(last) >= LEARNED))} of {np.size(last)}" if last else DASH


def table(runs: Runs) -> str:
    """Each system's returns, and how far it is from base on the same seeds, with intervals over seeds."""
    head = ("system", "seeds", "level 1", "levels 2 to 10", "their ends", "learned", "levels 2 to 10, minus base")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for system, mine in runs.items():
        pairs = sorted(mine.keys() & runs["base"].keys()) if system != "base" else ()
        gaps = np.array([later(mine[seed]) - later(runs["base"][seed]) for seed in pairs])
        cells = [over_seeds(np.array([measure(run) for run in mine.values()])) for measure in (first, later, ends)]
        row = [look(system).label, f"{len(mine)} of {SEEDS}", *cells, learned(mine), over_seeds(gaps, sign=True)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def over_seeds(values: np.ndarray, sign: bool = False) -> str:
    """A mean over seeds with Student's interval; alone for one seed."""
    if len(values) < 2:
        return number(values.mean(), 1, sign) if len(values) else DASH
    mean, _, low, high = estimate(values)
    return f"{number(mean, 1, sign)} [{number(low, 1)}, {number(high, 1)}]"


def progress(runs: Runs) -> str:
    """How many of the runs there are, and how long one took."""
    done = [run for mine in runs.values() for run in mine.values()]
    minutes = [run["processor_seconds"] / 60 for run in done]
    spent = f", about {number(float(np.mean(minutes)), 0)} minutes of one core each" if done else ""
    return f"{len(done)} of {SEEDS * len(SYSTEMS)} runs{spent}"


def curves(runs: Runs) -> tuple[dict[str, tuple[np.ndarray, np.ndarray, bool]], float]:
    """{system: (thousand steps, return as a mean over its seeds, drawn in colour)}, and the last x."""
    lines, end = {}, 0.0
    for system, mine in runs.items():
        if mine:
            courses = [np.nanmean(returns(run).reshape(-1, BIN), axis=1) for run in mine.values()]
            width = BIN * next(iter(mine.values()))["steps"] / 1000
            end = width * len(courses[0])
            lines[system] = ((np.arange(len(courses[0])) + 0.5) * width, np.mean(courses, axis=0), True)
    return lines, end


def main(folder: Path) -> None:
    """Copy the runs, and fill the page."""
    FOLDER.mkdir(exist_ok=True)
    for path in folder.glob("*.json"):
        shutil.copy(path, FOLDER)
    subprocess.run([sys.executable, ROOT / "tools" / "prose.py"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
