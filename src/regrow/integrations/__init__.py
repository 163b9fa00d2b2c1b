"""Callbacks for training frameworks; each is imported when it is first used, and needs the extra of its name."""

import importlib
from types import ModuleType

_FRAMEWORKS = ("lightning", "stable_baselines3", "transformers")


def __getattr__(name: str) -> ModuleType:
    if name in _FRAMEWORKS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: it has {', '.join(_FRAMEWORKS)}")
