"""Claim: parameters that leave, come, grow or are reparametrised in mid-run are followed, or told of; none without a
gradient is changed."""

import pytest
import torch
from models import backward, mlp, same, train, weights
from torch import nn
from torch.nn.utils import parametrizations, prune

import regrow

MAKERS = {
    "swr": lambda model, **more: regrow.SWR(model, every=1, factor=0.1, seed=0, **more),
    "cbp": lambda model, **more: regrow.ContinualBackprop(model, replacement_rate=0.3, maturity=0, seed=0, **more),
    "cbp-average": lambda model, **more: regrow.ContinualBackprop(
        model, replacement_rate=0.3, maturity=0, decay=0.9, seed=0, **more
    ),
    "redo": lambda model, **more: regrow.ReDo(model, every=1, threshold=0.9, seed=0, **more),
    "shrink-perturb": lambda model, **more: regrow.ShrinkPerturb(
        model, shrink=0.1, noise_variance=0.01, seed=0, **more
    ),
}
every_method = pytest.mark.parametrize("name", MAKERS)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


# No gradient, no change.


@pytest.mark.parametrize("name", ["swr", "shrink-perturb"])
def test_what_has_no_gradient_is_left_alone_and_counted(name: str) -> None:
    model = nn.ModuleDict({"used": mlp(0), "unused": mlp(1)})
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    before = weights(model["unused"])
    train(model["used"], opt, range(3))
    assert same(before, weights(model["unused"]))
    assert maintainer.report()["skipped_no_grad"] == 3 * 8


@pytest.mark.parametrize("name", ["cbp", "cbp-average", "redo"])
def test_units_without_a_gradient_are_left_alone_and_counted(name: str) -> None:
    model = mlp()
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(3))
    left = maintainer.report()["skipped_no_grad"]
    for step in range(3, 5):
        backward(model, step)
        model[0].weight.grad = None
        before = weights(model)
        opt.step()
        assert torch.equal(model[0].weight, before["0.weight"])
    assert left == 0 and maintainer.report()["skipped_no_grad"] == 2


def test_shrinking_by_hand_without_any_gradient_is_refused() -> None:
    with pytest.raises(RuntimeError, match="ShrinkPerturb leaves alone what has no gradient, and no parameter has one"):
        MAKERS["shrink-perturb"](mlp()).step()


# Leaving and coming.


@every_method
def test_another_parameter_in_its_place_in_the_optimizer(name: str) -> None:
    model = mlp()
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(2))
    opt.param_groups[0]["params"][0] = nn.Parameter(torch.zeros(2))
    with pytest.warns(UserWarning, match=f"{type(maintainer).__name__} no longer maintains '0"):
        train(model, opt, range(2, 3))
    before = model[0].weight.detach().clone()
    train(model, opt, range(3, 5))
    assert torch.equal(before, model[0].weight)


@every_method
def test_assigned_weights_leave_all_of_the_optimizer(name: str) -> None:
    model = mlp()
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(2))
    model.load_state_dict({k: w.clone() for k, w in model.state_dict().items()}, assign=True)
    renewals = maintainer.report()["renewals"]
    before = weights(model)
    with pytest.warns(UserWarning, match="no longer maintains"):
        train(model, opt, range(2, 5))
    assert same(before, weights(model)) and maintainer.report()["renewals"] == renewals
    opt.param_groups[0]["params"][:] = list(model.parameters())
    train(model, opt, range(5, 8))
    assert maintainer.report()["renewals"] > renewals, "and they are taken up again"


def test_a_frozen_one_has_not_left() -> None:
    model = mlp()
    opt = sgd(model)
    swr = MAKERS["swr"](model).attach(opt)
    train(model, opt, range(2))
    model[0].requires_grad_(False)
    train(model, opt, range(2, 4))  # warnings are errors here
    assert swr.report()["renewals"] == 4


@every_method
def test_a_head_that_grows(name: str) -> None:
    model = mlp()
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(3))
    old, model[5] = model[5], nn.Linear(12, 5)
    with torch.no_grad():
        model[5].weight[:3], model[5].bias[:3] = old.weight, old.bias
        model[5].weight.mul_(3.0)  # trained values: their law must not be asked
    opt.param_groups[0]["params"][-2:] = list(model[5].parameters())
    renewals = maintainer.report()["renewals"]
    train(model, opt, range(3, 7))
    assert maintainer.report()["renewals"] > renewals


@every_method
def test_a_hidden_layer_that_grows(name: str) -> None:
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(3))
    model[0], model[2] = nn.Linear(6, 20), nn.Linear(20, 3)
    opt.param_groups[0]["params"][:] = list(model.parameters())
    renewals = maintainer.report()["renewals"]
    train(model, opt, range(3, 8))
    assert maintainer.report()["renewals"] > renewals


# Reparametrised in mid-run.


@pytest.mark.parametrize("how", ["pruned", "weight norm"])
@pytest.mark.parametrize("name", ["swr", "cbp", "cbp-average", "redo"])
def test_reparametrised_in_mid_run_is_told(name: str, how: str) -> None:
    model = mlp()
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(2))
    if how == "pruned":
        prune.l1_unstructured(model[0], "weight", amount=0.5)
    else:
        parametrizations.weight_norm(model[0])
    opt.param_groups[0]["params"][:] = list(model.parameters())
    with pytest.raises((ValueError, RuntimeError)) as told:
        train(model, opt, range(2, 4))
    assert "0" in str(told.value) and "skip=" in str(told.value), told.value
    del maintainer
