"""Tests in the real frameworks: skipped where one is missing, an error where REGROW_INTEGRATIONS is `all`, as in CI."""

import importlib
import os

if os.environ.get("REGROW_INTEGRATIONS") == "all":
    frameworks = ["accelerate", "datasets", "lightning", "pytorch_lightning", "skrl", "stable_baselines3"]
    for framework in (*frameworks, "torchrl", "transformers", "trl"):
        importlib.import_module(framework)
