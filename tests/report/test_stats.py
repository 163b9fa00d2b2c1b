"""Intervals cover what they should, equal scipy's where it has them, and the bootstrap is the one that draws.

Shapes: S seeds, T tasks.
"""

import math

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats as scipy_stats
from scipy.signal import lfilter

from regrow.report.bootstrap import block_length, block_variance
from regrow.report.stats import (
    Effect,
    average,
    contrast,
    estimate,
    hedges,
    holm,
    slope,
    standard_error,
)


def noise(rng: np.random.Generator, shape: tuple[int, int], r: float) -> np.ndarray:
    """First-order autoregression, in its stationary state."""
    fresh = rng.normal(size=(shape[0], shape[1] + 100))
    return lfilter([1], [1, -r], fresh, axis=1)[:, 100:]


def test_standard_error_by_hand() -> None:
    assert standard_error(np.array([1.0, 3.0])) == 1.0  # s = sqrt(2), over sqrt(2)
    assert math.isnan(standard_error(np.array([1.0])))


def test_paired_interval_is_scipys() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(92, 1, 5), rng.normal(91, 1, 5)
    test = scipy_stats.ttest_rel(one, two)
    low, high = test.confidence_interval(0.95)
    ours = estimate(one - two)
    effect = contrast((one - two)[:, None], np.ones(1))
    assert (ours.low, ours.high) == pytest.approx((low, high)) == (effect.low, effect.high)
    assert 2 * min(effect.above(0), effect.below(0)) == pytest.approx(test.pvalue)
    for side, p_value in (("greater", effect.above(0.5)), ("less", effect.below(0.5))):
        assert scipy_stats.ttest_1samp(one - two, 0.5, alternative=side).pvalue == pytest.approx(p_value)


def test_from_ten_seeds_on_the_interval_is_still_students() -> None:
    samples = np.random.default_rng(0).normal(size=30)
    low, high = scipy_stats.ttest_1samp(samples, 0).confidence_interval(0.95)
    assert estimate(samples)[2:] == pytest.approx((low, high))


def test_two_equal_one_sided_tests_are_the_90_percent_interval() -> None:
    """Level within a margin at 5 % is the 90 % interval within it."""
    effect = Effect(0.1, 0.2, 4, "seeds", 5, 200)
    half_width = scipy_stats.t.ppf(0.95, 4) * 0.2
    for margin in (0.1 + half_width - 1e-6, 0.1 + half_width + 1e-6):
        inside = 0.1 + half_width < margin and 0.1 - half_width > -margin
        assert (max(effect.above(-margin), effect.below(margin)) < 0.05) == inside


def test_no_error_is_no_doubt_but_on_the_bound() -> None:
    effect = Effect(0.0, 0.0, 4, "seeds", 5, 200)
    assert (effect.below(2.0), effect.above(2.0), effect.above(-1.0)) == (0.0, 1.0, 0.0)
    assert effect.above(0.0) == effect.below(0.0) == 0.5


def test_hedges_by_hand() -> None:
    # mean 2, s = 2; with four samples the correction is 1 - 3 / 11.
    assert hedges(np.array([0.0, 1.0, 3.0, 4.0])) == pytest.approx((1 - 3 / 11) * 2 / math.sqrt(10 / 3))
    assert hedges(np.array([1.0, 2.0])) is None and hedges(np.ones(5)) is None


def test_holm_by_hand_and_above_benjamini_hochberg() -> None:
    assert holm(np.array([0.04, 0.01, 0.03, 0.005])) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm(np.array([])).tolist() == []
    p_values = np.random.default_rng(0).uniform(size=40) ** 3
    adjusted = holm(p_values)
    assert (adjusted >= scipy_stats.false_discovery_control(p_values) - 1e-12).all()
    assert (adjusted <= np.minimum(1, 40 * p_values) + 1e-12).all()  # and below Bonferroni's
    assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()


def test_holm_keeps_the_chance_of_one_false_finding() -> None:
    rng = np.random.default_rng(0)
    false = [(holm(rng.uniform(size=30)) < 0.05).any() for _ in range(4000)]
    assert np.mean(false) < 0.06  # 3 standard errors above 0.05


@pytest.mark.parametrize(("tasks", "length"), [(50, 7), (200, 6), (41, 1)])
def test_the_exact_bootstrap_is_the_one_that_draws(tasks: int, length: int) -> None:
    rng = np.random.default_rng(tasks)
    residuals, weights = noise(rng, (1, tasks), 0.5)[0], rng.normal(size=tasks)
    blocks = sliding_window_view(residuals, length)
    drawn = rng.integers(len(blocks), size=(20_000, -(-tasks // length)))
    resampled = blocks[drawn].reshape(20_000, -1)[:, :tasks]
    assert block_variance(residuals, weights, length) == pytest.approx(float((resampled @ weights).var()), rel=0.04)


def test_blocks_of_one_are_scipys_bootstrap() -> None:
    x = np.random.default_rng(0).gamma(2, size=60)
    reference = scipy_stats.bootstrap((x,), np.mean, n_resamples=20_000, random_state=0).standard_error
    exact = math.sqrt(block_variance(x - x.mean(), np.full(60, 1 / 60), 1))
    assert exact == pytest.approx(x.std() / math.sqrt(60)) == pytest.approx(reference, rel=0.02)


def test_blocks_grow_with_the_correlation_up_to_a_quarter() -> None:
    rng = np.random.default_rng(0)
    assert block_length(noise(rng, (1, 1000), 0.0)) == 10
    expected = 10 * (math.sqrt(6) * 0.8 / 0.36) ** (2 / 3)
    assert block_length(noise(rng, (5, 1000), 0.8)) == pytest.approx(expected, rel=0.2)
    assert block_length(np.cumsum(rng.normal(size=(1, 200)), 1)) == 50
    assert block_length(np.zeros((1, 16))) == 3


@pytest.mark.parametrize(("r", "least"), [(0.0, 0.92), (0.5, 0.90), (0.8, 0.84)])
def test_intervals_within_one_run_cover(r: float, least: float) -> None:
    """Slopes and contrasts of one run of 200 tasks that rises early and falls late, in autocorrelated noise."""
    t = np.arange(200)
    curve = 3 * np.log1p(t) - 0.01 * t - 4 / (1 + t)
    weights = np.repeat([-1 / 5, 0, 1 / 100], [5, 95, 100])
    runs = noise(np.random.default_rng(0), (400, 200), r)
    slopes = [slope(run[None] + 0.3 * t) for run in runs]
    contrasts = [contrast(run[None] + curve, weights) for run in runs]
    truth = float(curve @ weights)
    assert np.mean([effect.low < 0.3 < effect.high for effect in slopes]) > least
    assert np.mean([effect.low < truth < effect.high for effect in contrasts]) > least
    assert {effect.basis for effect in slopes + contrasts} == {"tasks"}


def test_slopes_that_differ_between_seeds_are_not_made_sure_of_by_many_tasks() -> None:
    rng, t = np.random.default_rng(0), np.arange(200)
    covered, within = [], []
    for _ in range(300):
        own = rng.normal(0.5, 0.2, (5, 1))
        series = noise(rng, (5, 200), 0.5) + own * t
        effect = slope(series)
        covered.append(effect.low < 0.5 < effect.high)
        alone = slope(series[:1])
        within.append(alone.low < 0.5 < alone.high)
    assert effect.basis == "seeds" and 0.91 < np.mean(covered) < 0.99
    assert np.mean(within) < 0.3  # one run knows its own slope, not that of others


def test_slope_of_a_line_and_contrast_of_means() -> None:
    line = 2.0 + 0.25 * np.arange(40)[None]
    assert slope(line).value == pytest.approx(0.25) and slope(line).error == pytest.approx(0, abs=1e-12)
    series = np.stack([np.full(20, 1.0), np.full(20, 3.0), np.full(20, 5.0)])
    effect = average(series)
    assert (effect.value, effect.error, effect.freedom) == pytest.approx((3.0, 2 / math.sqrt(3), 2))
    assert (effect.basis, effect.seeds, effect.tasks) == ("seeds", 3, 20)
    assert effect.standardised == pytest.approx((1 - 3 / 7) * 3 / 2)


def test_two_runs_far_apart_are_no_sure_mean() -> None:
    rng = np.random.default_rng(0)
    series = rng.normal(size=(2, 100)) + np.array([[0.0], [10.0]])
    effect = average(series)
    assert effect.basis == "tasks" and effect.error == pytest.approx(5, rel=0.05)
    assert effect.freedom == 1 and slope(series).freedom == 1  # however many tasks there are
    assert effect.half_width == pytest.approx(12.7062 * effect.error, rel=1e-4)
    assert average(series[:1]).error < 0.3


def test_nothing_is_drawn() -> None:
    state = np.random.get_state()[1].copy()
    series = np.random.default_rng(0).normal(size=(1, 100))
    assert slope(series) == slope(series) and average(series) == average(series)
    assert (np.random.get_state()[1] == state).all()


def test_units_change_value_and_error() -> None:
    series = np.random.default_rng(0).normal(size=(1, 100))
    effect, hundredfold = slope(series), slope(100 * series)
    assert (hundredfold.value, hundredfold.error) == pytest.approx((100 * effect.value, 100 * effect.error))
    assert effect.times(100).half_width == pytest.approx(hundredfold.half_width)
    assert effect.times(-1).low == pytest.approx(-effect.high)


def test_too_few_tasks_are_refused_or_leave_no_interval() -> None:
    short = np.ones((1, 15))
    with pytest.raises(ValueError, match="an interval within runs needs at least 16 tasks; got 15: train more"):
        slope(short)
    assert math.isnan(average(short).error)
    assert average(np.ones((3, 1))).error == 0  # three seeds need no more tasks
