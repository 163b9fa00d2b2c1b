"""Selection is the paper's, entry by entry, for every member on its own, whichever way it is computed.

The slow twins are loops in plain Python. Thresholds are compared where float32 is exact (dyadic numbers), and on real
networks away from the limit by more than rounding.
"""

import math
from itertools import compress, product

import pytest
import torch
import twins_core as twins
from cases_core import INF, NAN, SELECTIONS, cases, order_of, per_member, rows_of, stack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from regrow.core import random, select, utility

TINY = 1e-4  # every outcome below is fixed by its key: a p-value under this would be a defect, not bad luck
examples = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])


# ---- slow twins


@given(case=cases(sizes=(1, 2, 4), factors=(0.0, 0.25, 0.5, 1.0, 2.0)))
@examples
def test_threshold_is_the_loop(case):
    values, factor, members, _, _ = case
    mask = select.threshold(values, factor, members)
    assert mask.dtype == torch.bool and mask.shape == values.shape
    rows = rows_of(values, members)
    # An infinite mean renews nothing either: it says that the utility is broken, not that all others are small.
    want = [
        twins.threshold(row, f) if INF not in row else [False] * len(row)
        for row, f in zip(rows, per_member(factor, len(rows)), strict=True)
    ]
    assert rows_of(mask, members) == want


@given(case=cases())
@examples
def test_proportional_is_the_loop(case):
    values, factor, members, uniform, order = case
    mask = select.proportional(values, factor, members, uniform=uniform, order=order)
    assert mask.dtype == torch.bool and mask.shape == values.shape
    rows, count = rows_of(values, members), math.prod(values.shape[:members])
    args = zip(rows, per_member(factor, count), per_member(uniform, count), rows_of(order, members), strict=True)
    assert rows_of(mask, members) == [twins.proportional(*each) for each in args]


@given(case=cases(), data=st.data())
@examples
def test_eligible_lowest_is_the_loop(case, data):
    values, _, members, _, order = case
    shape, numbers = values.shape[:members], math.prod(values.shape[:members])
    n = values.numel() // numbers
    flags = data.draw(st.lists(st.booleans(), min_size=values.numel(), max_size=values.numel()))
    eligible = torch.tensor(flags).view(values.shape)
    counts = data.draw(st.lists(st.integers(0, n + 1), min_size=numbers, max_size=numbers))
    count = data.draw(st.sampled_from([counts[0], torch.tensor(counts).view(shape)]))
    mask = select.eligible_lowest(values, eligible, count, members, order=order)
    assert mask.dtype == torch.bool and mask.shape == values.shape
    rows = [rows_of(x, members) for x in (values, eligible, order)]
    args = zip(rows[0], rows[1], per_member(count, numbers), rows[2], strict=True)
    assert rows_of(mask, members) == [twins.eligible_lowest(*each) for each in args]


@given(case=cases())
@examples
def test_without_an_order_the_selected_utilities_are_the_same(case):
    values, factor, members, uniform, order = case
    with_order = select.proportional(values, factor, members, uniform=uniform, order=order)
    without = select.proportional(values, factor, members, uniform=uniform)
    for row, a, b in zip(*(rows_of(x, members) for x in (values, with_order, without)), strict=True):
        assert sorted(compress(row, a)) == sorted(compress(row, b))


def network(seed: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """(weights, gradient) of every tensor of a small random network with silent inputs and dead units."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [int(torch.randint(2, 12, (), generator=generator)) for _ in range(4)]
    tensors = [torch.randn(o, i, generator=generator, dtype=dtype) for i, o in zip(sizes, sizes[1:], strict=False)]
    biases = [torch.randn(o, generator=generator, dtype=dtype) - 0.5 for o in sizes[1:]]
    parameters = [p.requires_grad_() for p in (*tensors, *biases)]
    x = torch.randn(3, sizes[0], generator=generator, dtype=dtype) * (torch.arange(sizes[0]) % 3 > 0)
    for w, b in zip(tensors[:-1], biases[:-1], strict=True):
        x = torch.relu(x @ w.T + b)
    loss = torch.nn.functional.cross_entropy(x @ tensors[-1].T + biases[-1], torch.zeros(3, dtype=torch.long))
    return list(zip([p.detach() for p in parameters], torch.autograd.grad(loss, parameters), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_prunings_on_every_tensor_of_random_networks(dtype):
    rounding, compared = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype], 0
    tensors = [pair for seed in range(12) for pair in network(seed, dtype)]
    for (w, g), factor in product(tensors, [1e-5, 0.1, 0.7]):
        for u in (utility.gradient(w, g), utility.magnitude(w)):
            flat = u.reshape(-1).tolist()
            limit = factor * sum(flat) / len(flat)
            clear = [abs(x - limit) > rounding * limit or limit == 0 for x in flat]
            got, want = select.threshold(u, factor).reshape(-1).tolist(), twins.threshold(flat, factor)
            assert all(a == b for a, b, c in zip(got, want, clear, strict=True) if c)
            compared += sum(clear)
            coin, order = torch.tensor(len(flat) % 7 / 7), order_of("net", len(flat), shape=tuple(u.shape))
            mask = select.proportional(u, factor, uniform=coin, order=order)
            assert mask.reshape(-1).tolist() == twins.proportional(
                flat, factor, float(coin), order.reshape(-1).tolist()
            )
    assert compared >= 0.999 * sum(2 * 3 * w.numel() for w, _ in tensors)
    assert sum(int((g == 0).sum()) for _, g in tensors) > 100  # there was something to tie


# ---- the claims


@pytest.mark.parametrize("factor", [0.0, 0.001, 0.29, 0.57, 1 / 3, 0.999, 1.0])
@pytest.mark.parametrize("n", [1, 7, 100, 5000])
def test_exactly_the_share_is_selected(factor, n):
    u = random.uniform(random.bits(1, torch.arange(n))) * (torch.arange(n) % 2)  # half of them 0
    picked = int(select.proportional(u, factor, order=order_of(n, shape=(n,))).sum())
    assert picked == math.floor(factor * n + 1e-6)
    assert int(select.proportional(u, factor, uniform=torch.tensor(1 - 2**-24)).sum()) == picked
    up = factor * n - picked > 1e-6
    assert int(select.proportional(u, factor, uniform=torch.tensor(0.0)).sum()) == picked + up


@pytest.mark.parametrize("factor", [0.003, 0.3, 0.71])
def test_the_mean_share_is_the_factor(factor):
    draws, n = 40_000, 7
    uniform = random.uniform(random.bits(random.key("share", int(factor * 1000)), torch.arange(draws)))
    counts = select.proportional(torch.zeros(draws, n), factor, 1, uniform=uniform).sum(-1)
    rest = factor * n % 1
    z = (float(counts.double().mean()) - factor * n) / (rest * (1 - rest) / draws) ** 0.5
    assert abs(z) < 4
    assert set(counts.tolist()) == {math.floor(factor * n), math.floor(factor * n) + 1}


def chi2_of_equal_counts(counts: Tensor, picked: int, draws: int) -> float:
    """p-value that every one of n entries is as likely as any other, when each draw picks some without replacement."""
    n = counts.numel()
    p = picked / n
    statistic = float((counts.double() - draws * p).square().sum()) / (draws * p * (1 - p)) * (n - 1) / n
    return float(stats.chi2.sf(statistic, n - 1))


@pytest.mark.parametrize("picked", [1, 5, 11])
def test_ties_are_broken_uniformly_over_the_entries(picked):
    draws, n = 30_000, 12
    order = order_of("ties", picked, shape=(draws, n))
    mask = select.proportional(torch.zeros(draws, n), picked / n, 1, order=order)
    assert chi2_of_equal_counts(mask.sum(0), picked, draws) > TINY
    assert torch.equal(
        mask[:50], torch.stack([select.proportional(torch.zeros(n), picked / n, order=o) for o in order[:50]])
    )


def test_every_set_of_tied_entries_is_equally_likely():
    draws, n = 40_000, 6
    mask = select.proportional(torch.zeros(draws, n), 0.5, 1, order=order_of("sets", shape=(draws, n)))
    sets = torch.bincount((mask * 2 ** torch.arange(n)).sum(-1))
    assert (sets > 0).sum() == math.comb(n, 3)
    assert stats.chisquare(sets[sets > 0].numpy()).pvalue > TINY


def test_only_the_tied_ones_compete():
    draws = 30_000
    u = torch.tensor([5.0, 0.0, 1.0, 7.0, 1.0, 1.0, 0.5, 1.0]).expand(draws, 8)
    mask = select.proportional(u, 0.5, 1, order=order_of("some", shape=(draws, 8)))  # 0, 0.5 and two of the four ones
    assert mask[:, [1, 6]].all() and not mask[:, [0, 3]].any()
    assert chi2_of_equal_counts(mask[:, [2, 4, 5, 7]].sum(0), 2, draws) > TINY


def test_tied_units_are_equally_likely_and_only_the_eligible():
    draws, n = 30_000, 9
    eligible = (torch.arange(n) % 3 > 0).expand(draws, n)
    order = order_of("units", shape=(draws, n))
    mask = select.eligible_lowest(torch.zeros(draws, n), eligible, 2, 1, order=order)
    assert not mask[:, ::3].any()
    assert chi2_of_equal_counts(mask[:, eligible[0]].sum(0), 2, draws) > TINY


def test_without_an_order_ties_do_not_go_by_position():
    n = 1 << 14
    mask = select.proportional(torch.zeros(n), 0.5)
    per_block = mask.view(64, -1).sum(-1).double()
    spread = float((per_block - n / 128).square().sum()) / (n / 64 / 4)
    assert TINY < stats.chi2.sf(spread, 63) < 1 - TINY  # uneven as chance has it, no more and no less
    runs = int((mask[1:] != mask[:-1]).sum()) + 1
    assert abs(runs - n / 2) < 4 * n**0.5 / 2


# ---- edges


@pytest.mark.parametrize("name", ["threshold", "proportional", "proportional, no order"])
@pytest.mark.parametrize("row", [[NAN], [0.0, NAN, 1.0], [NAN, NAN, NAN], [NAN, INF]])
def test_a_nan_selects_nothing(name, row):
    u = torch.tensor(row)
    order = torch.arange(len(row))
    assert not SELECTIONS[name](u, 1.0, 0, torch.tensor(0.0), order).any()
    stacked = SELECTIONS[name](torch.stack([u, torch.zeros(len(row))]), 1.0, 1, None, torch.stack([order] * 2))
    assert stacked.tolist() == [[False] * len(row), [True] * len(row)]


def test_a_dead_tensor_is_renewed_whole_by_any_threshold():
    for factor in (0.0, 1e-6, 1.0):
        assert select.threshold(torch.zeros(3, 4), factor).all()


def test_threshold_is_inclusive_and_literal():
    u = torch.tensor([0.0, 1.0, 2.0, 5.0])  # mean 2
    assert select.threshold(u, 1.0).tolist() == [True, True, True, False]
    assert select.threshold(u, 0.999).tolist() == [True, True, False, False]
    assert select.threshold(u, 0.0).tolist() == [True, False, False, False]  # U <= 0: off is the maintainer's to say


def test_proportional_takes_none_at_0_and_all_at_1():
    u = torch.tensor([[0.0, 0.0, 3.0], [INF, 1.0, INF]])
    for coin in (None, torch.zeros(2)):
        assert not select.proportional(u, 0.0, 1, uniform=coin).any()
        assert select.proportional(u, 1.0, 1, uniform=coin).all()


def test_infinite_utilities_are_the_last_to_go():
    u = torch.tensor([INF, 1.0, INF, 0.0])
    assert select.proportional(u, 0.5).tolist() == [False, True, False, True]
    assert not select.threshold(u, 1.0).any()


@pytest.mark.parametrize("name", ["threshold", "proportional", "proportional, no order"])
def test_scalars_single_entries_and_empty_tensors(name):
    f, coin = SELECTIONS[name], torch.tensor(0.5)
    one = torch.tensor(0.0)
    assert f(one, 1.0, 0, coin, torch.tensor(3)).shape == ()
    assert bool(f(one, 1.0, 0, coin, torch.tensor(3)))
    assert f(torch.zeros(1), 1.0, 0, coin, torch.tensor([3])).tolist() == [True]
    assert f(torch.zeros(4), 1.0, 1, coin.expand(4), torch.arange(4)).tolist() == [True] * 4  # scalars of four members
    for shape, members in [((0,), 0), ((3, 0), 0), ((3, 0), 1), ((2, 3, 0, 5), 2)]:
        empty = f(torch.zeros(shape), 0.5, members, coin.expand(shape[:members]), torch.zeros(shape, dtype=torch.int32))
        assert empty.shape == shape and empty.dtype == torch.bool


def test_float64_is_compared_as_float64():
    u = 1 + torch.arange(8, dtype=torch.float64).flip(0) * 1e-12
    assert select.proportional(u, 0.5).tolist() == [False] * 4 + [True] * 4
    assert select.threshold(u, 1.0).tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_utilities_have_a_wide_mean(dtype):
    u = torch.full((4096,), 100.0, dtype=dtype)  # a float16 sum would overflow
    u[::2] = 0
    assert torch.equal(select.threshold(u, 1.0), u == 0)
    assert torch.equal(select.proportional(u, 0.5), u == 0)


def test_edges_of_eligible_lowest():
    u, yes = torch.tensor([INF, 1.0, NAN, 0.0]), torch.tensor([True, True, False, False])
    assert select.eligible_lowest(u, yes, 1).tolist() == [False, True, False, False]  # a NaN that is not eligible
    assert select.eligible_lowest(u, yes, 3).tolist() == [True, True, False, False]  # an infinity that is
    assert not select.eligible_lowest(u, yes | u.isnan(), 4).any()
    assert not select.eligible_lowest(u, yes & False, 4).any()
    assert not select.eligible_lowest(u, yes, 0).any()
    assert select.eligible_lowest(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), 1, 1).shape == (2, 0)


bf16 = torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float16, torch.float64, bf16])
def test_an_order_of_any_real_type_breaks_ties(dtype):
    order = torch.tensor([3, 0, 2, 1]).to(dtype)
    assert select.proportional(torch.zeros(4), 0.5, order=order).tolist() == [False, True, False, True]
    assert select.proportional(torch.zeros(2, 4), 0.5, 1, order=order.expand(2, 4)).tolist() == [[False, True] * 2] * 2


def test_memory_layout_does_not_matter_and_inputs_stay():
    u, _, _, order = stack(1, 6, 5, 4)
    u, order = u[0], order[0]
    for layout in (u.transpose(0, 2).contiguous().transpose(0, 2), u.flip(0).flip(0), u.clone().requires_grad_()):
        before = layout.detach().clone()
        assert torch.equal(select.threshold(layout, 0.5), select.threshold(u, 0.5))
        assert torch.equal(select.proportional(layout, 0.3, order=order), select.proportional(u, 0.3, order=order))
        assert torch.equal(layout.detach(), before)


def test_a_float32_factor_counts_like_the_float_it_was_made_from():
    u = random.uniform(random.bits(2, torch.arange(1000)))
    for factor in (0.7, 0.29, 0.83):
        want = int(select.proportional(u, factor).sum())
        assert int(select.proportional(u[None], torch.tensor([factor]), 1).sum()) == want


# ---- errors


def test_shape_errors_name_the_rule_the_value_and_the_remedy():
    u = torch.zeros(4, 3)
    remedy = r"name the number of leading member axes in `members`"
    with pytest.raises(ValueError, match=rf"`factor` must be a float or .* members, \(\); got \(4,\): {remedy}"):
        select.threshold(u, torch.zeros(4))
    with pytest.raises(ValueError, match=rf"`factor` must be a float or .* members, \(4,\); got \(3,\): {remedy}"):
        select.proportional(u, torch.zeros(3), 1)
    with pytest.raises(ValueError, match=rf"`uniform` must be a float or .* members, \(4,\); got \(4, 3\): {remedy}"):
        select.proportional(u, 0.5, 1, uniform=u)
    with pytest.raises(ValueError, match=rf"`count` must be a float or .* members, \(4,\); got \(4, 3\): {remedy}"):
        select.eligible_lowest(u, u > 0, torch.ones(4, 3), 1)
    for of in (lambda o: select.proportional(u, 0.5, order=o), lambda o: select.eligible_lowest(u, u > 0, 1, order=o)):
        with pytest.raises(ValueError, match=r"`order` must have the shape of `utility`, \(4, 3\); got \(12,\)"):
            of(torch.zeros(12))
    with pytest.raises(ValueError, match=r"`eligible` must have the shape of `utility`, \(4, 3\); got \(3,\)"):
        select.eligible_lowest(u, torch.ones(3, dtype=torch.bool), 1)
