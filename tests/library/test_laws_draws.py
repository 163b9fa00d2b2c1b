"""Laws are the distributions they say: draws follow scipy's, tails included, with the same bits however they are made.

Also: they are values (compared, hashed, stored and read back), and refuse what no distribution is.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from regrow.core import draw, random
from regrow.laws import Constant, Empirical, Law, Normal, Orthogonal, TruncatedNormal, Uniform, law_from_dict

TINY = 1e-4  # the draws are fixed by their key: a p-value under this is a defect, not bad luck


def truncated(mean: float, std: float, low: float, high: float):
    return stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std)


def sphere(gain: float, n: int):
    """A coordinate of a uniform unit vector in R^n: (1 + v) / 2 is Beta((n - 1) / 2, (n - 1) / 2)."""
    return stats.beta((n - 1) / 2, (n - 1) / 2, -gain, 2 * gain)


CONTINUOUS: list[tuple[Law, object]] = [
    (Normal(), stats.norm()),
    (Normal(0, 0.02), stats.norm(0, 0.02)),
    (Normal(-3, 0.5), stats.norm(-3, 0.5)),
    (Uniform(-0.1, 0.1), stats.uniform(-0.1, 0.2)),
    (Uniform(0, 1), stats.uniform(0, 1)),
    (Uniform(-5, -2), stats.uniform(-5, 3)),
    (TruncatedNormal(), truncated(0, 1, -2, 2)),
    (TruncatedNormal(0, 0.02, -2, 2), truncated(0, 0.02, -2, 2)),
    (TruncatedNormal(1, 2, -1, 1.5), truncated(1, 2, -1, 1.5)),
    (TruncatedNormal(0, 1, 5, 6), truncated(0, 1, 5, 6)),
    (TruncatedNormal(0, 1, -11, -10), truncated(0, 1, -11, -10)),
    (Orthogonal(2, 2), sphere(2, 2)),
    (Orthogonal(1, 3), sphere(1, 3)),
    (Orthogonal(0.01, 64), sphere(0.01, 64)),
    (Orthogonal(1, 10**6), sphere(1, 10**6)),
]
DISCRETE: list[Law] = [
    Constant(0.3),
    Normal(2, 0),
    Uniform(2, 2),
    Orthogonal(1.5, 1),
    Orthogonal(0, 8),
    Empirical(torch.tensor([3.0, -1.0, 0.5])),
]
EVERY = [law for law, _ in CONTINUOUS] + DISCRETE
TABULATED = [pair for pair in CONTINUOUS if not isinstance(pair[0], Uniform)]


def words(n: int, *parts: int | str) -> Tensor:
    return random.bits(random.key("test_laws", *parts), torch.arange(n))


@pytest.mark.parametrize(("law", "truth"), CONTINUOUS, ids=[repr(law) for law, _ in CONTINUOUS])
def test_draws_follow_the_law(law: Law, truth) -> None:
    x = law.draw(words(200_000, repr(law))).double().numpy()
    assert stats.kstest(x, truth.cdf).pvalue > TINY
    assert law.support[0] <= x.min() and x.max() <= law.support[1]
    for chance in (1e-3, 1e-4):
        for beyond in ((x < truth.ppf(chance)).sum(), (x > truth.isf(chance)).sum()):
            assert stats.binomtest(int(beyond), len(x), chance).pvalue > TINY


@pytest.mark.parametrize(("law", "truth"), TABULATED, ids=[repr(law) for law, _ in TABULATED])
def test_quantiles_are_exact_to_the_end_of_the_tail(law: Law, truth) -> None:
    """The low 32 bits x of a word ask for the point with probability |x| / 2**32 beyond it."""
    x = torch.tensor([1, 3, 700, 2**16 + 5, 2**24, 3 * 2**28, 2**31 - 2**24])
    q = x.double().numpy() / 2**32
    error = 2e-6 * np.abs(truth.isf(q)) + 2e-6 * truth.std()
    assert (np.abs(law.draw(x).double().numpy() - truth.isf(q)) < error).all()
    error = 2e-6 * np.abs(truth.ppf(q)) + 2e-6 * truth.std()
    assert (np.abs(law.draw(-x).double().numpy() - truth.ppf(q)) < error).all()


@pytest.mark.parametrize(("law", "truth"), CONTINUOUS, ids=[repr(law) for law, _ in CONTINUOUS])
def test_moments_and_cdf(law: Law, truth) -> None:
    assert law.continuous
    assert law.mean == pytest.approx(truth.mean(), rel=1e-9, abs=1e-9 * truth.std())
    assert law.std == pytest.approx(truth.std(), rel=1e-6)
    inside = truth.ppf(np.linspace(1e-6, 1 - 1e-6, 501))
    x = np.concatenate([inside, inside - 9 * truth.std(), inside + 9 * truth.std()])
    assert np.abs(law.cdf(torch.from_numpy(x)).numpy() - truth.cdf(x)).max() < 2e-9


@pytest.mark.parametrize("law", DISCRETE, ids=repr)
def test_laws_with_few_values(law: Law) -> None:
    """Each value comes with its probability, which is the step of the distribution function there."""
    assert not law.continuous
    x = law.draw(words(90_000, repr(law))).double()
    values, counts = x.unique(return_counts=True)
    steps = law.cdf(values + 1e-6) - law.cdf(values - 1e-6)  # a draw is rounded to float32
    assert float(steps.sum()) == pytest.approx(1)
    assert stats.chisquare(counts.numpy(), (steps / steps.sum() * len(x)).numpy()).pvalue > TINY or len(values) == 1
    assert law.mean == pytest.approx(float((values * steps).sum()), abs=1e-7)
    assert law.std == pytest.approx(float(((values - law.mean) ** 2 * steps).sum().sqrt()), abs=1e-7)
    assert (float(values[0]), float(values[-1])) == pytest.approx(law.support, abs=1e-7)


def test_truncated_normal_is_that_of_torch() -> None:
    given = torch.nn.init.trunc_normal_(torch.empty(100_000), 0.5, 2.0, -1.0, 3.0).double().numpy()
    law = TruncatedNormal(0.5, 2.0, -1.0, 3.0)
    assert stats.kstest(given, lambda x: law.cdf(torch.from_numpy(x)).numpy()).pvalue > TINY


@pytest.mark.parametrize("shape", [(4, 50), (50, 4), (3, 3), (2, 1)], ids=str)
def test_orthogonal_is_that_of_torch(shape: tuple[int, ...]) -> None:
    """One entry of each of many matrices, so that the draws are independent."""
    size = max(shape[0], math.prod(shape[1:]))
    entries = [torch.nn.init.orthogonal_(torch.empty(shape), 2.0).flatten()[-1] for _ in range(300)]
    law = Orthogonal(2.0, size)
    x = torch.stack(entries).double().numpy()
    assert stats.kstest(x, lambda at: law.cdf(torch.from_numpy(at)).numpy()).pvalue > TINY


@pytest.mark.parametrize("law", EVERY, ids=repr)
def test_any_shape(law: Law) -> None:
    w = words(60)
    flat = law.draw(w)
    assert flat.dtype == torch.float32 and flat.shape == (60,)
    assert torch.equal(law.draw(w.view(3, 4, 5)), flat.view(3, 4, 5))
    assert torch.equal(law.draw(w.view(6, 10).T), flat.view(6, 10).T)
    assert law.draw(w[:0]).shape == (0,) and law.draw(w[7]).shape == ()
    assert torch.equal(law.draw(w[7]), flat[7])


def all_draws(w: Tensor) -> list[Tensor]:
    return [law.draw(w) for law in EVERY]


@pytest.mark.skipif(torch.__version__ < (2, 7), reason="the compiler of torch 2.6 takes no object as a constant")
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_same_bits_under_compile(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the compiled call is the first of all: tables are made by torch, not by the compiler."""
    w = words(4096).view(64, 64)
    monkeypatch.setattr(draw, "_tables", draw._Tables())
    torch.compiler.reset()
    compiled = torch.compile(all_draws, backend=backend, fullgraph=True)(w)
    monkeypatch.setattr(draw, "_tables", draw._Tables())
    for law, one, other in zip(EVERY, compiled, all_draws(w), strict=True):
        assert torch.equal(one, other), law


@pytest.mark.parametrize("law", EVERY, ids=repr)
def test_same_bits_under_vmap(law: Law) -> None:
    w = words(600).view(20, 30)
    assert torch.equal(torch.func.vmap(law.draw)(w), law.draw(w))
    assert torch.equal(torch.func.vmap(law.draw, in_dims=1, out_dims=1)(w), law.draw(w))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("law", EVERY, ids=repr)
def test_same_bits_on_cuda(law: Law) -> None:
    w = words(1 << 20)
    assert torch.equal(law.draw(w.cuda()).cpu(), law.draw(w))


def test_same_bits_under_another_default_device_and_in_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    want = all_draws(words(100))
    for context in (torch.device("meta"), torch.inference_mode()):
        monkeypatch.setattr(draw, "_tables", draw._Tables())
        w = words(100)
        with context:
            got = all_draws(w)
        assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))
        assert not any(table.is_inference() for table in vars(draw._tables).values())


def test_the_generator_of_torch_is_left_alone() -> None:
    before = torch.get_rng_state()
    all_draws(words(10))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("law", EVERY, ids=repr)
def test_stored_and_read_back(law: Law, tmp_path) -> None:
    torch.save(law.to_dict(), tmp_path / "law.pt")
    again = law_from_dict(torch.load(tmp_path / "law.pt", weights_only=True))
    assert again == law and hash(again) == hash(law) and repr(again) == repr(law) and type(again) is type(law)
    assert torch.equal(again.draw(words(100)), law.draw(words(100)))


def test_laws_are_values() -> None:
    assert Normal(0, 1) == Normal(0.0, np.float32(1)) and Normal(0, 1) != Normal(0, 2)
    assert len(set(EVERY)) == len(EVERY)
    with pytest.raises(AttributeError):
        Normal().mean = 1.0  # type: ignore[misc]
    source = torch.zeros(3)
    law = Empirical(source)
    source.fill_(1.0)
    assert law == Empirical(torch.zeros(3)) and law != Empirical(torch.ones(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(std=-1), r"Normal: `std` must be >= 0; got Normal\(mean=0, std=-1\)"),
        (lambda: Normal(mean=math.nan), r"Normal: `mean` must be a number within \+-1e\+37; got nan"),
        (lambda: Normal(std=1e39), r"Normal: `std` must be a number within \+-1e\+37; got 1e\+39"),
        (lambda: Normal(std="1"), r"Normal: `std` must be a number within \+-1e\+37; got '1'"),
        (lambda: Uniform(1, 0), r"Uniform: `low` must be <= `high`; got Uniform\(low=1, high=0\)"),
        (lambda: Constant(math.inf), r"Constant: `value` must be a number within \+-1e\+37; got inf"),
        (lambda: Constant(None), r"Constant: `value` must be a number within \+-1e\+37; got None"),
        (lambda: TruncatedNormal(std=0), "TruncatedNormal: `std` must be > 0; got TruncatedNormal"),
        (lambda: TruncatedNormal(low=2), "TruncatedNormal: `low` must be < `high`; got TruncatedNormal"),
        (lambda: TruncatedNormal(0, 1, 50, 60), "the interval must have a probability above 0; got TruncatedNormal"),
        (lambda: Orthogonal(-1), "Orthogonal: `gain` must be >= 0; got Orthogonal"),
        (lambda: Orthogonal(1, 0), r"Orthogonal: `size` must be a whole number in \[1, 2\*\*53\]; got Orthogonal"),
        (lambda: Orthogonal(1, 2.5), r"Orthogonal: `size` must be a whole number in \[1, 2\*\*53\]; got Orthogonal"),
        (lambda: Orthogonal(1).draw(words(2)), "Orthogonal: `size` is not known yet; give it, or"),
        (lambda: Empirical(torch.empty(0)), "Empirical: `values` must be finite numbers, at least one"),
        (lambda: Empirical(torch.tensor([0.0, math.nan])), "Empirical: `values` must be finite numbers"),
        (lambda: law_from_dict({"law": "Cauchy"}), "a stored law must be one of Constant, .*Uniform; got 'Cauchy'"),
        (lambda: law_from_dict({"law": "Normal", "std": 1.0}), "a stored Normal must hold mean, std; got std"),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


anything = st.one_of(st.floats(), st.integers(), st.text(max_size=3), st.none(), st.booleans(), st.just([1.0]))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["Constant", "Normal", "Uniform", "TruncatedNormal", "Orthogonal"]), st.data())
def test_stored_nonsense_is_refused_or_a_law(kind: str, data: st.DataObject) -> None:
    fields = {"Constant": 1, "Normal": 2, "Uniform": 2, "TruncatedNormal": 4, "Orthogonal": 2}
    names = ["value", "mean", "std", "low", "high", "gain", "size"]
    takes = {"Constant": names[:1], "Normal": names[1:3], "Uniform": names[3:5], "TruncatedNormal": names[1:5]}
    arguments = {name: data.draw(anything) for name in takes.get(kind, names[5:])}
    assert len(arguments) == fields[kind]
    try:
        law = law_from_dict({"law": kind, **arguments})
    except ValueError as error:
        assert str(error).startswith(kind + ":") and "\n" not in str(error)
    else:
        assert law_from_dict(law.to_dict()) == law
        if kind in ("Constant", "Normal", "Uniform"):  # a table a law is slow
            assert law.draw(words(4)).isfinite().all()
