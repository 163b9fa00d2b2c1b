"""What the reader is shown runs: every Python block of the README, in order in one namespace, and every example."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import run

ROOT = Path(__file__).resolve().parents[1]


def test_readme_blocks_run() -> None:
    assert run(ROOT / "README.md")["model"] is not None


def test_readme_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert targets and not missing, missing


@pytest.mark.parametrize(
    ("example", "ends"),
    [
        ("drop_in", "'renewals': 8,"),
        ("own_problem", "largest difference from a single run"),
        ("own_method", "largest difference from a single run"),
    ],
)
def test_examples_run(example: str, ends: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", ROOT / "examples" / f"{example}.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ends in done.stdout.splitlines()[-1]


def test_no_example_is_left_out() -> None:
    tested = ["class_incremental", "cleanrl_ppo", "drop_in", "hf_languages", "lightning_digits", "own_method"]
    tested += ["own_problem", "sb3_cartpole"]
    assert sorted(path.stem for path in ROOT.glob("examples/*.py")) == tested
