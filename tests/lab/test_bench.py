"""`regrow bench` counts the work that is done, measures it in pairs, and writes down every figure that it shows."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from regrow.commands.bench import WINDOWS, Bench, Comparison, Sgemm, like_mnist, nominal_flop, table
from regrow.lab.data.mnist import load_digits_images
from regrow.lab.nets import MLP
from regrow.lab.studies import SETTINGS

FIGURES = ("ms_per_network_update", "fraction_of_sgemm_peak", "sgemm_gflops", "members")


@pytest.mark.parametrize("hidden", [10, 100])
def test_the_nominal_work_is_that_of_one_update(hidden: int) -> None:
    net, x, y = MLP(hidden=hidden), torch.rand(30, 784), torch.randint(10, (30,))
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(x), y).backward()
    assert counter.get_total_flops() == nominal_flop(hidden)


def test_every_figure_of_a_quick_run_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("REGROW_DATA", raising=False)
    threads = torch.get_num_threads()
    Bench(json=tmp_path / "bench.json", quick=True).run()
    assert torch.get_num_threads() == threads
    rows = json.loads((tmp_path / "bench.json").read_text())
    machine = rows.pop("machine")
    assert set(rows) >= {*SETTINGS, *(f"large-{system}" for system in WINDOWS), "large-measured"}
    for row in rows.values():
        assert all(row[figure] > 0 for figure in FIGURES)
        low, middle, high = (row[f"ms_per_network_update{end}"] for end in ("_low", "", "_high"))
        assert low <= middle <= high
    assert set(machine) >= {"machine", "torch", "python", "regrow", "date", "load"}
    assert rows["large"]["sgemm_gflops"] == max(machine["sgemm_gflops_by_shape"].values())
    shown = capsys.readouterr().out
    assert all(key in shown for key in rows) and machine["torch"] in shown


def test_a_share_of_the_peak_is_that_of_the_same_round() -> None:
    line = Comparison("large", 8, own=lambda: 0.2)
    for turn in range(3):
        line.measure(turn)
    row = line.row([50.0, 100.0, 200.0])  # the machine doubles its speed at every round
    speed = 13.188e6 / 0.2e-3 / 1e9
    assert row["fraction_of_sgemm_peak"] == pytest.approx(speed / 100)
    assert row["fraction_of_sgemm_peak_high"] == pytest.approx((speed / 50 + speed / 100) / 2)
    assert row["sgemm_gflops"] == 100


def test_pairs_alternate_and_are_compared_within_themselves() -> None:
    done: list[str] = []

    def timed(name: str, ms: float) -> float:
        done.append(name)
        return ms * 2 ** (len(done) // 3)  # all become slower together

    line = Comparison("large", 8, own=lambda: timed("own", 3.0), beside=lambda: timed("beside", 2.0), every=2)
    for turn in range(5):
        line.measure(turn)
    assert done == ["own", "beside", "beside", "own", "own", "beside"]
    assert sorted(line.ms) == [0, 2, 4] and line.row([1.0] * 5)["rounds"] == 3
    assert line.ratios[0] == 1.5


def test_the_table_shows_ratios_where_there_are_any() -> None:
    row = {figure: 1.0 for name in FIGURES for figure in (name, f"{name}_low", f"{name}_high")}
    ratio = {"ratio": 1.3, "ratio_low": 1.2, "ratio_high": 1.4}
    shown = table({"large": row, "large-cbp": row | ratio, "large-l2": row | ratio})
    assert list(shown.columns[-1].cells) == ["", "1.300 ±0.100", "1.300 ±0.100"]


def test_the_best_product_is_the_peak() -> None:
    sgemm = Sgemm(members=2, hidden=10)
    for _ in range(3):
        sgemm.measure()
    assert len(sgemm.rates) == 5 and len(sgemm.peak) == 3
    assert sgemm.medians[sgemm.best] == max(sgemm.medians.values())


def test_digits_stand_in_for_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("REGROW_DATA", raising=False)
    images, digits = like_mnist(None, quick=False), load_digits_images()
    assert images.pixels.shape == (60_000, 784) and images.pixels.dtype == torch.uint8
    enlarged = images.pixels[-1].view(28, 28)
    small = digits.pixels[59_999 % 1797].view(8, 8)
    assert torch.equal(enlarged[2:26:3, 4:26:3], small) and enlarged.long().sum() == 9 * small.long().sum()
    assert images.labels[-1] == digits.labels[59_999 % 1797]


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="`--json` must name a file in a folder that exists; got .*make the folder"):
        Bench(json=tmp_path / "nowhere" / "bench.json").run()
    assert not capsys.readouterr().out
