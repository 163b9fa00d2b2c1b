import shutil
from pathlib import Path

import pytest

STORED = Path(__file__).parent / "stored"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder of two networks: nearly all figures are missing, so a report is made at once."""
    shutil.copytree(STORED / "units-read", tmp_path / "run")
    return tmp_path / "run"
