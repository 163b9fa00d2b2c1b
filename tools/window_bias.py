"""How far, and how often, a level course seems to fall from an early peak.

    python tools/window_bias.py

Systems whose accuracy is level are taken at tasks 300 to 999 of the runs of 1,000 tasks. Every stretch of 200 tasks
there is judged as if it were a run of its own; what is measured of it should be 0. And of simulated level courses,
whose accuracy varies from task to task independently: how often Student's t over the seeds finds a fall. Prints two
Markdown tables.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from regrow.report import windows
from regrow.report.claims.quantity import label
from regrow.report.format import number
from regrow.report.margins import ALPHA
from regrow.report.results import combine, read
from regrow.report.runs import Runs
from regrow.report.style import FOUR, SETTING_LABELS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "results/weights-vs-units-long"
LEVEL = ("l2", "shrink-perturb", "swr")
FIRST, TASKS, LENGTH, STEP = 300, 1000, 200, 50
SIMULATED = 2000


def stretches(runs: Runs, setting: str, system: str) -> np.ndarray:
    """Stretches of a run's accuracy in percent, a row each, (S, T)."""
    run = next(run for run in runs.main(setting, system) if run.seed == 0)  # the one that was known then
    accuracy = run.measure("online_accuracy")[:TASKS]
    return np.stack([accuracy[i : i + LENGTH] for i in range(FIRST, len(accuracy) - LENGTH + 1, STEP)])


def others_peak(series: np.ndarray) -> np.ndarray:
    """Each run's weights of the late window minus the early peak of the mean over the other runs, (S, T).

    Not biased, but each run helps to choose the windows of the others, so the runs are not independent any more.
    """
    others = (series.sum(0) - series) / (len(series) - 1)
    return windows.mean_over(LENGTH, windows.ends(LENGTH).late) - windows.peaks(others)


WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "own peak": windows.last_minus_own_peak,
    "peak of the others": others_peak,
    "tasks 1 to 5": lambda series: np.broadcast_to(windows.end_minus_peak(LENGTH), series.shape),
    "tasks 20 to 99": lambda series: np.broadcast_to(windows.end_minus_start(LENGTH), series.shape),
}
"""{what the end is compared with: its weights}"""


def biases(series: np.ndarray) -> list[float]:
    """Mean of what each way measures of level stretches."""
    return [float((series * weights(series)).sum(1).mean()) for weights in WAYS.values()]


def table(runs: Runs) -> str:
    """Points by which a level course seems to change, in each setting, mean over its level systems' stretches."""
    rows = []
    for setting in FOUR:
        each = {system: biases(stretches(runs, setting, system)) for system in LEVEL}
        own = ", ".join(f"{label(system)} {number(each[system][0], 2, sign=True)}" for system in LEVEL)
        rest = [number(float(np.mean(values)), 2, sign=True) for values in list(zip(*each.values(), strict=True))[1:]]
        rows.append([SETTING_LABELS[setting], own, *rest])
    return _markdown("setting", rows)


def alarms(seeds: int) -> list[float]:
    """How often each way finds a fall in so many level courses, one-sided at 2.5 %, in percent."""
    rng, limit, found = np.random.default_rng(0), student.ppf(ALPHA / 2, seeds - 1), np.zeros(len(WAYS))
    for _ in range(SIMULATED):
        series = rng.normal(size=(seeds, LENGTH))
        values = np.array([(series * weights(series)).sum(1) for weights in WAYS.values()])
        found += values.mean(1) / values.std(1, ddof=1) * np.sqrt(seeds) < limit
    return (100 * found / SIMULATED).tolist()


def alarm_table() -> str:
    """False alarms by seeds."""
    return _markdown("seeds", ([str(n), *(f"{number(each, 1)} %" for each in alarms(n))] for n in (3, 5, 10)))


def _markdown(head: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [[head, *WAYS], ["---"] * (1 + len(WAYS)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")


if __name__ == "__main__":
    print(table(combine([read(ROOT / FOLDER)]).runs), alarm_table(), sep="\n\n")
