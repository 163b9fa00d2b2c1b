"""The law of each parameter is found in the order promised, guessed only with a warning, and never invented.

Re-initialised models are recognised by their values and their scales snapped to the formula they came from.
"""

import re
import warnings
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from regrow.laws import Constant, Empirical, Law, Normal, Orthogonal, TruncatedNormal, Uniform, init_laws, resolve_laws
from regrow.laws.fit import fit, p_value, sample
from regrow.names import walk

N256, N128 = 256, 128


def linear(start: Callable[[Tensor], object], *shape: int) -> nn.Linear:
    """A Linear(128, 256) whose weight was started anew, and whose bias is 0."""
    model = nn.Linear(*(shape or (N128, N256)))
    start(model.weight)
    nn.init.zeros_(model.bias)
    return model


def guessed(model: nn.Module, source: str = "auto") -> tuple[dict[str, Law], str]:
    """The laws, and the one warning that comes with them."""
    with pytest.warns(UserWarning) as caught:
        laws = init_laws(model, source)
    (warning,) = caught
    assert warning.filename == __file__
    return laws, str(warning.message)


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
    assert "laws={...}" in message and 'source="modules"' in message


def same(found: Law, law: Law) -> bool:
    """Equal up to the last digits of a formula."""
    numbers, wanted = found.to_dict(), law.to_dict()
    return numbers.pop("law") == wanted.pop("law") and numbers == pytest.approx(wanted, rel=1e-6)


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
    for remedy in ("laws={'weight': ...}", "init_laws()", 'source="modules"', "skip='weight'"):
        assert remedy in message


# --- sources ---


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 300) * 0.02)
        self.body = nn.Linear(25, 4)


def test_a_bare_parameter_is_fitted_or_refused() -> None:
    laws, message = guessed(Bare())
    assert laws["token"] == Normal(0, 0.02) and "'body" not in message
    with pytest.raises(
        ValueError, match="^no law for 'token', shape \\(1, 1, 300\\): its module type, Bare, gives none"
    ):
        init_laws(Bare(), "modules")


def test_modules_looks_at_no_value() -> None:
    model = nn.Sequential(nn.Linear(25, 4), nn.LayerNorm(4))
    want = init_laws(model, "modules")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    assert init_laws(model, "modules") == want
    assert init_laws(model.to("meta"), "modules") == init_laws(model, "auto") == want  # "auto" has none to look at


def test_values_asks_no_module() -> None:
    class Declared(nn.Linear):
        def init_laws(self) -> dict[str, Law]:
            raise AssertionError("asked")

    laws, message = guessed(Declared(100, 200), "values")
    assert same(laws["weight"], Uniform(-0.1, 0.1)) and "'weight'" in message


def test_a_parameter_without_values_needs_a_module() -> None:
    with pytest.raises(ValueError, match="^no law for 'token'"):
        init_laws(Bare().to("meta"))


@pytest.mark.parametrize("source", ["module", "AUTO", ""])
def test_unknown_source(source: str) -> None:
    message = f"the source of laws must be one of 'auto', 'modules', 'values'; got {source!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        init_laws(nn.Linear(2, 2), source)
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve_laws(walk(nn.Linear(2, 2)), {"weight": source})


# --- laws that modules declare ---


class Inner(nn.Linear):
    def init_laws(self) -> dict[str, Law]:
        return {"weight": Normal(0, 0.5)}


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner(3, 3)
        self.plain = nn.Sequential(nn.Linear(25, 3))
        self.token = nn.Parameter(torch.randn(4, 4))
        self.absent = None

    def init_laws(self) -> dict[str, Law]:
        mine: dict[str, Law] = {"token": Orthogonal(2.0), "inner.weight": Constant(9), "inner.bias": Constant(8)}
        return mine | {"plain.0.bias": Uniform(0, 1), "absent": Constant(0)}


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, torch.compile, lambda m: nn.Sequential(m)])
@pytest.mark.parametrize("source", ["auto", "modules"])
def test_declared_laws_nearest_first(wrap: Callable[[nn.Module], nn.Module], source: str) -> None:
    """Whatever the values are: they are not looked at."""
    laws = init_laws(wrap(Outer()), source)
    assert {name.removeprefix("0."): law for name, law in laws.items()} == {
        "token": Orthogonal(2.0, 4),
        "inner.weight": Normal(0, 0.5),
        "inner.bias": Constant(8),
        "plain.0.weight": Uniform(-0.2, 0.2),
        "plain.0.bias": Uniform(0, 1),
    }


def test_declared_laws_are_asked_for_once() -> None:
    calls = []

    class Counted(nn.Sequential):
        def init_laws(self) -> dict[str, Law]:
            calls.append(1)
            return {}

    init_laws(Counted(nn.Linear(2, 2), nn.Linear(2, 2)))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (None, TypeError, "Odd.init_laws() must return a mapping from parameter names to laws; got NoneType"),
        ({"weight": 0.1}, TypeError, "to laws; got float for 'weight'"),
        (
            {"wieght": Normal()},
            ValueError,
            "Odd.init_laws() must return a mapping from parameter names to laws; it has",
        ),
        ({"bias": Orthogonal()}, ValueError, "laws: 'bias' cannot have this law: Orthogonal: only a tensor of 2 or"),
    ],
)
def test_declared_nonsense(answer: object, error: type[Exception], message: str) -> None:
    class Odd(nn.Linear):
        def init_laws(self) -> object:
            return answer

    with pytest.raises(error, match=re.escape(message)):
        init_laws(Odd(2, 2))


# --- laws that the user gives ---


def test_given_laws_come_first_and_in_order() -> None:
    laws = resolve_laws(walk(Outer()), {"inner.weight": Constant(1), "inner": Constant(2), "*.bias": Constant(3)})
    assert laws["inner.weight"] == Constant(1) and laws["inner.bias"] == Constant(2)
    assert laws["plain.0.bias"] == Constant(3)
    assert laws["plain.0.weight"] == Uniform(-0.2, 0.2) and laws["token"] == Orthogonal(2.0, 4)


def test_given_laws_and_a_source_for_the_rest() -> None:
    model = Bare()
    nn.init.normal_(model.body.weight)
    laws = resolve_laws(walk(model), {"token": Normal(0, 0.3), "*": "modules"})
    assert laws == {"token": Normal(0, 0.3), "body.weight": Uniform(-0.2, 0.2), "body.bias": Uniform(-0.2, 0.2)}


def test_empirical_only_when_asked() -> None:
    model = nn.Linear(3, 2)
    law = Empirical(model.weight)
    assert resolve_laws(walk(model), {"weight": law})["weight"] is law


@pytest.mark.parametrize(
    ("laws", "error", "message"),
    [
        ({"fc": Normal()}, ValueError, "laws: pattern 'fc' matches no parameter; the parameters are 'weight', 'bias'"),
        ({"weight": 0.1}, TypeError, "laws: 'weight' must be given a law of regrow.laws; got float"),
        ({"weight": Normal}, TypeError, "laws: 'weight' must be given a law of regrow.laws; got ABCMeta"),
        ([Normal()], TypeError, "`laws` must be a mapping from name patterns to laws, or a source; got list"),
        ({"*": Orthogonal()}, ValueError, "laws: 'bias' cannot have this law: Orthogonal: only a tensor of 2 or more"),
    ],
)
def test_given_nonsense(laws: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        resolve_laws(walk(nn.Linear(2, 2)), laws)  # type: ignore[arg-type]


def test_patterns_may_name_parameters_that_are_not_asked_for() -> None:
    entries = walk(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    assert resolve_laws(entries[2:3], {"0": Normal(), "1.weight": Normal(1)}, among=entries) == {"1.weight": Normal(1)}


# --- tied and frozen parameters ---


def test_tied_weights_have_one_law_that_of_the_home_they_came_from() -> None:
    class Tied(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(60, 25), nn.Linear(25, 60, bias=False)
            if first:
                self.head.weight = self.embed.weight
            else:
                self.embed.weight = self.head.weight

    assert init_laws(Tied(True)) == {"embed.weight": Normal()}
    assert init_laws(Tied(False)) == {"embed.weight": Uniform(-0.2, 0.2)}
    assert resolve_laws(walk(Tied(True)), {"head": Normal(2)}) == {"embed.weight": Normal(2)}


def test_frozen_parameters_are_left_out_in_silence_where_nothing_is_known() -> None:
    model = Bare().requires_grad_(False)
    nn.init.normal_(model.body.weight)
    assert init_laws(model) == {"body.bias": Uniform(-0.2, 0.2)}
    assert init_laws(model, "values") == {}
    assert set(init_laws(model, "modules")) == {"body.weight", "body.bias"}
    model.token.requires_grad_(True)
    assert set(guessed(model)[0]) == {"token", "body.bias"}


def test_frozen_parameters_of_any_type_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.codes = nn.Parameter(torch.arange(3), requires_grad=False)  # type: ignore[assignment]
    assert set(init_laws(model)) == {"weight", "bias"}


def test_order_and_names() -> None:
    model = nn.Sequential(Outer(), nn.Linear(4, 4))
    names = [name for name, _ in model.named_parameters()]
    assert list(init_laws(model)) == names == list(init_laws(nn.DataParallel(torch.compile(model))))


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
