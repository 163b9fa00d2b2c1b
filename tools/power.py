"""How large an effect the rules detect: by seeds, in standard deviations and in points of accuracy.

    python tools/power.py

Power 80 %, two-sided at 5 %, Student's t over seeds; alone in its claim, and as the first of four under Holm's
correction. Standard deviations over seeds are those of the five seeds of 200 tasks that were known when the rules were
made. Prints two Markdown tables.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import root_scalar
from scipy.stats import nct, t

from regrow.report import windows
from regrow.report.results import combine, read
from regrow.report.runs import Runs
from regrow.report.style import FOUR, SETTING_LABELS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "results/weights-vs-units"
POWER, ALPHA, FAMILY, TASKS = 0.8, 0.05, 4, 200
SEEDS = (3, 5, 10)
SYSTEMS = ("l2", "shrink-perturb", "cbp", "redo", "swr")


def detected(seeds: int, tests: int = 1) -> float:
    """The distance from a bound, in standard deviations over seeds, that is detected with a power of 80 %."""
    limit = t.ppf(1 - ALPHA / (2 * tests), seeds - 1)
    far = root_scalar(lambda d: nct.sf(limit, seeds - 1, d * np.sqrt(seeds)) - POWER, bracket=(0.01, 100))
    return float(far.root)


def in_deviations() -> str:
    """What is detected in standard deviations over seeds."""
    lines = [f"| seeds | alone in its claim | first of {FAMILY} |", "|---|---|---|"]
    return "\n".join(lines + [f"| {n} | {detected(n):.1f} | {detected(n, FAMILY):.1f} |" for n in SEEDS])


def deviations(runs: Runs, setting: str) -> dict[str, float]:
    """Median over systems of the standard deviation over seeds: of a difference to SWR, of a drop, of a fall."""
    series = {}
    for system in SYSTEMS:
        known = [run for run in runs.main(setting, system) if run.seed < 5]
        series[system] = np.stack([run.measure("online_accuracy")[:TASKS] for run in known])
    ahead = [(series["swr"] - each).mean(1) for system, each in series.items() if system != "swr"]
    drop = [each @ windows.end_minus_start(each.shape[1]) for each in series.values()]
    fall = [each @ windows.end_minus_peak(each.shape[1]) for each in series.values()]
    names = {"difference of two systems": ahead, "end minus start": drop, "end minus peak": fall}
    return {name: float(np.median([values.std(ddof=1) for values in each])) for name, each in names.items()}


def in_points(runs: Runs) -> str:
    """What is detected in points of accuracy, the first of a family, by setting, quantity and seeds."""
    lines = [f"| setting | quantity | {' | '.join(f'{n} seeds' for n in SEEDS)} |", "|---|---|" + "---|" * len(SEEDS)]
    for setting in FOUR:
        for name, deviation in deviations(runs, setting).items():
            cells = " | ".join(f"{deviation * detected(n, FAMILY):.2f}" for n in SEEDS)
            lines.append(f"| {SETTING_LABELS[setting]} | {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(in_deviations(), in_points(combine([read(ROOT / FOLDER)]).runs), sep="\n\n")
