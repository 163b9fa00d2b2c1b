"""Tests in the real frameworks: skipped where one is missing, an error where REGROW_INTEGRATIONS is `all`, as in CI."""

import importlib
import os

if os.environ.get("REGROW_INTEGRATIONS") == "all":
    for framework in ("accelerate", "lightning", "pytorch_lightning", "stable_baselines3", "transformers"):
        importlib.import_module(framework)
