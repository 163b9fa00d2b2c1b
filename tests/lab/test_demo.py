"""The demo compares like with like, trains what it says it trains, and can come out negative."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from PIL import Image

import regrow
from regrow.commands import demo
from regrow.lab.mlp.trainer import Trainer
from regrow.report.stats import estimate
from regrow.report.style import SYSTEMS

ROOT = Path(__file__).resolve().parents[2]


def test_every_seed_is_one_stack_of_all_systems() -> None:
    """The same seed is the same start and the same stream for every system: they differ in their knobs alone."""
    stacks = demo.DIGITS.stacks()
    assert [stack.seed for stack in stacks] == list(range(demo.DIGITS.seeds))
    for stack in stacks:
        assert [member.system for member in stack.members] == list(demo.DIGITS.configs())
    trainer = demo.DemoMaker(None)(stacks[0])
    assert isinstance(trainer, Trainer)
    for w in trainer.net.parameters.values():
        assert all(w[0].equal(other) for other in w)


def test_what_is_stored_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], quick: None) -> None:
    demo.Demo(out=tmp_path).run()
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    first = capsys.readouterr().out
    demo.Demo(out=tmp_path).run()
    again = capsys.readouterr().out
    assert stored and stored == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert first[first.index("Verdict") :] == again[again.index("Verdict") :]


def constructed(base: float, swr: float) -> dict[str, np.ndarray]:
    """60 tasks of 5 seeds, from 0.8 on average, with a change in the middle."""
    rng = np.random.default_rng(0)
    step = np.repeat([0, 1], 30)
    return {
        s: 0.8 + change * step + 0.01 * rng.standard_normal((5, 60)) for s, change in (("base", base), ("swr", swr))
    }


@pytest.mark.parametrize(
    ("base", "swr", "says"),
    [
        (-0.1, 0.02, ["SWR keeps the network able to learn", "base changed by -10.", "SWR by +", "points above base"]),
        (-0.1, -0.002, ["SWR keeps the network able to learn"]),  # less than a point
        (0.0, 0.02, ["does not show that the base system loses accuracy (change "]),
        (-0.1, -0.05, ["does not show that SWR loses less than 1 point (change -"]),
        (-0.1, -0.2, ["does not show that SWR loses less", ", nor that SWR ends above base (difference -1"]),
        (0.05, 0.0, ["does not show that the base system loses", ", nor that SWR ends above base (difference -"]),
    ],
)
def test_the_verdict_follows_the_numbers(base: float, swr: float, says: list[str]) -> None:
    verdict = demo.verdict(constructed(base, swr), 30)
    assert all(text in verdict for text in says), verdict
    assert ("keeps the network able" in verdict) != ("does not show" in verdict)


def test_one_lucky_seed_is_no_verdict() -> None:
    """A large mean with a large spread over the seeds does not count."""
    accuracy = constructed(-0.1, 0.02)
    accuracy["base"][:, 30:] = 0.8
    accuracy["base"][0, 30:] = 0.3
    assert "does not show that the base system loses accuracy" in demo.verdict(accuracy, 30)


def test_the_interval_covers_the_mean_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    covered = [low <= 2.0 <= high for _, _, low, high in (estimate(rng.normal(2, 3, 5)) for _ in range(2000))]
    assert 0.935 < np.mean(covered) < 0.965  # 3 standard errors about 0.95
    with pytest.raises(ValueError, match="at least two seeds"):
        estimate(np.ones(1))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = demo.Plan(tasks=4, noise_variance=1e-5, seeds=2, span=2)
    monkeypatch.setattr(demo, "DIGITS", plan)
    monkeypatch.setattr(demo, "MNIST", plan)


@pytest.mark.usefixtures("quick")
def test_a_run_prints_table_and_verdict_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    demo.Demo(out=out).run()
    said = capsys.readouterr().out
    for text in ("demo.seed0: 4 tasks in ", "first 2 tasks", "│ S&P", "│ SWR", "SWR renewed ", "Verdict: "):
        assert text in said
    assert len(regrow.load(out)) == 6 * 2 * 4
    picture = out / "accuracy.png"
    assert str(picture) in said
    drawn = imread(picture)[..., :3]
    assert drawn.shape[0] > 400 and drawn.shape[1] > 800
    for system in demo.DIGITS.configs():
        assert np.isclose(drawn, to_rgb(SYSTEMS[system].colour), atol=2 / 255).all(-1).any(), system


@pytest.mark.usefixtures("quick")
def test_a_run_on_mnist(real_mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.Demo(out=tmp_path, data=real_mnist).run()
    said = " ".join(capsys.readouterr().out.split())
    assert "1,792 of 60,000 MNIST images" in said and "Verdict: " in said
    assert (tmp_path / "accuracy.png").stat().st_size > 0


def test_a_folder_of_other_data_is_refused(
    real_mnist: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.Demo(out=tmp_path).run()
    with pytest.raises(ValueError, match='was begun with `data` "digits"; got "mnist": give'):
        demo.Demo(out=tmp_path, data=real_mnist).run()


def test_the_picture_of_the_docs_is_what_the_command_draws_now() -> None:
    """Drawn by `regrow demo` with today's values and today's arithmetic."""
    with Image.open(ROOT / "docs" / "demo.png") as picture:
        assert picture.info["Description"] == demo.made_by(demo.DIGITS, "digits"), "copy regrow-demo/accuracy.png"


@pytest.mark.slow
def test_the_whole_demo_shows_the_loss_and_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.Demo(out=tmp_path).run()
    assert "SWR keeps the network able to learn" in " ".join(capsys.readouterr().out.split())
