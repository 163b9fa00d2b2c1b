"""Draws follow their law, tails included, and are exact arithmetic: the same bits under any compiler, on any device.

Claimed of the normal table, against scipy's quantile function: within 6e-8 |x| (a rounding to float32) where a cell
starts, within 1.2e-6 max(|x|, 1) anywhere (measured 9.9e-7, at the far end of the cells about one sd out).
"""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor

from regrow.core import draw, random
from regrow.core.draw import table

CELLS = FRACTIONS = 1 << 14
AT_STARTS, ANYWHERE = 6e-8, 1.2e-6
TINY = 1e-4  # every outcome below is fixed by its key: a p-value under this would be a defect, not bad luck
EXTREME = [0, 1, -1, 2, -2, 2**24 + 1, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63)]


def words(n: int, *parts: int | str) -> Tensor:
    return random.bits(random.key("test_draw", *parts), torch.arange(n))


def normal(at: Tensor) -> Tensor:
    return draw.from_table(random.bits(random.key("test_draw", "normal"), at), draw.normal_table())


def true_normal(x: np.ndarray) -> np.ndarray:
    """What the signed 32-bit numbers x stand for: |x| / 2**32 is the probability beyond the point."""
    low = special.ndtri(np.maximum(np.abs(x.astype(np.float64)), 1) / 2**32)
    return np.where(x < 0, low, -low)


def cells(table: Tensor) -> tuple[np.ndarray, ...]:
    """(probability beyond, probability of the cell, start, rise) of each cell in use, (2, 31 * 512 + 1), upper first.

    Cell 512 e + m of |x| begins at 2**e (1 + m / 512); e is stored as the low 5 bits of a float32's exponent.
    """
    e, m = np.divmod(np.arange(31 * 512 + 1), 512)
    place = (127 + e) % 32 * 512 + m
    start, rise = (half.double().numpy()[np.stack([place, place + CELLS])] for half in table)
    beyond, width = (np.ldexp(x, e - 32) for x in (1 + m / 512, np.full(len(m), 1 / 512)))
    width[-1] = 0  # |x| = 2**31, the median itself, is a cell of one number
    return np.stack([beyond, beyond]), np.stack([width, width]), start, rise


# ---- the table


def test_cells_of_the_normal_table_start_on_the_quantile_function():
    beyond, _, start, _ = cells(draw.normal_table())
    true = special.ndtri(beyond) * np.array([[-1], [1]])
    assert (np.abs(start - true) <= AT_STARTS * np.abs(true)).all()


@pytest.mark.parametrize("fraction", [1, FRACTIONS // 4, FRACTIONS // 2, FRACTIONS - 1])
def test_cells_of_the_normal_table_follow_the_quantile_function(fraction):
    beyond, width, start, rise = cells(draw.normal_table())
    true = special.ndtri(beyond + width * fraction / FRACTIONS) * np.array([[-1], [1]])
    assert (np.abs(start + rise * fraction - true) <= ANYWHERE * np.maximum(np.abs(true), 1)).all()


def test_moments_of_the_normal_table_are_exact():
    _, width, start, rise = cells(draw.normal_table())
    assert width.sum() == pytest.approx(1, abs=1e-9)
    nodes, weights = np.polynomial.legendre.leggauss(4)  # exact for the polynomials of degree 7 or less within a cell
    x = start[..., None] + rise[..., None] * FRACTIONS * (nodes + 1) / 2
    moments = [float((width[..., None] * weights / 2 * x**power).sum()) for power in range(1, 7)]
    assert moments == pytest.approx([0, 1, 0, 3, 0, 15], rel=2e-6, abs=1e-9)


def test_the_product_is_exact_so_a_fused_multiply_add_changes_nothing():
    rise = draw.normal_table()[1][:, None]
    some = torch.from_numpy(np.random.default_rng(0).integers(0, FRACTIONS, (2 * CELLS, 30)))
    fraction = torch.cat([torch.tensor([[0, FRACTIONS - 1]]).expand(2 * CELLS, 2), some], 1)
    assert torch.equal((rise * fraction.float()).double(), rise.double() * fraction.double())
    finer = rise * (1 + 2**-12)  # the control: with two more digits it would not be exact
    assert not torch.equal((finer * fraction.float()).double(), finer.double() * fraction.double())


def test_the_table_has_the_same_bits_from_another_library():
    def tail(q: Tensor, upper: bool) -> Tensor:
        x = torch.from_numpy(special.ndtri(q.numpy()))
        return -x if upper else x

    assert torch.equal(draw.quantile_table(tail), draw.normal_table())


def test_the_table_never_changes():
    digest = hashlib.sha256(draw.normal_table().numpy().tobytes()).hexdigest()
    assert digest == "82000e5677302544e4d32926ca30b656e607b02b7b8964350a908c32751ceab8"


def test_tables_are_built_once():
    built = []

    class Once:
        def _name(self) -> tuple:
            return ("test_draw once",)

        def _make(self) -> Tensor:
            built.append(True)
            return draw.quantile_table(lambda q, upper: 1 - q if upper else q)

    made = [table(Once(), torch.device("cpu")) for _ in range(3)]
    assert len(built) == 1 and all(t is made[0] for t in made)


def test_the_table_is_built_on_the_cpu_whatever_the_default_device(monkeypatch):
    want = draw.normal_table()
    monkeypatch.setattr(draw, "_tables", draw._Tables())
    with torch.device("meta"):
        assert torch.equal(draw.normal_table(), want)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # inductor's own
@pytest.mark.skipif(torch.__version__ < (2, 7), reason="the compiler of torch 2.6 takes no object as a constant")
def test_the_table_may_be_asked_for_first_inside_a_compiled_function(monkeypatch):
    want = draw.normal_table()
    monkeypatch.setattr(draw, "_tables", draw._Tables())
    torch.compiler.reset()
    compiled = torch.compile(lambda w: draw.from_table(w, draw.normal_table()), fullgraph=True)
    assert torch.equal(compiled(words(100)), draw.from_table(words(100), want))
    assert torch.equal(draw.normal_table(), want)


# ---- normal draws


def test_every_word_becomes_its_quantile():
    for w in (words(1_000_000, "quantile"), torch.tensor(EXTREME)):
        true = true_normal(w.int().numpy())
        got = draw.from_table(w, draw.normal_table()).numpy()
        assert got.dtype == np.float32
        # |x| is rounded to float32 first, which the bound of the table has room for; 0 is read as 2 (both 2**-31).
        assert (np.abs(got - true)[w.int() != 0] <= ANYWHERE * np.maximum(np.abs(true), 1)[w.int() != 0]).all()


def test_the_ends_are_finite_and_mirror_each_other():
    x = torch.tensor([1, 2, 3, 511, 2**16, 2**30 + 77, 2**31 - 1])
    upper, lower = draw.from_table(x, draw.normal_table()), draw.from_table(-x, draw.normal_table())
    assert torch.equal(upper, -lower)
    assert upper[0] == pytest.approx(-special.ndtri(2**-32))  # nothing lies further out
    assert draw.from_table(torch.tensor([0, -(2**31)]), draw.normal_table()).tolist() == [upper[1], 0.0]
    assert (draw.normal_table()[0].abs() <= upper[0]).all()


def test_only_the_low_32_bits_count():
    w = words(10_000)
    assert torch.equal(draw.from_table(w & 0xFFFFFFFF, draw.normal_table()), draw.from_table(w, draw.normal_table()))


def test_normal_draws_are_normal():
    assert stats.kstest(normal(torch.arange(1_000_000)).numpy(), "norm").pvalue > TINY


def test_normal_draws_have_the_moments_and_tails_of_the_law():
    n, size = 5_000_000, 250_000
    bounds = np.array([2, 3, 4, 5])
    sums, above, below = np.zeros(4), np.zeros(4, int), np.zeros(4, int)
    for start in range(0, n, size):
        x = normal(torch.arange(start, start + size)).double().numpy()
        sums += [(x**power).sum() for power in range(1, 5)]
        above += (x[:, None] > bounds).sum(0)
        below += (x[:, None] < -bounds).sum(0)
    z = (sums / n - [0, 1, 0, 3]) / np.sqrt(np.array([1, 2, 15, 96]) / n)
    assert np.abs(z).max() < 4
    for counts in (above, below):
        for count, bound in zip(counts, bounds, strict=True):
            assert stats.binomtest(int(count), n, stats.norm.sf(bound)).pvalue > TINY


# ---- other laws


def test_a_lopsided_law():
    def tail(q: Tensor, upper: bool) -> Tensor:
        return torch.from_numpy((stats.expon.isf if upper else stats.expon.ppf)(q.numpy()))

    x = draw.from_table(words(300_000, "exponential"), draw.quantile_table(tail)).numpy()
    assert stats.kstest(x, "expon").pvalue > TINY
    assert x.min() > 0
    assert x.max() < 32 * np.log(2) + 1e-5


def test_a_bounded_law_stays_within_its_bounds():
    law = stats.truncnorm(-2, 2)
    table = draw.quantile_table(lambda q, upper: torch.from_numpy((law.isf if upper else law.ppf)(q.numpy())))
    _, _, start, rise = cells(table)
    for fraction in (0, FRACTIONS - 1):
        assert (np.abs(start + rise * fraction) <= 2).all()
    assert stats.kstest(draw.from_table(words(300_000, "truncated"), table).numpy(), law.cdf).pvalue > TINY


@pytest.mark.parametrize("bound", [1.0, 0.0625, 0.1, 7.3])
def test_symmetric_uniform_is_uniform(bound):
    x = draw.symmetric_uniform(words(500_000, "uniform"), bound)
    assert x.dtype == torch.float32
    assert stats.kstest(x.numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > TINY


def test_symmetric_uniform_is_every_odd_multiple_and_nothing_else():
    steps = draw.symmetric_uniform(words(100_000, "uniform"), 2.0**24).long()
    assert (steps % 2 == 1).all()
    assert draw.symmetric_uniform(torch.tensor([-(2**63), -1, 0, 2**63 - 1]), 2.0**24).tolist() == [
        1 - 2**24,
        -1,
        1,
        2**24 - 1,
    ]


@given(bound=st.floats(1e-20, 1e20))
@settings(deadline=None, max_examples=100)
def test_symmetric_uniform_never_reaches_its_bound(bound):
    ends = draw.symmetric_uniform(torch.tensor([-(2**63), 2**63 - 1]), bound)
    assert -bound < float(ends[0]) == -float(ends[1])
    assert float(ends[1]) == pytest.approx(bound, rel=3e-7)


# ---- the same bits whichever way they are asked for


def draws(key: Tensor, at: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    w = random.bits(key, at)
    return draw.from_table(w, table), draw.symmetric_uniform(w, 0.3)


def same(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


KEYS, AT = random.key(0, torch.arange(4)), torch.arange(20_003)


def test_any_shape_gives_the_same_numbers():
    x = normal(torch.arange(24))
    assert torch.equal(normal(torch.arange(24).view(2, 3, 4)), x.view(2, 3, 4))
    assert torch.equal(normal(torch.arange(24).view(6, 4).t()), x.view(6, 4).t())
    assert torch.equal(normal(torch.tensor(7)), x[7])
    assert normal(torch.arange(0)).shape == (0,)


def test_same_bits_under_vmap():
    table = draw.normal_table()
    got = torch.func.vmap(draws, (0, None, None))(KEYS, AT, table)
    assert all(same(tuple(g[i] for g in got), draws(KEYS[i], AT, table)) for i in range(4))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_same_bits_under_compile(backend):
    torch.compiler.reset()
    args = (KEYS[:, None], AT, draw.normal_table())
    assert same(torch.compile(draws, fullgraph=True, backend=backend)(*args), draws(*args))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_same_bits_on_cuda(compiled):
    cuda = torch.device("cuda")
    run = torch.compile(draws, fullgraph=True) if compiled else draws
    got = run(KEYS[:, None].to(cuda), AT.to(cuda), draw.normal_table(cuda))
    assert same(tuple(x.cpu() for x in got), draws(KEYS[:, None], AT, draw.normal_table()))


def test_no_generator_is_touched():
    before = torch.get_rng_state()
    draws(KEYS[:, None], AT, draw.normal_table())
    assert torch.equal(torch.get_rng_state(), before)
