"""The built wheel works where it is installed, without this checkout; importing the library loads the library only."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import regrow

ROOT = Path(__file__).resolve().parents[1]


def call(*command: str | Path, cwd: Path) -> str:
    # Without PYTHONPATH: it could lead back to the checkout.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment that holds the wheel, and borrows all other packages of this one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=False)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    call(sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-deps", wheel, cwd=folder)
    (packages,) = folder.glob("**/site-packages")
    # A .pth file read from a borrowed folder is not followed, so this checkout's own installation stays out.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith(f"regrow-{regrow.__version__}-py3-none-any")
    assert "regrow/py.typed" in names and "regrow/core/select.py" in names
    assert {name.split("/")[0] for name in names} == {"regrow", f"regrow-{regrow.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_an_index_can_show_the_readme_and_the_metadata(wheel: Path, tmp_path: Path) -> None:
    said = call(sys.executable, "-m", "twine", "check", "--strict", wheel, cwd=tmp_path)
    assert "PASSED" in said


def test_the_wheel_works_elsewhere(elsewhere: Path, tmp_path: Path) -> None:
    program = (
        "import torch, regrow\n"
        "model = torch.nn.Linear(4, 2)\n"
        "opt = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "swr = regrow.SWR(model, every=1, factor=0.5).attach(opt)\n"
        "model(torch.ones(1, 4)).sum().backward()\n"
        "opt.step()\n"
        "print(regrow.__file__, swr.report()['renewals'])\n"
    )
    place, renewals = call(elsewhere / "python", "-c", program, cwd=tmp_path).split()
    assert Path(place).is_relative_to(elsewhere.parent) and renewals == "1"
    assert "demo" in call(elsewhere / "regrow", "--help", cwd=tmp_path)
    assert call(elsewhere / "regrow", "--version", cwd=tmp_path) == f"regrow {regrow.__version__}\n"


def test_importing_the_library_loads_nothing_but_the_library() -> None:
    program = (
        "import json, sys, torch, numpy\n"
        "before = set(sys.modules)\n"
        "import regrow\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    roots = {name.split(".")[0] for name in loaded}
    assert "regrow.core.select" in loaded
    assert roots - set(sys.stdlib_module_names) <= {"regrow", "torch", "numpy"}
    assert not any(name.startswith(("regrow.lab", "regrow.report", "regrow.cli", "torch._dynamo")) for name in loaded)


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {regrow.__version__}\n" in (ROOT / "CITATION.cff").read_text()
