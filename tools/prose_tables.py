"""The tables that `prose.py` writes into README and docs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cartpole
import numpy as np
import power
import window_bias

from regrow.lab.studies.permuted_values import EQUAL_SHARE, chosen
from regrow.report.claims import STATEMENTS, evaluate
from regrow.report.claims.quantity import label
from regrow.report.claims.statement import Statement
from regrow.report.claims.sweeps import as_grid
from regrow.report.claims.vit_quantities import by_seed
from regrow.report.figures.vit_optimizers import compare
from regrow.report.format import DASH, interval, number, value
from regrow.report.margins import LAST
from regrow.report.published import level as published
from regrow.report.results_vit import ACCURACY
from regrow.report.runs import FRESH, Comparison, Run, Runs, comparisons, frames
from regrow.report.style import FOUR, NORMS, SETTING_LABELS

if TYPE_CHECKING:
    from prose import Numbers

SIX = ("base", "l2", "shrink-perturb", "cbp", "redo", "swr")
NAMES = {
    "l2": "L2",
    "shrink-perturb": "shrink and perturb",
    "cbp": "continual backpropagation",
    FRESH: "a fresh network on every task",
    "swr-zero-only": "utility 0 only",
    "swr-zero-spared": "utility 0 spared",
    "swr-random-threshold-resample": "half of all entries, at random",
}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")


def over(runs: Runs, setting: str, system: str, longest: bool = False) -> Comparison | None:
    """The runs of a system: the most seeds over the tasks they share, as the report has them, or the longest."""
    shared = frames({system: runs.main(setting, system)})
    return shared[0 if longest else -1] if shared else None


def of_six(runs: Runs, setting: str, longest: bool = False) -> Comparison:
    """The runs of the six systems: the most seeds over the tasks they share, or the longest."""
    return frames({system: runs.main(setting, system) for system in SIX})[0 if longest else -1]


def level(runs: Runs, setting: str, system: str, longest: bool = False) -> str:
    """Accuracy in percent: of the last 100 tasks, of a fresh network over all; ± standard error where it is >= 0.1."""
    each = over(runs, setting, system, longest)
    if each is None or (each.tasks < LAST and system != FRESH):
        return DASH
    accuracy = each.series(system)
    by_run = (accuracy if system == FRESH else accuracy[:, -LAST:]).mean(1)
    error = by_run.std(ddof=1) / np.sqrt(len(by_run)) if len(by_run) >= 3 else 0.0
    return number(by_run.mean(), 1) + (f" ± {number(error, 1)}" if round(error, 1) >= 0.1 else "")


def beside(setting: str, system: str) -> str:
    """The published level, in brackets, where there is one."""
    known = published(setting, system)
    return f" ({known.text.removesuffix(' at the end')})" if known else ""


def levels(numbers: "Numbers", systems: Sequence[str] = (*SIX, FRESH), longest: bool = False) -> str:
    """All systems in all four settings; first, the seeds and tasks of the six."""
    runs = numbers.permuted.runs
    both = (of_six(runs, place, longest) for place in FOUR)
    rows = [["seeds × tasks", *(f"{len(each.seeds)} × {each.tasks:,}" for each in both)]]
    rows += (
        [NAMES.get(s, label(s)), *(level(runs, place, s, longest) + beside(place, s) for place in FOUR)]
        for s in systems
    )
    return markdown(["", *(SETTING_LABELS[place] for place in FOUR)], rows)


def variants(numbers: "Numbers") -> str:
    """All ways of selective weight reinitialization in the large network."""
    rows = [
        [f"{utility}, {prune}"]
        + [
            level(numbers.permuted.runs, "large", name) + beside("large", name)
            for name in (_variant(utility, prune, reinit) for reinit in ("resample", "mean"))
        ]
        for utility in ("gradient", "magnitude", "random")
        for prune in ("threshold", "proportional")
    ]
    return markdown(["utility, pruning", "resample", "mean"], rows)


def equal_share(numbers: "Numbers") -> str:
    """Random utility in the large network: at our values, and at those that renew the paper's share of entries."""
    rows = []
    for system in EQUAL_SHARE:
        for runs in sorted(numbers.permuted.runs.configs("large", system).values(), key=_share, reverse=True):
            both = frames({system: runs})[-1]
            config, end = runs[0].config, both.series(system)[:, -LAST:].mean()
            knobs = f"every {config['every']}, factor {value(config['factor'])}"
            share = f"1 / {1 / _share(runs):,.0f}"
            shown = [number(end, 1) + beside("large", system), f"{len(both.seeds)} × {both.tasks}"]
            rows.append([label(system), knobs, share + ": as in the paper" * ("share_of" in config), *shown])
    head = ["random utility", "values", "share of entries renewed per update", "accuracy", "seeds × tasks"]
    return markdown(head, rows)


def _share(runs: Sequence[Run]) -> float:
    """The share of all entries that an update renews, on average; of uniform utilities a threshold takes half."""
    config = runs[0].config
    return float(config["factor"] / config["every"] / (2 if config["prune"] == "threshold" else 1))


def by_gradient(numbers: "Numbers") -> str:
    """The ways by gradient utility in all settings, with the seeds and tasks of each."""
    runs, rows = numbers.permuted.runs, []
    for prune, ties in (("threshold", ""), ("proportional", ""), ("proportional", "-authors")):
        for reinit in ("resample", "mean"):
            name = _variant("gradient", prune, reinit) + ties
            how = prune + {"-authors": ", ties by position"}.get(ties, ", ties at random" * (prune == "proportional"))
            rows.append([how, reinit, *(_with_size(runs, place, name) for place in FOUR)])
    return markdown(["pruning", "", *FOUR], rows)


def _with_size(runs: Runs, setting: str, system: str) -> str:
    each = over(runs, setting, system)
    return f"{level(runs, setting, system)} ({len(each.seeds)} × {each.tasks:,})" if each else DASH


def _variant(utility: str, prune: str, reinit: str) -> str:
    name = f"swr-{utility}-{prune}-{reinit}"
    return "swr" if name == "swr-gradient-threshold-resample" else name


def optimizers(numbers: "Numbers") -> str:
    """All systems with other optimizers."""
    places = ("large-sgdw", "large-adamw")
    rows = [[NAMES.get(s, label(s)), *(level(numbers.permuted.runs, place, s) for place in places)] for s in SIX]
    return markdown(["system", "SGDW with momentum", "AdamW"], rows)


def sweeps(numbers: "Numbers") -> str:
    """The best, median and worst config of every whole sweep."""
    rows, runs = [], numbers.permuted.runs
    for setting in FOUR:
        for system in ("swr", "swr-gradient-proportional-resample", "cbp", "redo"):
            grid = as_grid(runs, setting, system)
            if grid and grid.whole:
                rows.append([setting, label(system), *_swept(grid, setting, system)])
    return markdown(["setting", "system", "configs", "best", "at", "median", "worst"], rows)


def _swept(grid: Any, setting: str, system: str) -> list[str]:
    shared = comparisons(grid.groups())[-1]
    means = {place: float(shared.series((system, place)).mean()) for place in grid.configs}
    best = max(means, key=lambda place: means[place])
    at = ", ".join(
        f"{knob.replace('_', ' ')} {value(knob_value)}" for knob, knob_value in zip(grid.knobs, best, strict=True)
    )
    papers = chosen(setting, system)
    same = all(papers[knob] == knob_value for knob, knob_value in zip(grid.knobs, best, strict=True))
    ends = (number(means[best], 1), at + ": the paper's" * same)
    middle, worst = float(np.median(list(means.values()))), min(means.values())
    return [str(len(means)), *ends, number(middle, 1), number(worst, 1)]


def zero_gradient(numbers: "Numbers") -> str:
    """Whether what has utility 0 is all that matters."""
    controls = ("swr-zero-only", "swr-zero-spared", "base", "swr-random-threshold-resample")
    rows = [[NAMES.get(s, label(s)), *(_from_ten(numbers.permuted.runs, place, s) for place in FOUR)]
            for s in ("swr", *controls)]  # fmt: skip
    return markdown(["system", *FOUR], rows)


def _from_ten(runs: Runs, setting: str, system: str) -> str:
    """Tasks 10 to 29 of the first three seeds, and against SWR of the same seeds."""
    series = {name: [run.measure("online_accuracy")[10:30] for run in runs.main(setting, name)[:3]]
              for name in (system, "swr")}  # fmt: skip
    mine, swr = (np.array(each).mean(1) for each in (series[system], series["swr"]))
    if system == "swr":
        return number(mine.mean(), 1)
    gap = mine - swr
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    return f"{number(mine.mean(), 1)} ({number(gap.mean(), 2, sign=True)} ± {number(error, 2)})"


def vit(numbers: "Numbers") -> str:
    """Both optimizers on the last task."""
    rows = []
    for way in ("authors", "clean"):
        for setting in ("vit", "vit-reparam"):
            runs, both = numbers.vit.runs[way], compare(numbers.vit, setting)
            assert both
            mains = (comparisons({system: runs.main(setting, system)})[-1] for system in ("base", FRESH))
            last = [each.series(next(iter(each.groups)), ACCURACY)[:, -1] for each in mains]
            cells = [interval(by_seed(values, both.tasks)) for values in last]
            gap = interval(by_seed(both.gap[way], both.tasks), sign=True)
            rows.append([f"{NORMS[setting]}, {way}{chr(39) * (way == 'authors')}", *cells, gap])
    return markdown(["norm, optimizer", "base", "fresh network", "base minus fresh"], rows)


def longest_levels(numbers: "Numbers") -> str:
    """The longest runs."""
    return levels(numbers, SIX, longest=True)


def verdicts(numbers: "Numbers") -> str:
    """Every statement: its grade, and that of the earlier rules."""
    rows = [
        [v.id, v.text, v.grade, v.old_verdict or "new", f"{interval(v.effect, sign=True)} {v.unit}".strip()]
        for v in numbers.verdicts.values()
        if v.claim <= 12
    ]
    return markdown(["", "statement", "grade", "earlier rules", "effect"], rows)


def margins(numbers: "Numbers") -> str:
    """Statements whose grade changes where every margin is half, or twice, what it is."""
    rows = []
    for factor, name in ((0.5, "half"), (2.0, "twice")):
        other = evaluate(numbers.permuted.runs, [_scaled(statement, factor) for statement in STATEMENTS])
        changed = [f"{v.id} {v.grade}" for v in other if v.grade != numbers.verdicts[v.id].grade]
        rows.append([name, ", ".join(changed) or "none"])
    return markdown(["margins", "grades that change"], rows)


def _scaled(statement: Statement, factor: float) -> Statement:
    return replace(statement, tests=tuple(replace(test, bound=factor * test.bound) for test in statement.tests))


TABLES: dict[str, Callable[["Numbers"], str]] = {
    "levels": levels,
    "longest levels": longest_levels,
    "variants": variants,
    "equal share": equal_share,
    "by gradient": by_gradient,
    "optimizers": optimizers,
    "sweeps": sweeps,
    "zero gradient": zero_gradient,
    "vit": vit,
    "verdicts": verdicts,
    "margins": margins,
    "window bias": lambda numbers: window_bias.table(numbers.permuted.runs),
    "window alarms": lambda numbers: window_bias.alarm_table(),
    "cartpole": lambda numbers: cartpole.table(cartpole.load()),
    "power": lambda numbers: power.in_deviations(),
    "power in points": lambda numbers: power.in_points(numbers.permuted.runs),
}
"""{name in a mark: what writes it}"""
