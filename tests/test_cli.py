"""The command line refuses what it does not know and lists the choices; an error is one line and an exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

import regrow
from regrow.cli import _COMMANDS, main
from regrow.commands import demo
from regrow.lab.studies import STUDIES

Capture = pytest.CaptureFixture[str]


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"regrow {regrow.__version__}\n"


def test_as_a_module() -> None:
    for words, status in ((["--version"], 0), (["dmo"], 2)):
        done = subprocess.run([sys.executable, "-m", "regrow", *words], capture_output=True, text=True)
        assert done.returncode == status
        assert (done.stdout == f"regrow {regrow.__version__}\n") == (status == 0)


def test_help_names_commands_and_options(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "--version" in said and all(name in said for name in ("demo", "studies", "run", "status", "data"))
    assert main(["demo", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--out DIR" in said and "--data DIR" in said
    assert main(["run", "--help"]) == 0
    said = capsys.readouterr().out
    options = "settings systems tasks seeds data out device workers engine sweep from measure-every ln-position quiet"
    assert "STUDY" in said and all(f"--{option}" in said for option in options.split())
    assert all(study in said for study in STUDIES)


def test_a_reader_that_leaves_early_ends_a_command_without_a_traceback() -> None:
    command = [sys.executable, "-m", "regrow", "run", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None and shown.stderr is not None
        shown.stdout.close()
        assert shown.stderr.read() == "regrow: stopped, for nothing reads its output any more\n"
    assert shown.returncode == 128 + 13


@pytest.mark.parametrize(
    ("words", "choice"),
    [
        ([], "demo"),
        (["dmo"], "demo"),
        (["demo", "--foo", "3"], "arguments of regrow demo: --out, --data"),
        (["demo", "--uot", "x"], "--out DIR"),
        (["demo", "--out"], "arguments of regrow demo: --out, --data"),
        (["demo", "extra"], "arguments of regrow demo: --out, --data"),
        (["run"], "arguments of regrow run: STUDY, --settings, --systems, --tasks,"),
        (["run", "optimizers", "--foo", "3"], "arguments of regrow run: STUDY, --settings, --systems, --tasks,"),
        (["run", "optimizers", "--device", "gpu"], "'auto'"),
        (["run", "optimizers", "--engine", "dask"], "'ray'"),
        (["run", "optimizers", "--tasks", "many"], "--tasks INT"),
        (["status"], "arguments of regrow status: DIR"),
    ],
)
def test_unknown_words_are_refused_with_the_choices(words: list[str], choice: str, capsys: Capture) -> None:
    assert main(words) == 2
    assert choice in capsys.readouterr().err


def test_a_file_that_is_missing_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    assert main(["demo", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("regrow: ") and said.count("\n") == 1
    assert "train-images-idx3-ubyte.gz is missing" in said and "--data" in said


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("regrow: ") and said.count("\n") == 1 and "file" in said


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "regrow: the commands need packages that are not installed (tyro): pip install 'regrow[lab]'\n"
    )
    assert main(["--version"]) == 0


def test_a_command_loads_what_it_needs_alone() -> None:
    """Loading all commands takes seconds."""
    code = "import sys; from regrow.cli import main; main(['status', 'x']); assert 'matplotlib' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "x is no folder" in done.stderr, done.stderr


def test_studies_tells_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("regrow.commands.studies._SECONDS", 0.1)
    monkeypatch.delenv("REGROW_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["studies", "--tasks", "100", "--seeds", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("100 tasks of digits for 2 seeds; time with ")
    for what in (
        "weights-vs-units: Is it better", "settings large large-ln small small-ln", "base l2 shrink-perturb cbp",
        "as chosen 48 networks, 1.1 million network-updates, about ", "--sweep 874 networks",
    ):  # fmt: skip
        assert what in said, what


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: demo.Demo) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.Demo, "run", interrupt)
    assert main(["demo"]) == 130


LOADING = """
import sys

class Stop:
    def find_spec(self, name, *_):
        if name == "torch":
            raise KeyboardInterrupt

sys.argv = [sys.argv[1]]
sys.meta_path.insert(0, Stop())
import regrow
"""


@pytest.mark.parametrize(("command", "quiet"), [("/usr/bin/regrow", True), ("-m", True), ("notebook.py", False)])
def test_ctrl_c_while_it_loads(command: str, quiet: bool) -> None:
    """Loading torch takes seconds; a program that uses the library gets its KeyboardInterrupt."""
    done = subprocess.run([sys.executable, "-c", LOADING, command], capture_output=True, text=True)
    assert (done.stderr == "") == quiet and (done.returncode == 130) == quiet
    assert quiet or "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_help_reads_well(command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """No Python in it, and no line that breaks before its end."""
    monkeypatch.setenv("COLUMNS", "1000")
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    for word in ("None", "True", "False", "(default: inf)", "(default: 0.0)", "vit options"):
        assert word not in said
    lines = [line[2:].rstrip("│ ") for line in said.splitlines() if line.startswith(("│", " ")) and line.strip("│ ")]
    for before, line in zip(lines, lines[1:], strict=False):
        assert not line.startswith("   ") or "  " not in before.strip(), f"{before!r} is followed by {line!r}"
        assert not (line.startswith("   ") and before.startswith("   ")), f"{before!r} is broken before {line!r}"
    assert any(line.startswith("-h, --help") for line in lines)
