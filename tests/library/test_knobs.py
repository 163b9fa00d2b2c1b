"""The knobs of methods: their ranges, the values of the laboratory, the stub, and methods as values."""

import copy
import importlib.util
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import regrow
from regrow.lab.studies import (
    SETTINGS,
    SYSTEMS,
    VIT_SETTINGS,
    VIT_SYSTEMS,
    System,
    permuted_grids,
    permuted_values,
    vit_values,
)
from regrow.methods import REGISTRY, from_config, knobs_of
from regrow.methods.registry import SWR, ContinualBackprop, L2Init, ReDo, ShrinkPerturb, SilentInput

ROOT = Path(__file__).parents[2]
MADE = {
    "shrink-perturb": ShrinkPerturb(),
    "cbp": ContinualBackprop(replacement_rate=0.1, maturity=2),
    "redo": ReDo(every=2, threshold=0.1),
    "swr": SWR(every=2, factor=0.5),
    "l2-init": L2Init(strength=0.1),
    "swr-silent-input": SilentInput(every=2),
}


def wrong_values():
    """Every knob of every method, with a value just out of its range, one of a wrong type, and the messages."""
    for system, made in MADE.items():
        for name, knob in knobs_of(made).items():
            if knob.kind == "flag":
                yield system, name, "yes", TypeError, "must be True or False; got 'yes'"
                continue
            if not knob.of_numbers:
                yield system, name, "nonsense", ValueError, f"must be one of '{knob.choices[0]}'"
                continue
            low = int(knob.low) - 1 if knob.kind == "whole" else knob.low - 0.5
            span = "at least" if knob.kind == "whole" or math.isinf(knob.high) else "in \\["
            yield system, name, low, ValueError, f"must be .*{span}"
            yield system, name, "1", TypeError, "must be a (whole )?number"
            yield system, name, True, TypeError, "must be a (whole )?number"
            yield system, name, math.nan, (ValueError, TypeError), "must be"
            if math.isfinite(knob.high):
                yield system, name, knob.high + 0.5, (ValueError, TypeError), "must be"


@pytest.mark.parametrize("system, name, value, error, message", list(wrong_values()))
def test_every_knob_checks_its_range(system, name, value, error, message):
    kind, knob = REGISTRY[system].method, knobs_of(REGISTRY[system].method)[name]
    values = MADE[system].values() | {name: value}
    with pytest.raises(error, match=f"^`{name}` {message}"):
        kind(**values)
    key = knob.config or name
    config = {known.config or other: getattr(MADE[system], other) for other, known in knobs_of(kind).items()}
    with pytest.raises(error, match=rf"^`members\[0\]\.config\['{key}'\]` {message}"):
        from_config(kind, config | {key: value}, "members[0].config")
    if not knob.laboratory:
        with pytest.raises(error, match=f"^`{name}` {message}"):
            getattr(regrow, kind.__name__)(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), **values)


def test_share_of_proportional_pruning_is_at_most_one():
    with pytest.raises(ValueError, match=r"`factor` must be in \[0, 1\] \(share of the entries\)"):
        SWR(every=1, factor=1.5, prune="proportional")
    with pytest.raises(ValueError, match=r"`x\['factor'\]` must be in \[0, 1\]"):
        from_config(SWR, {"every": 1, "factor": 1.5, "prune": "proportional"}, "x")


def test_values_and_grids_of_the_studies_are_in_range():
    seen = 0
    for values, settings, systems in (
        (permuted_values.chosen, SETTINGS, SYSTEMS),
        (vit_values.chosen, VIT_SETTINGS, VIT_SYSTEMS),
        (permuted_grids.grid, SETTINGS, [s for s in SYSTEMS if s != "scratch"]),
    ):
        for setting in settings:
            for system in systems:
                configs = values(setting, system)
                row = REGISTRY.get(System.of(system).method)
                for config in configs if isinstance(configs, list) else [configs]:
                    from_config(row.method if row else ShrinkPerturb, config, f"{setting} {system}")
                    seen += 1
    assert seen > 1000


def test_stub_is_what_the_tool_writes(tmp_path):
    spec = importlib.util.spec_from_file_location("stub_tool", ROOT / "tools" / "stub.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    written = tmp_path / "__init__.pyi"
    written.write_text(tool.stub())
    pytest.importorskip("ruff")
    for command in (["check", "--select", "I", "--fix"], ["format"]):
        settings = ["--config", str(ROOT / "pyproject.toml"), str(written)]
        subprocess.run([sys.executable, "-m", "ruff", *command, *settings], check=True, capture_output=True)
    assert written.read_text() == (ROOT / "src" / "regrow" / "__init__.pyi").read_text()


@pytest.mark.parametrize("method", MADE.values(), ids=list(MADE))
def test_methods_are_values(method):
    for other in (pickle.loads(pickle.dumps(method)), copy.deepcopy(method), type(method)(**method.values())):
        assert other == method and hash(other) == hash(method) and repr(other) == repr(method)
