"""Claim: a law that cannot be told, or is read off values, waits for the first update, and a stored state gives it."""

import copy

import pytest
import torch
from models import mlp, same, train, weights
from torch import nn

import regrow


class Strange(nn.Module):
    """A parameter that no law fits."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.rand(6, 40, generator=generator) ** 8)
        self.head = nn.Linear(40, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x @ self.w)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("attached", [True, False])
def test_a_law_that_cannot_be_told_raises_before_a_weight_changes(attached: bool) -> None:
    model = Strange()
    opt = sgd(model)
    swr = regrow.SWR(model, every=10, factor=0.1, seed=0)
    if attached:
        swr.attach(opt)
    before = weights(model)
    with pytest.raises(ValueError, match=r"no law for 'w'.*laws="):
        train(model, opt, range(1), None if attached else swr.step)
    if attached:
        assert same(before, weights(model))
    with pytest.raises(ValueError, match="no law for 'w'"):
        swr.preview()


def test_what_is_off_needs_no_law() -> None:
    model = Strange()
    opt = sgd(model)
    regrow.SWR(model, every=1, factor=0).attach(opt)
    train(model, opt, range(2))


@pytest.mark.parametrize("how", ["state", "load_state_dict"])
def test_a_stored_state_gives_the_law(how: str) -> None:
    """Frameworks load weights before they make optimizers and callbacks: laws must not be read off these."""
    model = Strange()
    laws = {"w": regrow.laws.Uniform(0.0, 1.0)}
    opt = sgd(model)
    swr = regrow.SWR(model, every=2, factor=0.3, laws=laws, seed=0).attach(opt)
    train(model, opt, range(3))
    stored = swr.state_dict()
    other = Strange()
    other.load_state_dict(model.state_dict())
    new = sgd(other)
    if how == "state":
        again = regrow.SWR(other, every=2, factor=0.3, state=stored)
    else:
        again = regrow.SWR(other, every=2, factor=0.3)
        again.load_state_dict(stored)
    again.attach(new)
    new.load_state_dict(copy.deepcopy(opt.state_dict()))
    train(model, opt, range(3, 7))
    train(other, new, range(3, 7))
    assert same(weights(model), weights(other)) and again.report() == swr.report()


def test_a_state_goes_into_every_constructor() -> None:
    for make in (
        lambda m, **k: regrow.ContinualBackprop(m, replacement_rate=0.1, maturity=1, **k),
        lambda m, **k: regrow.ReDo(m, every=2, threshold=0.5, **k),
        lambda m, **k: regrow.ShrinkPerturb(m, shrink=0.1, **k),
    ):
        model = mlp()
        one = make(model, seed=3)
        train(model, sgd(model), range(3), one.step)
        assert make(model, state=one.state_dict()).report() == one.report()


def test_a_guess_is_told_at_the_first_update_only() -> None:
    torch.manual_seed(0)
    model = nn.ParameterDict({"a": nn.Parameter(torch.randn(40, 40))})
    swr = regrow.SWR(model, every=9, factor=0.1)
    model["a"].grad = torch.ones(40, 40)
    with pytest.warns(UserWarning, match="laws read off the values"):
        swr.step()
    swr.step()


@pytest.mark.filterwarnings("ignore:laws read off the values")
def test_attaching_to_an_optimizer_in_mid_run_is_told() -> None:
    model = mlp()
    opt = sgd(model)
    train(model, opt, range(3))
    with pytest.warns(UserWarning, match="SWR starts at step 0 with an optimizer that has taken steps: give it"):
        regrow.SWR(model, every=2, factor=0.1, seed=0).attach(opt)
    old = regrow.SWR(model, every=2, factor=0.1, seed=0)
    train(model, opt, range(3, 5), old.step)
    regrow.SWR(model, every=2, factor=0.1, state=old.state_dict()).attach(opt)  # warnings are errors here
    old.attach(opt)


def test_a_model_on_the_meta_device_is_looked_at_once_it_has_values() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 3))
    swr = regrow.SWR(model, every=1, factor=1.0, prune="proportional", seed=0)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for module in (model[0], model[2]):
            module.weight.normal_(0, 3.0)
            module.bias.zero_()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    swr.attach(opt)
    model(torch.randn(5, 60)).square().mean().backward()
    with pytest.warns(UserWarning, match="laws read off the values"):
        opt.step()
    assert 2.8 < float(model[0].weight.detach().std()) < 3.2
