"""The columns of the stored tables, and the difference of a vision transformer to one trained from scratch."""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

Schema = Mapping[str, Any]
"""{column: polars type}"""


RESULTS: Schema = (
    {"study": pl.String, "setting": pl.String, "system": pl.String, "config_id": pl.String, "config": pl.String}
    | {"seed": pl.Int64, "task": pl.Int64}
    | dict.fromkeys(("online_accuracy", "loss", "dead_units", "stable_rank"), pl.Float64)
    | {"rank99": pl.Int64}
    | dict.fromkeys(("weight_magnitude", "gradient_magnitude", "ln_scale"), pl.Float64)
    | dict.fromkeys(("renewals", "renewed", "renewed_units", "renewed_zero"), pl.Int64)
    | {"overlap": pl.Float64, "mature": pl.Int64, "loss_jump": pl.Float64, "diverged": pl.Boolean}
)
"""One row per member and task, tasks from 0."""


VIT_RESULTS: Schema = dict(RESULTS) | (
    {"classes": pl.Int64}
    | dict.fromkeys(("best_test_accuracy", "best_validation_accuracy"), pl.Float64)
    | {"best_epoch": pl.Int64, "test_accuracy": pl.Float64, "scratch_difference": pl.Float64}
    | dict.fromkeys(("qkv_median_last", "qkv_mean", "qk_median_last", "mlp_median_last", "mlp_mean"), pl.Float64)
    | {"class_accuracy": pl.List(pl.Float64)}
)
"""One row per network and task.

classes: seen so far. best_test_accuracy, best_validation_accuracy: highest of the task's epochs; best_epoch: that of
the latter, from 0. test_accuracy: with the parameters of that epoch, as are all measures of weights and class_accuracy,
of the classes in the order they came. online_accuracy, loss: on training batches, before their update, with dropout.
"""

EPOCHS: Schema = (
    {"study": pl.String, "setting": pl.String, "system": pl.String, "config_id": pl.String, "config": pl.String}
    | {"seed": pl.Int64, "task": pl.Int64, "epoch": pl.Int64}
    | dict.fromkeys(("train_loss", "train_accuracy", "validation_accuracy", "test_accuracy"), pl.Float64)
    | dict.fromkeys(("weight_magnitude", "ln_scale"), pl.Float64)
)
"""One row per network, task and epoch; weights are those after it."""

VIT_SCHEMAS = {"results": VIT_RESULTS, "epochs": EPOCHS}


def with_scratch_difference(rows: pl.DataFrame) -> pl.DataFrame:
    """The results with `scratch_difference` filled where there is a `scratch` of the same setting, optimizer and seed.

    scratch_difference = best_test_accuracy - that of scratch in the same task

    Args:
        rows: of the results table.

    Returns:
        The same rows in the same order; 0 for `scratch` itself, null where there is none.

    Example:
        >>> rows = {"setting": "vit", "system": ["base", "scratch"], "config": '{"optimizer": "clean"}', "seed": 0,
        ...         "task": 0, "best_test_accuracy": [0.5, 0.75], "scratch_difference": [None, None]}
        >>> with_scratch_difference(pl.DataFrame(rows))["scratch_difference"].to_list()
        [-0.25, 0.0]
    """
    keys = ("setting", "seed", "task")
    optimizer = [json.loads(config).get("optimizer") for config in rows["config"]]
    named = list(zip(*(rows[key] for key in keys), optimizer, strict=True))
    best = list(zip(named, rows["system"], rows["best_test_accuracy"], strict=True))
    scratch = {name: accuracy for name, system, accuracy in best if system == "scratch"}
    differences = [
        accuracy - scratch[name] if accuracy is not None and scratch.get(name) is not None else None
        for name, _, accuracy in best
    ]
    return rows.with_columns(pl.Series("scratch_difference", differences, pl.Float64))
