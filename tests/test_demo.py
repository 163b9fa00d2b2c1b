"""The demo compares like with like, trains what it says it trains, and can come out negative."""

import copy
import functools
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from rich.console import Console
from torch import nn
from torch.nn import functional as F

import regrow
from regrow import demo
from regrow.lab.nets import MLP
from regrow.lab.problems.data import Images, load_digits_images
from regrow.lab.problems.permuted import PermutedStreams
from regrow.lab.side_by_side import SideBySide
from regrow.report.stats import estimate
from regrow.report.style import SYSTEMS


def networks(seeds: int = 2) -> list[MLP]:
    return [MLP(hidden=6, inputs=64, generator=torch.Generator().manual_seed(s)) for s in range(seeds)]


def streams(seeds: range = range(2), updates: int = 112) -> PermutedStreams:
    generators = [torch.Generator().manual_seed(100 + s) for s in seeds]
    result = PermutedStreams(load_digits_images(), generators, batch=16, updates=updates)
    result.next_task()
    return result


def test_side_by_side_trains_as_each_network_alone() -> None:
    """Forward, gradients, optimizer and maintainers: the stack is each network on its own, up to rounding."""
    start = networks()
    shrink = functools.partial(regrow.ShrinkPerturb, shrink=0.01)
    renew = functools.partial(regrow.SWR, every=3, factor=0.3, seed=7)

    nets = SideBySide({"l2": copy.deepcopy(start), "swr": copy.deepcopy(start)}, apart=["swr"])
    optimizer = torch.optim.SGD(nets.parameters(), lr=0.05, fused=True)
    shrink(nets["l2"]).attach(optimizer)
    swr = renew(nets["swr"]).attach(optimizer)

    alone = nn.ModuleDict({"l2": nn.ModuleList(copy.deepcopy(start)), "swr": nn.ModuleList(copy.deepcopy(start))})
    plain = torch.optim.SGD(alone.parameters(), lr=0.05)
    shrink(alone["l2"]).attach(plain)
    renew(alone["swr"]).attach(plain)

    for x, y in zip(*streams(updates=10).one_pass(), strict=True):
        nets.zero_grad()
        (F.cross_entropy(nets(x.repeat(2, 1, 1)), y.repeat(2, 1), reduction="sum") / 16).backward()
        optimizer.step()
        plain.zero_grad()
        sum(F.cross_entropy(net(x[s].T), y[s]) for group in alone.values() for s, net in enumerate(group)).backward()
        plain.step()

    assert swr.report()["renewals"] == 3
    for layer in ("fc1", "fc2", "fc3", "out"):
        for kind in ("weight", "bias"):
            for s in range(2):
                single = {name: getattr(getattr(alone[name][s], layer), kind) for name in ("l2", "swr")}
                torch.testing.assert_close(nets["l2"][f"{layer}_{kind}"][s], single["l2"])
                torch.testing.assert_close(getattr(getattr(nets["swr"][s], layer), kind), single["swr"])


def test_side_by_side_keeps_its_gradients_in_place() -> None:
    nets = SideBySide({"a": networks()})
    with pytest.raises(ValueError, match="`set_to_none` must be False here"):
        nets.zero_grad(set_to_none=True)


def test_a_pass_shows_every_image_once_under_the_permutation_of_the_task() -> None:
    """Sums over an image do not depend on the permutation, so they tell which images a pass showed."""
    pixels = torch.rand(48, 9).mul(255).to(torch.uint8)
    images = Images(pixels, torch.arange(48), white=255)
    stream = PermutedStreams(images, [torch.Generator().manual_seed(0)], batch=8, updates=6)
    stream.next_task()
    (x1, y1), (x2, y2) = stream.one_pass(), stream.one_pass()
    stream.next_task()
    x3, y3 = stream.one_pass()

    def by_image(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        flat = x.squeeze(1).mT.reshape(48, 9)  # (U, 1, P, B) -> (images in order shown, P)
        return flat[y.flatten().argsort()]

    first, second, third = by_image(x1, y1), by_image(x2, y2), by_image(x3, y3)
    assert y1.flatten().sort().values.equal(torch.arange(48)) and not y1.equal(y2)
    assert first.equal(second) and not first.equal(third)
    columns = {tuple(column.tolist()) for column in (pixels.float() / 255).T}
    assert {tuple(column.tolist()) for column in first.T} == columns == {tuple(c.tolist()) for c in third.T}


def test_a_stream_depends_on_its_own_seed_alone() -> None:
    together, alone = streams(range(3)), streams(range(1, 2))
    for _ in range(2):
        x, y = together.one_pass()
        x1, y1 = alone.one_pass()
        assert x[:, 1:2].equal(x1) and y[:, 1:2].equal(y1)
        assert not x[:, 0].equal(x[:, 1])
        together.next_task()
        alone.next_task()


def test_a_pass_larger_than_the_set_is_refused() -> None:
    with pytest.raises(ValueError, match="a pass of 113 batches of 16 needs more than 1797 images"):
        streams(updates=113)


def test_equal_systems_get_equal_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed is the same start and the same stream for every system, trained beside others or not."""
    maintainers = {"base": None, "l2": None, "swr": lambda net, plan: regrow.SWR(net, every=1, factor=0.0)}
    monkeypatch.setattr(demo, "MAINTAINERS", maintainers)
    plan = demo.Plan(tasks=2, noise_variance=0.0, updates=20, seeds=3)
    accuracy, _ = demo.train(None, plan, ["base", "l2", "swr"])
    assert (accuracy["base"] == accuracy["swr"]).all() and (accuracy["base"] == accuracy["l2"]).all()
    assert len({values.tobytes() for values in accuracy["base"]}) == 3
    alone, _ = demo.train(None, plan, ["l2"])
    assert alone["l2"] == pytest.approx(accuracy["l2"], abs=0.01)  # up to rounding, which may turn an answer


def test_online_accuracy_is_measured_before_the_update() -> None:
    """One batch in all: the accuracy is that of the untrained network."""
    plan = demo.Plan(tasks=1, noise_variance=0.0, passes=1, updates=1, batch=500, seeds=2)
    accuracy, _ = demo.train(None, plan, ["swr"])
    generator = torch.Generator().manual_seed(1)
    net = MLP(hidden=plan.hidden, inputs=64, generator=generator)
    stream = PermutedStreams(load_digits_images(), [generator], batch=500, updates=1)
    stream.next_task()
    x, y = stream.one_pass()
    expected = (net(x[0, 0].T).argmax(1) == y[0, 0]).float().mean()
    assert accuracy["swr"][1, 0] == pytest.approx(float(expected))


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
    plan = demo.Plan(tasks=4, noise_variance=1e-5, updates=8, seeds=2, span=2)
    monkeypatch.setattr(demo, "DIGITS", plan)
    monkeypatch.setattr(demo, "MNIST", plan)


@pytest.mark.usefixtures("quick")
def test_a_run_prints_table_and_verdict_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.Demo(out=tmp_path / "new" / "folder").run()
    said = capsys.readouterr().out
    for text in ("task   4 of 4: base", "first 2 tasks", "│ S&P", "│ SWR", "SWR renewed 0 times", "Verdict: "):
        assert text in said
    picture = tmp_path / "new" / "folder" / "accuracy.png"
    assert str(picture) in said
    drawn = imread(picture)[..., :3]
    assert drawn.shape[0] > 400 and drawn.shape[1] > 800
    for system in demo.MAINTAINERS:
        assert np.isclose(drawn, to_rgb(SYSTEMS[system].colour), atol=2 / 255).all(-1).any(), system


@pytest.mark.usefixtures("quick")
def test_a_run_on_mnist(real_mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.Demo(out=tmp_path, data=real_mnist).run()
    said = " ".join(capsys.readouterr().out.split())
    assert "128 of 60,000 MNIST images" in said and "Verdict: " in said
    assert (tmp_path / "accuracy.png").stat().st_size > 0


def test_progress_on_a_terminal_is_a_bar() -> None:
    console = Console(force_terminal=True, record=True, width=100, file=io.StringIO())
    with demo.following(console, demo.Plan(tasks=2, noise_variance=0.0)) as follow:
        follow(1, {"swr": np.full((2, 1), 0.5)})
        follow(2, {"swr": np.full((2, 2), 0.75)})
    assert "SWR 75.0%" in console.export_text() and "100%" in console.file.getvalue()


@pytest.mark.slow
def test_the_whole_demo_shows_the_loss_and_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.Demo(out=tmp_path).run()
    assert "SWR keeps the network able to learn" in " ".join(capsys.readouterr().out.split())
