"""Tables of results on CIFAR-100 as the laboratory writes them, made up: curves that a test chooses.

Shapes: T tasks, K classes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from regrow.lab.runs.columns import VIT_RESULTS
from regrow.lab.studies import Member
from regrow.lab.studies.vit_values import chosen


@dataclass(frozen=True)
class Kind:
    """How a made-up network behaves.

    gap: points below a fresh network on the last task, growing evenly. scale: of the norms in the end.
    queries, mlp, attention_mean, mlp_mean: rates of weights, percent a task. order: how much later classes are better,
    in standard deviations of a class.
    """

    gap: float = 0.0
    scale: float = 1.0
    queries: float = -0.5
    mlp: float = -0.5
    attention_mean: float = -0.5
    mlp_mean: float = -0.5
    order: float = 0.0


def run(
    setting: str,
    system: str,
    kind: Kind = Kind(),  # noqa: B008
    tasks: int = 20,
    seed: int = 0,
    optimizer: str = "authors",
    diverged_at: int | None = None,
    config: Mapping[str, Any] | None = None,
    noise: float = 0.2,
    **columns: Any,
) -> pl.DataFrame:
    """The rows of one network; `columns` replace whole columns by a value or a list."""
    config = dict(config or chosen(setting, system, optimizer))
    member = Member(system, config, seed)
    rng = np.random.default_rng([seed, int(member.config_id, 16), len(setting)])
    t = np.arange(tasks)
    full = t / max(1, tasks - 1)
    fresh = 85 - 25 * full + np.random.default_rng(seed).normal(0, 1, tasks)
    accuracy = (fresh - kind.gap * full + rng.normal(0, noise, tasks)) / 100
    by_class = np.clip(0.6 + 0.1 * (rng.normal(size=5 * tasks) + kind.order * np.linspace(-1, 1, 5 * tasks)), 0, 1)

    def exponential(percent: float) -> np.ndarray:
        return 0.04 * np.exp(np.log1p(percent / 100) * t + rng.normal(0, 0.01, tasks))

    values: dict[str, Any] = {
        "study": "vit-cifar", "setting": setting, "system": system, "config_id": member.config_id,
        "config": json.dumps(config, sort_keys=True), "seed": seed, "task": t, "classes": 5 * (t + 1),
        "online_accuracy": accuracy, "best_test_accuracy": accuracy, "test_accuracy": accuracy,
        "best_validation_accuracy": accuracy - 0.01, "best_epoch": 90, "loss": 1.0, "diverged": False,
        "weight_magnitude": exponential(0.0), "ln_scale": np.exp(np.log(kind.scale) * full),
        "qkv_median_last": exponential(kind.queries), "qk_median_last": exponential(kind.queries),
        "qkv_mean": exponential(kind.attention_mean), "mlp_median_last": exponential(kind.mlp),
        "mlp_mean": exponential(kind.mlp_mean),
        "class_accuracy": [by_class[: 5 * (k + 1)].tolist() if k == tasks - 1 else None for k in t],
    }  # fmt: skip
    if diverged_at is not None:
        values["diverged"] = t >= diverged_at
        for name in ("online_accuracy", "best_test_accuracy", "test_accuracy", "ln_scale", "qk_median_last"):
            values[name] = np.where(t < diverged_at, values[name], np.nan)
        values["class_accuracy"] = None
    spread = {k: v if isinstance(v, list | np.ndarray) else [v] * tasks for k, v in (values | columns).items()}
    return pl.DataFrame(
        {name: pl.Series(name, spread.get(name, [None] * tasks), dtype=kind_, strict=False)
         for name, kind_ in VIT_RESULTS.items()}
    )  # fmt: skip


def runs(kinds: Mapping[tuple[str, str], Kind], seeds: Iterable[int] = range(8), **more: Any) -> pl.DataFrame:
    """The rows of several systems {(setting, system): kind}."""
    seeds = list(seeds)
    return pl.concat([run(*key, kind, seed=seed, **more) for key, kind in kinds.items() for seed in seeds])


SHRINKING = -30.0
AS_IN_THE_PAPER: dict[tuple[str, str], Kind] = {
    ("vit", "scratch"): Kind(),
    ("vit", "base"): Kind(10, scale=0.1, queries=SHRINKING),
    ("vit", "shrink-perturb"): Kind(10),
    ("vit", "cbp"): Kind(10.5),
    ("vit", "redo"): Kind(10),
    ("vit", "swr"): Kind(9.8),
    ("vit-reparam", "scratch"): Kind(),
    ("vit-reparam", "base"): Kind(4, queries=SHRINKING),
    ("vit-reparam", "shrink-perturb"): Kind(4),
    ("vit-reparam", "cbp"): Kind(3, queries=SHRINKING, mlp=-20),
    ("vit-reparam", "redo"): Kind(3, queries=SHRINKING),
    ("vit-reparam", "swr"): Kind(1.5),
    ("vit-nodecay", "base"): Kind(6, scale=0.9),
    ("vit-scaled", "base"): Kind(16, order=1.0),
    ("vit-reparam-scaled", "base"): Kind(14, order=1.0),
    ("vit-nodecay-scaled", "base"): Kind(15, order=1.0),
}
"""Every system as the paper describes it, none of which diverges."""
