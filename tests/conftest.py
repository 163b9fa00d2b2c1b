"""What all tests share: where the real data lie, and a torch that neither forks threads nor leaks its seed."""

import signal
from pathlib import Path

import pytest
import torch

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure() -> None:
    """Ctrl-C counts also where the tests are started in the background, by a shell that has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same torch generator, alone or after others."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, or data that the user's environment names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("REGROW_DATA", raising=False)


@pytest.fixture
def real_mnist() -> Path:
    """The folder with real MNIST; the test is skipped where there is none."""
    if not (_DATA / "mnist").is_dir():
        pytest.skip(f"needs MNIST's four files under {_DATA / 'mnist'}")
    return _DATA
