"""The command line refuses what it does not know and lists the choices; an error is one line and an exit status."""

import sys
from pathlib import Path

import pytest

import regrow
from regrow import demo
from regrow.cli import main

Capture = pytest.CaptureFixture[str]


def test_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"regrow {regrow.__version__}\n"


def test_help_names_commands_and_options(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "demo" in said and "--version" in said
    assert main(["demo", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--out DIR" in said and "--data DIR" in said


@pytest.mark.parametrize(
    ("words", "choice"),
    [
        ([], "demo"),
        (["dmo"], "demo"),
        (["demo", "--foo", "3"], "options of regrow demo: --out, --data"),
        (["demo", "--uot", "x"], "--out DIR"),
        (["demo", "--out"], "options of regrow demo: --out, --data"),
        (["demo", "extra"], "options of regrow demo: --out, --data"),
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


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: demo.Demo) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.Demo, "run", interrupt)
    assert main(["demo"]) == 130
