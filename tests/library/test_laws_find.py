"""The law of each parameter is found in the order promised, guessed only with a warning, and never invented.

Re-initialised models are recognised by their values and their scales snapped to the formula they came from.
"""

import warnings
from collections.abc import Callable

import pytest
import torch
from guesses import N128, N256, guessed, linear, same
from scipy import stats
from torch import Tensor, nn

from regrow.laws import Constant, Law, Normal, Orthogonal, TruncatedNormal, Uniform, init_laws
from regrow.laws.fit import fit, p_value, sample

STARTS: list[tuple[Callable[[Tensor], object], Law, str]] = [
    (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), Normal(0, (2 / N128) ** 0.5), "fan_in, gain sqrt(2)"),
    (lambda w: nn.init.kaiming_normal_(w, mode="fan_out"), Normal(0, (2 / N256) ** 0.5), "kaiming normal"),
    (lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"), Normal(0, N128**-0.5), "normal fan_in, gain 1"),
    (lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), Uniform(-((6 / N128) ** 0.5), (6 / N128) ** 0.5), ""),
    (lambda w: nn.init.xavier_uniform_(w), Uniform(-0.125, 0.125), "xavier uniform, gain 1"),
    (lambda w: nn.init.xavier_normal_(w, nn.init.calculate_gain("tanh")), Normal(0, 5 / 3 * 192**-0.5), "gain 5/3"),
    (lambda w: nn.init.normal_(w, std=0.02), Normal(0, 0.02), "0.02"),
    (lambda w: nn.init.normal_(w, 1.0, 0.02), Normal(1, 0.02), "0.02"),
    (lambda w: nn.init.uniform_(w, -3e-3, 3e-3), Uniform(-0.003, 0.003), "0.003"),
    (lambda w: nn.init.uniform_(w), Uniform(0, 1), "0 to 1"),
    (lambda w: nn.init.trunc_normal_(w, std=0.02, a=-0.04, b=0.04), TruncatedNormal(0, 0.02, -0.04, 0.04), "0.02"),
    (lambda w: nn.init.trunc_normal_(w, std=0.02), Normal(0, 0.02), "0.02"),  # bounds of 100 sd are none
    (lambda w: nn.init.orthogonal_(w), Orthogonal(1, N256), "orthogonal_, gain 1"),
    (lambda w: nn.init.orthogonal_(w, 2**0.5), Orthogonal(2**0.5, N256), "orthogonal_, gain 1.41421"),
    (lambda w: nn.init.ones_(w), Constant(1), ""),
]


@pytest.mark.parametrize(("start", "law", "formula"), STARTS, ids=[f"{law!r} {text}" for _, law, text in STARTS])
def test_reinitialised_weights_are_recognised(start: Callable[[Tensor], object], law: Law, formula: str) -> None:
    laws, message = guessed(linear(start))
    assert same(laws["weight"], law)
    assert laws["bias"] == Constant(0)
    assert formula in message and repr(law) in message and "'weight'" in message and "'bias'" in message
    assert "laws={...}" in message and "laws=type(model)(model.config)" in message


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize(("start", "law", "formula"), STARTS, ids=[f"{law!r} {text}" for _, law, text in STARTS])
def test_they_are_recognised_in_every_type(start, law: Law, formula: str, dtype: torch.dtype) -> None:
    laws, _ = guessed(linear(start).to(dtype))
    assert same(laws["weight"], law)


@pytest.mark.parametrize(
    ("shape", "gain", "law"),
    [
        ((64, 1), 1.0, Orthogonal(1, 64)),  # heads as reinforcement learning starts them
        ((64, 6), 0.01, Orthogonal(0.01, 64)),
        ((3, 3), 2.0, Orthogonal(2, 3)),
    ],
    ids=str,
)
def test_small_orthogonal_heads(shape: tuple[int, int], gain: float, law: Law) -> None:
    laws, _ = guessed(linear(lambda w: nn.init.orthogonal_(w, gain), *shape))
    assert same(laws["weight"], law) and laws["bias"] == Constant(0)


def test_convolutions_and_their_fans() -> None:
    model = nn.ConvTranspose2d(16, 32, 3)
    nn.init.kaiming_normal_(model.weight, nonlinearity="relu")
    laws, _ = guessed(model)
    assert same(laws["weight"], Normal(0, (2 / (32 * 9)) ** 0.5))


def test_other_scales_stay_as_fitted() -> None:
    laws, message = guessed(linear(lambda w: nn.init.normal_(w, 0.3, 0.0333)))
    law = laws["weight"]
    assert isinstance(law, Normal)
    assert law.std == pytest.approx(0.0333, rel=0.02) and law.mean == pytest.approx(0.3, rel=0.01)
    assert f"{law!r} for 'weight'" in message  # no formula is named


@pytest.mark.parametrize(("errors", "snapped"), [(0.0, True), (3.5, True), (-3.5, True), (4.5, False), (-4.5, False)])
def test_snapped_within_four_standard_errors(errors: float, snapped: bool) -> None:
    """Values with exactly the standard deviation asked for; its standard error is std / sqrt(2 n)."""
    n = 8192
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    std = 0.02 * (1 + errors / (2 * n) ** 0.5)
    values = z / z.std(correction=0) * std
    found = fit(values, sample(values))
    assert found is not None
    assert (found == (Normal(0, 0.02), "0.02")) is snapped
    assert found[0].std == pytest.approx(0.02 if snapped else std, rel=1e-6)


def test_of_two_formulas_the_nearest() -> None:
    """Few values are near to many formulas."""
    model = linear(lambda w: nn.init.normal_(w, std=0.1), 10, 10)
    laws, _ = guessed(model)
    gains = (1, 2**0.5, 5 / 3, 0.75, 3**-0.5)
    usual = [0.1, 0.08, 0.2, 0.05, *(gain / 10**0.5 for gain in gains)]
    std = float(model.weight.detach().double().std(correction=0))
    assert laws["weight"].std == pytest.approx(min(usual, key=lambda one: abs(one - std)))


def test_one_warning_for_all() -> None:
    model = nn.Sequential(*[linear(lambda w: nn.init.normal_(w, std=0.02)) for _ in range(10)])
    _, message = guessed(model)
    assert "Normal(mean=0, std=0.02) (0.02) for '0.weight', '1.weight'" in message
    assert "'7.weight' and 2 more" in message and "'8.weight'" not in message
    assert message.count("Constant(value=0)") == 1


# --- contradictions ---


def test_a_single_zero_contradicts_a_continuous_law() -> None:
    model = nn.Linear(64, 1)
    nn.init.zeros_(model.bias)
    laws, message = guessed(model)
    assert laws == {"weight": Uniform(-0.125, 0.125), "bias": Constant(0)} and "'weight'" not in message


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.fill_(0.01),
        lambda w: w[0, 0].fill_(0.0885),  # beyond the bound of 0.0884
        lambda w: w.mul_(0.8),
        lambda w: w.add_(0.01),
    ],
    ids=["constant", "beyond", "scaled", "shifted"],
)
def test_values_that_contradict_the_module(change: Callable[[Tensor], object]) -> None:
    model = nn.Linear(N128, N256)
    with torch.no_grad():
        change(model.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert init_laws(model)["weight"] != init_laws(model, "modules")["weight"]
        assert init_laws(model)["bias"] == init_laws(model, "modules")["bias"]


def test_a_norm_whose_scale_is_another_constant() -> None:
    model = nn.BatchNorm2d(4)
    nn.init.zeros_(model.weight)  # zero_init_residual
    laws, _ = guessed(model)
    assert laws == {"weight": Constant(0), "bias": Constant(0)}


def test_small_changes_do_not_contradict() -> None:
    """Fewer than one in a million fresh models may look otherwise, so a slight shift passes."""
    model = nn.Linear(N128, N256)
    with torch.no_grad():
        model.weight.mul_(0.999)
    assert init_laws(model) == init_laws(model, "modules")


def trained() -> nn.Sequential:
    """Trained far from its start: few inputs, a large step size, weight decay."""
    model = nn.Sequential(nn.Linear(25, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 10))
    x, y = torch.randn(64, 25) * torch.linspace(0, 4, 25), torch.randint(0, 10, (64,))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def test_trained_weights_are_never_taken_in_silence() -> None:
    """Those that look like no law raise; those that look like one of another scale are named in the warning."""
    model = trained()
    try:
        message = guessed(model)[1]
    except ValueError as error:
        message = str(error)
    assert "'0.weight'" in message and "'2.weight'" in message and "pre-trained" in message
    assert init_laws(model, "modules") == {
        "0.weight": Uniform(-0.2, 0.2),
        "0.bias": Uniform(-0.2, 0.2),
        "2.weight": Constant(1),
        "2.bias": Constant(0),
        "3.weight": Uniform(-0.125, 0.125),
        "3.bias": Uniform(-0.125, 0.125),
    }


@pytest.mark.parametrize(
    "design",
    [
        lambda w: nn.init.eye_(w),
        lambda w: nn.init.sparse_(w, 0.5),
        lambda w: w.copy_(torch.randn(N256, N128).pow(3)),
        lambda w: w.fill_(torch.nan),
        lambda w: w.copy_(torch.linspace(-1, 1, N128).sign().expand(N256, N128)),
    ],
    ids=["eye", "sparse", "heavy tails", "nan", "two values"],
)
@pytest.mark.parametrize("source", ["auto", "values"])
def test_what_fits_nothing_is_refused(design: Callable[[Tensor], object], source: str) -> None:
    model = nn.Linear(N128, N256)
    with torch.no_grad():
        design(model.weight)
    with pytest.raises(ValueError) as raised:
        init_laws(model, source)
    message = str(raised.value)
    assert message.startswith("no law for 'weight', shape (256, 128)") and "\n" not in message
    for remedy in ("laws={'weight': ...}", "init_laws()", "laws=type(model)(model.config)", "skip='weight'"):
        assert remedy in message


# --- the test of fit, and what it leaves alone ---


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("n", [50, 2000])
def test_the_test_is_that_of_kolmogorov_and_smirnov(n: int, shift: float) -> None:
    values = torch.randn(n, dtype=torch.float64) + shift
    assert p_value(Normal(), values) == pytest.approx(stats.kstest(values.numpy(), "norm").pvalue, rel=0.1, abs=1e-9)


def test_another_default_device_changes_nothing() -> None:
    model = nn.Sequential(linear(lambda w: nn.init.normal_(w, std=0.02)), linear(nn.init.orthogonal_))
    want, _ = guessed(model)
    with torch.device("meta"):
        laws, _ = guessed(model)
    assert laws == want and "0.weight" in laws


def test_the_model_and_the_generator_are_left_alone() -> None:
    model = linear(lambda w: nn.init.normal_(w))
    before, state = [p.clone() for p in model.parameters()], torch.get_rng_state()
    guessed(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
