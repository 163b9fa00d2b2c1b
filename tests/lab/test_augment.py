"""Augmentation in batches is, image by image and pixel by pixel, what torchvision's documented operations make of it.

Shapes: B images.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from regrow.core import random
from regrow.lab.problems.augment import Moves, augment, moves, normalise

TINY = 1e-4  # every outcome below is fixed by its key: a p-value under this would be a defect, not bad luck
DRAWABLE = 15 / 2**24  # the step of the angles


def rotated(image: Tensor, degrees: float) -> Tensor:
    """torchvision's rotation of a tensor: the inverse map by affine_grid, the nearest pixel by grid_sample, else 0."""
    turn = math.radians(-degrees)  # the inverse of a turn against the clock, where the vertical axis points down
    inverse = [[math.cos(turn), math.sin(turn), 0.0], [-math.sin(turn), math.cos(turn), 0.0]]
    grid = F.affine_grid(torch.tensor([inverse], dtype=image.dtype), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, mode="nearest", padding_mode="zeros", align_corners=False)[0]


def twin(image: Tensor, flip: bool, top: int, left: int, degrees: float) -> Tensor:
    """One image (3, 32, 32), one move after the other."""
    if flip:
        image = image.flip(-1)
    image = F.pad(image[None], (4, 4, 4, 4), mode="reflect")[0, :, top : top + 32, left : left + 32]
    return rotated(image, degrees)


def one_by_one(images: Tensor, what: Moves) -> Tensor:
    listed = zip(*(part.tolist() for part in what))
    return torch.stack([twin(image, *how) for image, how in zip(images, listed, strict=True)])


def noise(count: int) -> Tensor:
    """Images in which no two pixels are alike, and none is 0."""
    return 1.0 + torch.rand(count, 3, 32, 32, dtype=torch.float64)


def drawn(count: int, *key: int | str) -> Moves:
    return moves(random.bits(random.key("test", *key), torch.arange(count)))


def listed(flip: bool, top: int, left: int, degrees: float) -> Moves:
    return Moves(torch.tensor([flip]), torch.tensor([top]), torch.tensor([left]), torch.tensor([degrees]).double())


# ---- the moves


def test_a_batch_equals_its_images_one_by_one() -> None:
    images, what = noise(500), drawn(500)
    got = augment(images, what)
    assert torch.equal(got, one_by_one(images, what))
    assert (got == 0).any() and not torch.equal(got, augment(images, what._replace(angle=what.angle * 0)))


@pytest.mark.parametrize("flip", [False, True])
def test_every_crop_and_the_ends_of_the_angles(flip: bool) -> None:
    image = noise(1)
    for top in range(9):
        for left in range(9):
            for degrees in (0.0, 15 - DRAWABLE):
                want = twin(image[0], flip, top, left, degrees)
                assert torch.equal(augment(image, listed(flip, top, left, degrees))[0], want)


def test_quarter_turns_against_the_clock() -> None:
    image = noise(1)
    for quarters in range(-2, 3):
        got = augment(image, listed(False, 4, 4, 90.0 * quarters))
        assert torch.equal(got, image.rot90(quarters, (-2, -1)))


def test_a_flip_comes_before_a_crop_and_a_crop_before_a_rotation() -> None:
    image = noise(1)
    flip, crop, turn = listed(True, 4, 4, 0.0), listed(False, 1, 7, 0.0), listed(False, 4, 4, 11.0)
    together = augment(image, listed(True, 1, 7, 11.0))
    assert torch.equal(together, augment(augment(augment(image, flip), crop), turn))
    assert not torch.equal(together, augment(augment(augment(image, crop), flip), turn))
    assert not torch.equal(together, augment(augment(augment(image, flip), turn), crop))


def test_no_drawable_angle_comes_near_a_tie() -> None:
    """A point at (x, y) from the centre is looked up at x cos - y sin, a tie where that is whole: solved for the angle,
    then measured at the drawable angles next to each solution. Rows are the same points, a quarter turn on."""
    along = np.arange(32) - 15.5
    x, y = (side.ravel()[:, None] for side in np.meshgrid(along, along))
    with np.errstate(invalid="ignore"):  # places beyond the radius are never reached
        swing = np.arccos(np.arange(-22, 23) / np.hypot(x, y))
    ties = np.degrees(np.stack([swing, -swing]) - np.arctan2(y, x)) % 360
    ties = ties[ties < 15]
    steps = np.unique(np.floor(ties / DRAWABLE)[:, None] + [-1, 0, 1, 2]).clip(0, 2**24 - 1)
    turns = np.radians(steps * DRAWABLE)
    places = np.cos(turns) * x - np.sin(turns) * y
    distance = np.abs(places - np.round(places)).min()
    assert len(ties) > 2000 and 4e-11 < distance < 6e-11


def test_single_precision_differs_only_next_to_a_tie() -> None:
    """As torchvision computes, in float32, a point looked up within 1e-5 pixels of a tie may go to either side."""
    images, what = noise(500), drawn(500, "single")
    exact = augment(images, what).float()
    single = one_by_one(images.float(), what)
    image, row, column = (exact != single).any(1).nonzero().unbind(1)
    assert len(image) <= 20  # of 512,000 pixels
    turn = torch.deg2rad(what.angle[image])
    x, y = column - 15.5, row - 15.5
    places = torch.stack([x * turn.cos() - y * turn.sin(), y * turn.cos() + x * turn.sin()])
    assert ((places - places.round()).abs().amin(0) < 1e-5).all()


def test_any_leading_shape_and_type() -> None:
    images, what = noise(12), drawn(12)
    want = augment(images, what)
    shaped = augment(images.view(3, 4, 3, 32, 32), Moves(*(part.view(3, 4) for part in what)))
    assert torch.equal(shaped.view_as(want), want)
    assert torch.equal(augment(images.bfloat16(), what), want.bfloat16())
    assert torch.equal(augment(images[5], Moves(*(part[5] for part in what))), want[5])
    assert augment(images[:0], drawn(0)).shape == (0, 3, 32, 32)


def test_the_images_stay_as_they_are() -> None:
    images, what = noise(3), drawn(3)
    before, moved = images.clone(), Moves(*(part.clone() for part in what))
    augment(images, what)
    assert torch.equal(images, before) and all(map(torch.equal, what, moved))


# ---- normalisation


def test_every_value_of_every_channel_is_normalised_as_torchvision_does() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(12).view(1, 3, 32, 32)
    mean, std = torch.tensor([[0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]]).view(2, 3, 1, 1)
    want = pixels.float().div(255).sub(mean).div(std)
    assert torch.equal(normalise(pixels), want) and normalise(pixels).dtype == torch.float32
    assert torch.equal(normalise(pixels[0]), want[0])
    assert pixels[0, 0, 0, 5] == 5


# ---- the draws


def test_words_become_moves_bit_by_bit() -> None:
    """Frozen: the results of every run rest on these."""
    least, most = moves(torch.tensor([0, -1])), 15 - DRAWABLE
    assert least.flip.tolist() == [False, True] and least.angle.tolist() == [0.0, most]
    assert least.top.tolist() == least.left.tolist() == [0, 8]
    assert moves(torch.tensor(1 << 39)).flip and moves(torch.tensor(1 << 40)).angle == DRAWABLE
    flip, top, left, angle = (part.tolist() for part in drawn(3, "frozen"))
    assert (flip, top, left) == ([True, False, True], [3, 6, 6], [0, 7, 4])
    assert [degrees / DRAWABLE for degrees in angle] == [15127442, 7409739, 13878211]


def test_moves_follow_their_law_and_each_other_in_nothing() -> None:
    count = 200_000
    flip, top, left, angle = (part.numpy() for part in drawn(count, "law"))
    cells = np.bincount(flip * 81 + top * 9 + left, minlength=162)
    assert len(cells) == 162 and stats.chisquare(cells).pvalue > TINY
    assert stats.kstest(angle / 15, "uniform").pvalue > TINY and 0 <= angle.min() and angle.max() < 15
    table = np.histogram2d(flip * 81 + top * 9 + left, angle, (162, 12))[0]
    assert stats.chi2_contingency(table).pvalue > TINY


# ---- compilers and devices


def pipeline(pixels: Tensor, words: Tensor) -> Tensor:
    return augment(normalise(pixels), moves(words))


def batch(count: int = 90) -> tuple[Tensor, Tensor]:
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    return pixels, random.bits(random.key("test", "batch"), torch.arange(count))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # inductor's own
@pytest.mark.slow
def test_the_same_bits_under_a_compiler_that_fuses() -> None:
    torch.compiler.reset()
    pixels, words = batch()
    compiled = torch.compile(pipeline, fullgraph=True, backend="inductor")
    assert torch.equal(compiled(pixels, words), pipeline(pixels, words))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_pixels_on_cuda_and_in_a_graph() -> None:
    pixels, words = batch()
    images, device = noise(90), torch.device("cuda")
    on_device = augment(images.to(device), moves(words.to(device)))
    assert torch.equal(on_device.cpu(), augment(images, moves(words)))
    static = pixels.to(device), words.to(device)
    want = pipeline(*static)
    assert torch.allclose(want.cpu(), pipeline(pixels, words), rtol=0, atol=1e-6)  # its division is a product
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = pipeline(*static)
    static[1].zero_()
    graph.replay()
    assert torch.equal(got, pipeline(static[0], torch.zeros_like(static[1])))
    static[1].copy_(words)
    graph.replay()
    assert torch.equal(got, want)


# ---- what it is timed against


@pytest.fixture
def opponent(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    folder = Path(__file__).parents[2] / "benchmarks"
    if not folder.is_dir():
        pytest.skip("the benchmarks are part of the repository only")
    monkeypatch.syspath_prepend(str(folder))
    import augment as module  # type: ignore[import-not-found]

    yield module


def test_the_loop_that_it_is_timed_against_does_the_same(opponent: ModuleType) -> None:
    pixels, words = batch()
    got = torch.stack([opponent.one_image(image, *how) for image, how in zip(pixels, zip(*moves(words)))])
    assert ((got != pipeline(pixels, words)).any(1).sum()) <= 5  # next to a tie
