"""How far a level course seems to fall: the bias of an early peak that is chosen on the run it is measured on.

    python tools/window_bias.py

Systems whose accuracy is level are taken at tasks 300 to 999 of the runs of 1,000 tasks. Every stretch of 200 tasks
there is judged as if it were a run of its own; what is measured of it should be 0. Prints a Markdown table.
"""

from pathlib import Path

import numpy as np

from regrow.report import windows
from regrow.report.claims.quantity import label
from regrow.report.format import number
from regrow.report.results import combine, read
from regrow.report.runs import Runs
from regrow.report.style import FOUR, SETTING_LABELS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "results/weights-vs-units-long"
LEVEL = ("l2", "shrink-perturb", "swr")
FIRST, TASKS, LENGTH, STEP = 300, 1000, 200, 50


def stretches(runs: Runs, setting: str, system: str) -> np.ndarray:
    """Stretches of a run's accuracy in percent, a row each, (S, T)."""
    run = next(run for run in runs.main(setting, system) if run.seed == 0)  # the one that was known then
    accuracy = run.measure("online_accuracy")[:TASKS]
    return np.stack([accuracy[i : i + LENGTH] for i in range(FIRST, len(accuracy) - LENGTH + 1, STEP)])


def biases(series: np.ndarray) -> tuple[float, float, float]:
    """Mean of what each rule measures of level stretches: own peak, peak of the others, fixed windows."""
    ways = windows.last_minus_own_peak(series), windows.end_minus_peak(series), windows.end_minus_start(LENGTH)
    own, others, fixed = (float((series * weights).sum(1).mean()) for weights in ways)
    return own, others, fixed


def table(runs: Runs) -> str:
    """Points by which a level course seems to change, in each setting, mean over its level systems' stretches."""
    lines = ["| setting | own peak | peak of the others | fixed windows |", "|---|---|---|---|"]
    for setting in FOUR:
        each = {system: biases(stretches(runs, setting, system)) for system in LEVEL}
        own = ", ".join(f"{label(system)} {number(each[system][0], 2, sign=True)}" for system in LEVEL)
        rest = [number(float(np.mean([values[i] for values in each.values()])), 2, sign=True) for i in (1, 2)]
        lines.append(f"| {SETTING_LABELS[setting]} | {own} | {rest[0]} | {rest[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(combine([read(ROOT / FOLDER)]).runs))
