"""Utilities are the formulas of the paper, computed wide enough that small gradients do not vanish."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.core import utility

TYPES = [
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.float32, torch.float32),
    (torch.float64, torch.float64),
]


@given(
    shape=st.lists(st.integers(0, 5), max_size=3),
    types=st.sampled_from(TYPES),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=100)
def test_formulas_entry_by_entry(shape, types, seed):
    given_type, wide = types
    rng = np.random.default_rng(seed)
    w, g = (torch.from_numpy(np.asarray(rng.normal(size=shape))).to(given_type) for _ in range(2))
    gradient, magnitude = utility.gradient(w, g), utility.magnitude(w)
    assert gradient.dtype == magnitude.dtype == wide
    assert gradient.shape == magnitude.shape == w.shape
    numpy_type = np.float32 if wide == torch.float32 else np.float64
    flat = zip(w.double().reshape(-1).tolist(), g.double().reshape(-1).tolist(), strict=True)
    products = [abs(numpy_type(a) * numpy_type(b)) for a, b in flat]
    assert gradient.reshape(-1).tolist() == products
    assert magnitude.reshape(-1).tolist() == [abs(a) for a in w.double().reshape(-1).tolist()]


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_no_underflow_in_narrow_types(narrow):
    small = 2.0 ** (-14 if narrow == torch.float16 else -120)
    w, g = torch.full((3,), small, dtype=narrow), torch.full((3,), 2.0**-13, dtype=narrow)
    assert utility.gradient(w, g).tolist() == [small * 2.0**-13] * 3
    if narrow == torch.float16:
        assert (w * g).tolist() == [0.0] * 3  # what the narrow product would have been


def test_a_trained_fp16_network_would_lose_utilities():
    rng = np.random.default_rng(0)
    w, g = (torch.from_numpy(rng.normal(scale=s, size=10_000)).half() for s in (0.05, 1e-5))
    lost = int(((w * g) == 0).sum() - (utility.gradient(w, g) == 0).sum())
    assert lost > 1000


def test_mixed_types_go_by_the_wider():
    w32, g64 = torch.ones(2), torch.full((2,), 1e-60, dtype=torch.float64)
    assert utility.gradient(w32, g64).tolist() == utility.gradient(g64, w32).tolist() == [1e-60] * 2


def test_inputs_stay_as_they_were():
    w, g = torch.tensor([-1.0, 2.0]), torch.tensor([3.0, -4.0])
    utility.gradient(w, g)
    utility.magnitude(w)
    utility.random(w, g)
    assert w.tolist() == [-1, 2] and g.tolist() == [3, -4]


def test_nan_and_infinity_pass_through():
    got = utility.gradient(torch.tensor([float("nan"), float("inf"), float("inf")]), torch.tensor([1.0, -1.0, 0.0]))
    assert got[0].isnan() and got[1] == torch.inf and got[2].isnan()


@pytest.mark.parametrize(("given_type", "wide"), TYPES)
def test_random_utility_is_the_number_given_whatever_the_weights(given_type, wide):
    uniform = torch.tensor([0.0, 0.25, 1 - 2**-24])
    got = utility.random(torch.tensor([float("nan"), 1.0, 0.0], dtype=given_type), uniform)
    assert got.dtype == wide
    assert torch.equal(got, uniform.to(wide))


def test_random_utility_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"`uniform` must have the shape of `w`, \(2, 3\); got \(3,\)"):
        utility.random(torch.zeros(2, 3), torch.zeros(3))


@given(
    members=st.lists(st.integers(1, 3), max_size=2),
    units=st.integers(1, 4),
    fan=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=50)
def test_unit_utilities_unit_by_unit(members, units, fan, seed):
    rng = np.random.default_rng(seed)
    total = rng.exponential(size=(*members, units))
    out, grad = rng.normal(size=(2, *members, units, fan))
    count = rng.integers(1, 9, (*members, 1))
    as_tensors = [torch.from_numpy(x) for x in (total, count, out, grad)]
    for got, formula in [
        (utility.activation(*as_tensors[:2]), lambda i: total[i] / count[*i[:-1], 0]),
        (utility.unit_magnitude(as_tensors[2]), lambda i: sum(abs(out[i])) / fan),
        (utility.contribution(*as_tensors[:3]), lambda i: total[i] / count[*i[:-1], 0] * sum(abs(out[i])) / fan),
        (
            utility.contribution_by_position(as_tensors[3].abs(), as_tensors[1][..., None], as_tensors[2]),
            lambda i: sum(abs(grad[i]) / count[*i[:-1], 0] * abs(out[i])) / fan,
        ),
        (utility.unit_gradient(*as_tensors[2:]), lambda i: abs(sum(out[i] * grad[i]))),
    ]:
        assert got.shape == total.shape and got.dtype == torch.float64
        assert all(float(got[i]) == pytest.approx(formula(i), rel=1e-12, abs=1e-14) for i in np.ndindex(total.shape))


@pytest.mark.parametrize(("given_type", "wide"), TYPES)
def test_unit_utilities_are_wide(given_type, wide):
    total, out = torch.full((2,), 6.0, dtype=given_type), torch.full((2, 3000), 2.0**-13, dtype=given_type)
    utilities = [
        utility.activation(total, 3),
        utility.unit_magnitude(out),
        utility.contribution(total, 3, out),
        utility.unit_gradient(out, out),
    ]
    assert [u.dtype for u in utilities] == [wide] * 4
    assert [float(u[0]) for u in utilities] == [2.0, 2.0**-13, 2.0**-12, 3000 * 2.0**-26]


@pytest.mark.parametrize("transform", ["vmap", "compile"])
def test_same_bits_under_vmap_and_compile(transform):
    def all_three(w, g, u):
        return utility.gradient(w, g), utility.magnitude(w), utility.random(w, u)

    rng = np.random.default_rng(1)
    w, g, u = (torch.from_numpy(rng.normal(size=(4, 5)).astype(np.float32)) for _ in range(3))
    torch.compiler.reset()
    run = torch.vmap(all_three) if transform == "vmap" else torch.compile(all_three, fullgraph=True, backend="eager")
    assert all(torch.equal(a, b) for a, b in zip(run(w, g, u), all_three(w, g, u), strict=True))
