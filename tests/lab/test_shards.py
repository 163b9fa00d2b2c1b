"""A run in parts: shards of one folder, and folders merged, give what one run gives."""

import shlex
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from run_folders import begin, says
from walks import plans, train_here

import regrow
from regrow.cli import main
from regrow.commands.run import Run, prepare
from regrow.lab.runs import digests
from regrow.lab.runs.merge import merge
from regrow.lab.runs.tables import read_table


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("REGROW_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_stack_is_of_one_shard(tmp_path: Path) -> None:
    def ids(shard: str | None) -> list[str]:
        return [plan.id for plan in prepare(Run("optimizers", seeds=3, out=tmp_path, shard=shard)).plans]

    parts = [ids(f"{i}/4") for i in (1, 2, 3, 4)]
    assert sorted(name for part in parts for name in part) == sorted(ids(None))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ("0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "²/4", f"1/{10**30}"):
        with pytest.raises(ValueError, match="`shard` must be i/n with 1 <= i <= n, such as 3/8"):
            ids(wrong)


def test_shards_fill_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "weights-vs-units", "--settings", "small", "--systems", "base", "--tasks", "1", "--seeds", "2"]
    words += ["--workers", "1", "--out", str(tmp_path / "out")]
    assert main([*words, "--shard", "2/2"]) == 0
    assert regrow.load(tmp_path / "out")["seed"].to_list() == [1]
    assert (
        main(["merge", str(tmp_path / "out"), "--out", str(tmp_path / "merged")]) == 0
    )  # and the rest is trained there
    said, _, rest = capsys.readouterr().out.partition(" To train them: regrow ")
    assert f"Merged 1 of 2 stacks into {tmp_path / 'merged'}." in said and main(shlex.split(rest)) == 0
    assert regrow.load(tmp_path / "merged")["seed"].to_list() == [0, 1]
    assert main([*words, "--shard", "1/2"]) == 0
    assert regrow.load(tmp_path / "out")["seed"].to_list() == [0, 1]
    assert main(words) == 0 and "nothing to do" in capsys.readouterr().out


def test_folders_are_merged(tmp_path: Path) -> None:
    for name, chosen, tasks in (("a", [0], 3), ("b", [1], 3), ("c", [0, 1], 2)):
        train_here(begin(tmp_path / name), [plans(2)[i] for i in chosen], tasks)
    train_here(begin(tmp_path / "whole"), plans(2), 3)
    assert merge([tmp_path / name for name in "abc"], tmp_path / "out") == (2, 2)
    assert_frame_equal(regrow.load(tmp_path / "out"), regrow.load(tmp_path / "whole"), check_exact=True)
    train_here(begin(tmp_path / "out", config={"tasks": 5}), plans(2), 5)  # and can be extended
    train_here(begin(tmp_path / "whole", config={"tasks": 5}), plans(2), 5)
    assert_frame_equal(regrow.load(tmp_path / "out"), regrow.load(tmp_path / "whole"), check_exact=True)


def test_what_does_not_belong_together_is_not_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, changes in (("a", {}), ("b", {}), ("c", {"config": {"measure_every": 1}})):
        train_here(begin(tmp_path / name, **changes), plans(2), 2)
    with pytest.raises(ValueError, match="was begun with `measure_every` 1; got 20"):
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "out")
    file = tmp_path / "b/results/small.seed1.0.parquet"
    file.write_bytes(digests.seal_table(read_table(file)[0].with_columns(pl.col("loss") + 1)))
    with pytest.raises(ValueError) as caught:
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert f"{file} holds other values" in says(caught) or "small.seed1.0.parquet holds other values" in says(caught)
    assert not (tmp_path / "out").exists()
    assert main(["merge", str(tmp_path / "a"), "--out", str(tmp_path / "a")]) == 1
    assert "holds a run already: choose another --out" in capsys.readouterr().err
