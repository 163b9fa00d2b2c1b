"""The programs under examples/ that need a framework or draw a picture run as they stand."""

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
