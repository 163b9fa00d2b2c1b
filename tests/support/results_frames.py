"""Tables of results as the laboratory writes them, made up: curves of accuracy and correlates that a test chooses.

Shapes: T tasks.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from regrow.lab.runs.columns import RESULTS
from regrow.lab.studies import SETTINGS, Member, System
from regrow.lab.studies.permuted_grids import grid
from regrow.lab.studies.permuted_values import chosen


@dataclass(frozen=True)
class Kind:
    """How a made-up system behaves.

    level: accuracy in percent after the first tasks. drop: points lost by the end, evenly; `early` of them by task 60.
    dead: points of dead units gained by the end. weights, gradients, rank: their change by the end, a share.
    """

    level: float = 92.0
    drop: float = 0.0
    early: float = 0.0
    dead: float = 0.0
    weights: float = 0.0
    gradients: float = 0.0
    rank: float = 0.0

    def accuracy(self, t: np.ndarray) -> np.ndarray:
        start = -2 * np.exp(-t / 1.5)
        return (
            self.level + start - self.drop * t / max(1, t[-1]) - self.early * (1 - np.exp(-np.maximum(t - 10, 0) / 15))
        )


def run(
    setting: str,
    system: str,
    kind: Kind = Kind(),  # noqa: B008
    tasks: int = 200,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    study: str = "weights-vs-units",
    noise: float = 0.1,
    **columns: Any,
) -> pl.DataFrame:
    """The rows of one network; `columns` replace whole columns by a value or a list."""
    config = dict(config or chosen(setting, system))
    member = Member(system, config, seed)
    rng = np.random.default_rng([seed, int(member.config_id, 16), len(setting)])
    t = np.arange(tasks)
    full = t / max(1, tasks - 1)
    shared = np.random.default_rng(seed).normal(0, noise, tasks)  # of the permutations, which all systems share

    def jitter(size: float) -> np.ndarray:
        return rng.normal(0, size, tasks)

    asked = System.of(system)
    by_unit, renews = asked.by_unit, asked.renews
    values: dict[str, Any] = {
        "study": study,
        "setting": setting,
        "system": system,
        "config_id": member.config_id,
        "config": json.dumps(config, sort_keys=True),
        "seed": seed,
        "task": t,
        "online_accuracy": (kind.accuracy(t) + shared + jitter(noise)) / 100,
        "loss": 0.3 + jitter(0.001),
        "dead_units": np.clip(0.001 + kind.dead / 100 * full, 0, 1),
        "stable_rank": 5 * (1 + kind.rank * full) + jitter(0.01),
        "rank99": np.round(80 * (1 + kind.rank * full)).astype(int),
        "weight_magnitude": 0.05 * (1 + kind.weights * full) + jitter(1e-4),
        "gradient_magnitude": 1e-3 * (1 + kind.gradients * full) + jitter(1e-6),
        "ln_scale": 1.0 if SETTINGS[setting].layer_norm else None,
        "renewals": int(renews),
        "renewed": 48_000 if renews else 0,
        "renewed_units": 3 if by_unit else 0,
        "renewed_zero": (3 if by_unit else 47_900) if renews else 0,
        "overlap": 0.57 if asked.method == "swr" else None,
        "mature": 290 if asked.method == "cbp" else None,
        "loss_jump": 0.1 if renews else None,
        "diverged": False,
    }
    spread = {k: v if isinstance(v, list | np.ndarray) else [v] * tasks for k, v in (values | columns).items()}
    return pl.DataFrame(
        {name: pl.Series(name, spread[name], dtype=kind, strict=False) for name, kind in RESULTS.items()}
    )


def runs(kinds: Mapping[tuple[str, str], Kind], tasks: int = 200, seeds: Iterable[int] = range(5), **more: Any):
    """The rows of several systems {(setting, system): kind}."""
    seeds = list(seeds)
    return pl.concat([run(*key, kind, tasks, seed, **more) for key, kind in kinds.items() for seed in seeds])


def sweep(setting: str, system: str, level: Callable[[Mapping[str, Any]], float], tasks: int = 30, seeds=range(5)):
    """The rows of a system's whole grid, each config at a level of its own."""
    return pl.concat(
        [
            run(setting, system, Kind(level(config)), tasks, seed, config)
            for config in grid(setting, system)
            for seed in seeds
        ]
    )


LOST = Kind(93.0, drop=9.0, dead=40, weights=1.5, gradients=-0.5, rank=-0.5)
SWR_VARIANTS = {
    "swr-gradient-proportional-resample": Kind(92.4),
    "swr-gradient-threshold-mean": Kind(92.0, drop=5.0),
    "swr-gradient-proportional-mean": Kind(92.0, drop=3.0),
    "swr-gradient-proportional-mean-authors": Kind(92.0, drop=3.0),
}
AS_IN_THE_PAPER: dict[tuple[str, str], Kind] = {
    ("large", "base"): LOST,
    ("large", "l2"): Kind(92.9),
    ("large", "shrink-perturb"): Kind(92.6),
    ("large", "cbp"): Kind(92.43),
    ("large", "redo"): Kind(92.49),
    ("large", "swr"): Kind(92.79),
    ("large", "scratch"): Kind(90.5),
    **{("large", system): kind for system, kind in SWR_VARIANTS.items()},
    **{
        ("large", f"swr-magnitude-{prune}-{reinit}"): Kind(92.5, drop=drop)
        for prune, drop in (("threshold", 8.5), ("proportional", 6.0))
        for reinit in ("resample", "mean")
    },
    ("large-ln", "base"): Kind(93.0, drop=4.0),
    ("large-ln", "l2"): Kind(92.8, gradients=-0.5, rank=-0.4),
    ("large-ln", "shrink-perturb"): Kind(93.0),
    ("large-ln", "cbp"): Kind(93.0, drop=3.0, weights=1.0, gradients=-0.5),
    ("large-ln", "redo"): Kind(92.5),
    ("large-ln", "swr"): Kind(93.6),
    **{("large-ln", system): kind for system, kind in SWR_VARIANTS.items()},
    ("large-ln", "swr-gradient-proportional-resample"): Kind(93.3),
    ("small", "base"): Kind(88.0, drop=6.0),
    ("small", "l2"): Kind(89.5),
    ("small", "shrink-perturb"): Kind(89.4),
    ("small", "cbp"): Kind(87.5, early=2.5),
    ("small", "redo"): Kind(87.5, early=2.5),
    ("small", "swr"): Kind(88.5),
    **{("small", system): kind for system, kind in SWR_VARIANTS.items()},
    ("small", "swr-gradient-proportional-resample"): Kind(88.2),
    ("small-ln", "base"): Kind(89.0, drop=16.0),
    ("small-ln", "l2"): Kind(89.5),
    ("small-ln", "shrink-perturb"): Kind(89.0),
    ("small-ln", "cbp"): Kind(89.0, early=8.0, weights=1.0, gradients=-0.5),
    ("small-ln", "redo"): Kind(89.0, early=8.0, gradients=-0.5, rank=-0.5),
    ("small-ln", "swr"): Kind(90.5),
    ("small-ln", "swr-gradient-proportional-resample"): Kind(87.0),
    ("small-ln", "swr-gradient-threshold-mean"): Kind(88.0, drop=3.0),
    ("small-ln", "swr-gradient-proportional-mean"): Kind(88.0),
    ("small-ln", "swr-gradient-proportional-mean-authors"): Kind(88.0),
    ("large-sgdw", "base"): LOST,
    ("large-sgdw", "l2"): Kind(93.3),
    ("large-sgdw", "shrink-perturb"): Kind(92.0),
    ("large-sgdw", "cbp"): Kind(92.0),
    ("large-sgdw", "redo"): Kind(92.1),
    ("large-sgdw", "swr"): Kind(92.9),
    ("large-adamw", "base"): LOST,
    ("large-adamw", "l2"): Kind(92.0, drop=1.5),
    ("large-adamw", "shrink-perturb"): Kind(92.0, drop=1.5),
    ("large-adamw", "cbp"): Kind(92.8),
    ("large-adamw", "redo"): Kind(92.8),
    ("large-adamw", "swr"): Kind(92.9),
}
"""Every system as the paper describes it."""


def sweeps_as_in_the_paper() -> pl.DataFrame:
    """A flat sweep and a spiky one in the large network; under layer norm renewing weights above renewing units."""
    spiky = sweep("large", "swr-gradient-proportional-resample", lambda c: 92.0 if c["factor"] == 0.4 else 85.0, 200)
    parts = [sweep("large", "swr", lambda c: 92.5 - 2 * (c["factor"] > 1e-3), 200), spiky]
    for setting in ("large-ln", "small-ln"):
        parts.append(sweep(setting, "swr", lambda c: 91.0 + 100 * c["factor"], 200))
        parts += [sweep(setting, system, lambda c: 88.0, 200) for system in ("cbp", "redo")]
    return pl.concat(parts)
