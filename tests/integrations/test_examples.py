"""The programs under examples/ that need a framework or draw a picture run as they stand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from integration_cases import EXAMPLES

FOLDER = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_draws(name, tmp_path):
    for framework in EXAMPLES[name]:
        pytest.importorskip(framework)
    picture = tmp_path / "picture.png"
    arguments = ["--picture", str(picture)] if name == "cleanrl_ppo" else [str(picture)]
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *arguments],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes()[:4] == b"\x89PNG" and done.stdout.count("\n") >= 2


def test_a_full_run_of_cartpole_is_stored_whole_and_once(tmp_path, monkeypatch):
    pytest.importorskip("stable_baselines3")
    monkeypatch.syspath_prepend(FOLDER)
    import sb3_cartpole

    short = sb3_cartpole.Protocol(levels=2, iterations=1, batch=100, hidden=(8,))
    for system in ("base", "swr", "l2-init"):
        sb3_cartpole.run(system, 1, short, tmp_path)
    stored = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(stored) == ["base-seed1.json", "l2-init-seed1.json", "swr-seed1.json"]
    base, pulled = (json.loads(stored[f"{name}-seed1.json"]) for name in ("base", "l2-init"))
    assert len(base["returns"]) == 2 and base["returns"][0] == pulled["returns"][0] > 1, "the same seed begins the same"
    assert base["report"] == {} and pulled["report"]["regrow/steps"] == 2 * 5 * 8
    sb3_cartpole.run("base", 1, short, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == stored
