"""The programs under examples/ that need a framework or draw a picture run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NEEDS = {
    "class_incremental.py": [],
    "cleanrl_ppo.py": ["gymnasium"],
    "hf_languages.py": ["transformers", "accelerate"],
    "lightning_digits.py": ["lightning"],
    "sb3_cartpole.py": ["stable_baselines3"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_an_example_runs_and_draws(name, tmp_path):
    for framework in NEEDS[name]:
        pytest.importorskip(framework)
    picture = tmp_path / "picture.png"
    arguments = ["--picture", str(picture)] if name == "cleanrl_ppo.py" else [str(picture)]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:regrow", EXAMPLES / name, *arguments],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes()[:4] == b"\x89PNG" and done.stdout.count("\n") >= 2
