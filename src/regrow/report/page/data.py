"""The numbers behind a page: of each figure, and of every run, for its script and as files."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..figures.lengths import choices, longest, most_seeds
from ..figures.line import Curve, bin_width, slug, to_curve
from ..figures.sheet import Drawing
from ..results import Results
from ..runs import Run, entries
from ..style import SETTING_LABELS, Look, look
from .svg import Picture, themed

DASHES = {"-": "", "--": "6 3", "-.": "6 2 1.5 2", ":": "1.5 2.5"}
"""{matplotlib's name of a dash: SVG's}"""


class Measure(NamedTuple):
    """Something that is measured at every task; column: of a run, times `factor`."""

    label: str
    column: str
    factor: float = 1.0


MEASURES = (
    Measure("online accuracy (%)", "online_accuracy"),
    Measure("dead units (%)", "dead_units", 100),
    Measure("rank of the last hidden layer (99 % of the singular values' sum)", "rank99"),
    Measure("weight magnitude, mean |w|", "weight_magnitude"),
    Measure("gradient magnitude, mean |g|", "gradient_magnitude"),
    Measure("loss", "loss"),
    Measure("renewed in a task (% of all entries)", "renewed"),
)


def figure(drawing: Drawing, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """What the script needs of each panel of lines: where its axes are, their limits, its means."""
    panels = []
    for panel, picture in zip(drawing.panels, pictures, strict=True):
        if all(len(each.x) < 2 for each in panel.series):  # points that say what they are
            continue
        panels.append(
            {
                "id": picture.id,
                "frame": [round(value, 1) for value in picture.frame],
                "x": [_rounded(value) for value in panel.axes.get_xlim()],
                "y": [_rounded(value) for value in panel.axes.get_ylim()],
                "log": [panel.axes.get_xscale() == "log", panel.axes.get_yscale() == "log"],
                "name": panel.x,
                "series": [_series(each.look, each.x, each.mean, each.error, each.seeds) for each in panel.series],
            }
        )
    return panels


def _series(own: Look, x: np.ndarray, mean: np.ndarray, error: np.ndarray, seeds: np.ndarray) -> dict[str, Any]:
    """x: its values, or the first and the step where they are evenly apart."""
    series = {"key": slug(own.label), "label": own.label, "n": int(seeds.max(initial=0)), "m": _numbers(mean)}
    if np.isfinite(error).any():
        series["e"] = _numbers(error, 2)
    steps = np.diff(x)
    even = len(x) > 2 and np.allclose(steps, steps[0])
    return series | ({"start": _rounded(x[0]), "step": _rounded(steps[0])} if even else {"x": _numbers(x)})


def _numbers(values: np.ndarray, digits: int = 4) -> list[float | None]:
    return [_rounded(value, digits) for value in values]


def _rounded(value: float, digits: int = 4) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def shared(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The numbers of a page with every series written once: `m` and `e` are indices into its list `series`.

    Example:
        >>> shared({"a": [{"m": [1.5, 2.5]}], "b": {"m": [1.5, 2.5], "e": [0.1, 0.2]}})
        {'a': [{'m': 0}], 'b': {'m': 0, 'e': 1}, 'series': [[1.5, 2.5], [0.1, 0.2]]}
    """
    places: dict[tuple[float | None, ...], int] = {}

    def replaced(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: places.setdefault(tuple(each), len(places)) if key in ("m", "e") else replaced(each)
                for key, each in value.items()
            }
        return [replaced(each) for each in value] if isinstance(value, list) else value

    return {**replaced(content), "series": [list(series) for series in places]}


def csv(drawing: Drawing) -> str:
    """A figure as a table: a row for each point of each line."""
    rows = ["panel,line,seeds,x,mean,standard_error"]
    for panel in drawing.panels:
        for each in panel.series:
            for x, mean, error, seeds in zip(each.x, each.mean, each.error, each.seeds, strict=True):
                if np.isfinite(mean):
                    wrong = f"{error:.4g}" if np.isfinite(error) else ""
                    rows.append(f"{_quoted(panel.title)},{_quoted(each.look.label)},{seeds},{x:g},{mean:.6g},{wrong}")
    return "\n".join(rows) + "\n"


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"' if "," in text or '"' in text else text


def browser(results: Results) -> Mapping[str, Any]:
    """Every system in every setting by every measure, for the script; empty where there is nothing.

    `{"measures": [label], "settings": [{"name", "systems": [look], "lengths": [{"tasks", "curves"}]}]}`; curves are
    by measure and system, null where a system has none.
    """
    settings = [_of_setting(results, setting) for setting in results.runs.settings]
    return {"measures": [measure.label for measure in MEASURES], "settings": [each for each in settings if each]}


def _of_setting(results: Results, setting: str) -> Mapping[str, Any]:
    runs = results.runs
    mains = {system: main for system in runs.systems(setting) if (main := runs.main(setting, system))}
    looks = [look(system) for system in mains]
    systems = [
        {"key": slug(own.label), "label": own.label, "colour": themed(own.colour), "dashes": DASHES[own.dashes]}
        for own in looks
    ]
    lengths = [_of_length(results, setting, mains, most_seeds)]
    if any(len(choices([main])) > 1 for main in mains.values()):
        lengths.append(_of_length(results, setting, mains, longest))
    return {"name": SETTING_LABELS.get(setting, setting), "systems": systems, "lengths": lengths} if mains else {}


def _of_length(
    results: Results, setting: str, mains: Mapping[str, Sequence[Run]], choose: Callable[[Sequence[Run]], Sequence[Run]]
) -> Mapping[str, Any]:
    chosen = {system: choose(main) for system, main in mains.items()}
    if choose is longest:  # systems without longer runs are in the other choice
        most = max(runs[0].tasks for runs in chosen.values())
        chosen = {system: runs if runs[0].tasks == most else () for system, runs in chosen.items()}
    tasks = max(runs[0].tasks for runs in chosen.values() if runs)
    size = entries(setting, results.pixels)
    curves = [[_curve(runs, measure, size) for runs in chosen.values()] for measure in MEASURES]
    return {"tasks": tasks, "curves": curves}


def _curve(runs: Sequence[Run], measure: Measure, size: int) -> Mapping[str, Any] | None:
    if not runs:
        return None
    curve: Curve = to_curve(runs, measure.column, bin_width(runs[0].tasks))
    factor = 100 / size if measure.column == "renewed" else measure.factor
    mean, error = factor * curve.mean, factor * curve.error
    if not np.isfinite(mean).any():
        return None
    known = {"e": _numbers(error, 2)} if np.isfinite(error).any() else {}
    step = bin_width(runs[0].tasks)
    return {"n": len(runs), "start": (step - 1) / 2, "step": step, "m": _numbers(mean)} | known
