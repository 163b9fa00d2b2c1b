"""Tables 1 to 4: the values that the paper tested and chose, and those that our sweeps would choose."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from ...lab.studies import System
from ...lab.studies.permuted_grids import GRIDS
from ...lab.studies.permuted_values import CHOSEN
from ..claims.quantity import label
from ..format import DASH, footnotes, value
from ..runs import Runs
from ..stats import Effect, average
from ..sweeps import Sweep, winner
from .table import Table

KNOBS = {
    "step_size": "step size α",
    "momentum": "momentum",
    "beta1": "β₁",
    "beta2": "β₂",
    "decay": "decay λ",
    "noise_variance": "noise variance σ²",
    "maturity": "maturity",
    "replacement_rate": "replacement rate",
    "every": "every",
    "factor": "factor",
    "threshold": "threshold",
    "ln_position": "layer norm",
}
VALUE_TABLES = {
    "1": ("initial assessment", ("large",)),
    "2": ("large network, without and with layer norm", ("large", "large-ln")),
    "3": ("small network, without and with layer norm", ("small", "small-ln")),
    "4": ("other optimizers", ("large-sgdw", "large-adamw")),
}
"""{number in the paper: what it is of, settings}"""

COLUMNS = (
    "Setting", "System", "Knob", "Values tested", "Paper", "Ours", "Ours minus paper's (points)", "Our sweep",
)  # fmt: skip
"""Of every table of values tested and chosen."""


def values(results: pl.DataFrame | Runs, number: str) -> Table:
    """Table 1, 2, 3 or 4 of the paper: the values tested, those it chose, and those that our sweep would choose.

    Args:
        results: rows as `regrow.load` returns them; may be empty.
        number: "1" to "4".
    """
    what, settings = VALUE_TABLES[number]
    runs = Runs.of(results)
    rows = [row for setting in settings for system in _swept(number, setting) for row in _knobs(runs, setting, system)]
    caption = (
        "Values tested and chosen by the paper, and the best of our sweep by the same rule, the highest mean online "
        "accuracy. All else is as in the base system; S&P has the decay of L2."
    )
    return Table(f"table-{number}", f"Table {number}: {what}", caption, COLUMNS, tuple(rows), footnotes(rows), 3)


def _swept(number: str, setting: str) -> tuple[str, ...]:
    """Systems that the paper tuned: table 1 has those of the initial assessment."""
    systems = tuple(CHOSEN[setting])
    return tuple(name for name in systems if number != "1" or not System.of(name).by_unit)


def _knobs(runs: Runs, setting: str, system: str) -> list[tuple[str, ...]]:
    """One row for each knob; the first says how the whole config did."""
    picked = CHOSEN[setting][system]
    tested = GRIDS[setting].get(_grid_row(setting, system), {})
    best, *ends = winner(runs.configs(setting, system), lambda run: _is_papers(run.config, setting, system), _ahead)
    rows = []
    for i, knob in enumerate(dict.fromkeys([*picked, *tested])):
        tried = ", ".join(map(value, tested.get(knob, ()))) or DASH
        papers = picked.get(knob, ("after",) if knob == "ln_position" else ())
        ours = value(best[knob]) if knob in best else DASH
        sweep = ends if i == 0 else ("", "")
        rows.append((setting, label(system), KNOBS[knob], tried, value(papers[0]) if papers else DASH, ours, *sweep))
    return rows


def _grid_row(setting: str, system: str) -> str:
    """What the grids call a system: ways of renewing weights share one by their pruning."""
    variant = System.of(system).variant
    return variant.prune if variant else system


def _is_papers(config: Mapping[str, Any], setting: str, system: str) -> bool:
    picked = {knob: values[0] for knob, values in CHOSEN[setting][system].items()}
    return picked.items() <= config.items() and config.get("ln_position", "after") == "after"


def _ahead(sweep: Sweep, one: str, other: str) -> Effect:
    return average(sweep.series(one) - sweep.series(other))
