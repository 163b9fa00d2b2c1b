"""Laws come from where they are asked for: the values, the modules' own word, or the user's, the nearest first."""

import re
from collections.abc import Callable

import pytest
import torch
from guesses import guessed, same
from torch import nn

from regrow.laws import Constant, Empirical, Law, Normal, Orthogonal, Uniform, init_laws, resolve_laws
from regrow.names import walk

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
        (
            [Normal()],
            TypeError,
            "`laws` must be a mapping from name patterns to laws, a source, or a fresh module; got list",
        ),
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
