"""Claim: copies of every kind come back detached and usable, and go on as the original does."""

import copy
import io
import pickle

import pytest
import torch
from models import mlp, same, train, weights
from torch import nn

import regrow

MAKERS = {
    "swr": lambda model: regrow.SWR(model, every=2, factor=0.1, seed=0),
    "cbp": lambda model: regrow.ContinualBackprop(model, replacement_rate=0.1, maturity=1, decay=0.9, seed=0),
    "redo": lambda model: regrow.ReDo(model, every=2, threshold=0.5, seed=0),
    "shrink-perturb": lambda model: regrow.ShrinkPerturb(model, shrink=0.01, noise_variance=1e-4, seed=0),
}


def through_torch(x):
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "torch.save": through_torch,
}


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", MAKERS)
def test_a_copy_with_its_model_is_detached_and_goes_on_alike(name: str, how: str) -> None:
    model = mlp()
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(3))
    algorithm = {"model": model, "optimizer": opt, "maintainer": maintainer}
    other = COPIES[how](algorithm)
    assert "not attached" in repr(other["maintainer"]) and "attached to SGD" in repr(maintainer)
    assert other["maintainer"].report() == maintainer.report()
    other["maintainer"].detach()
    other["maintainer"].attach(other["optimizer"])
    train(model, opt, range(3, 9))
    train(other["model"], other["optimizer"], range(3, 9))
    assert same(weights(model), weights(other["model"])) and other["maintainer"].report() == maintainer.report()
    assert maintainer.report()["steps"] == 9


@pytest.mark.parametrize("how", COPIES)
def test_a_model_and_optimizer_copied_without_it_are_free_of_it(how: str) -> None:
    model = mlp()
    opt = sgd(model)
    regrow.SWR(model, every=1, factor=0.1, seed=0).attach(opt)
    other = COPIES[how]({"model": model, "optimizer": opt})
    before = weights(other["model"])
    for w in other["model"].parameters():
        w.grad = torch.zeros_like(w)
    other["optimizer"].step()
    assert same(before, weights(other["model"]))


@pytest.mark.parametrize("name", MAKERS)
def test_a_shallow_copy_is_another_maintainer_of_the_same_model(name: str) -> None:
    model = mlp()
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(3))
    other = copy.copy(maintainer)
    steps = maintainer.report()["steps"]
    assert "not attached" in repr(other) and other.report() == maintainer.report()
    maintainer.detach()
    other.attach(opt)
    train(model, opt, range(3, 7))
    assert other.report()["steps"] == steps + 4 and maintainer.report()["steps"] == steps
