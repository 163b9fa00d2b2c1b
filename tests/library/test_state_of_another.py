"""Claim: the state of another network is refused whole, and states survive torch.distributed.checkpoint."""

import pytest
import torch
import torch.distributed.checkpoint as dcp
from models import same, train, weights
from torch import nn

import regrow

MAKERS = {
    "swr": lambda model: regrow.SWR(model, every=2, factor=0.1, seed=0, track_overlap=True),
    "cbp": lambda model: regrow.ContinualBackprop(model, replacement_rate=0.1, maturity=1, decay=0.9, seed=0),
    "redo": lambda model: regrow.ReDo(model, every=2, threshold=0.5, seed=0),
    "shrink-perturb": lambda model: regrow.ShrinkPerturb(model, shrink=0.01, noise_variance=1e-4, seed=0),
}
every_method = pytest.mark.parametrize("name", MAKERS)


def net(width: int = 8, inputs: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, 3))


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


OTHERS = {
    "wider": (lambda: net(16), "'0.weight' is of shape 8x6, stored as 16x6"),
    "of other names": (lambda: nn.Sequential(nn.Sequential(*net())), "it holds '0.0.weight', which is not maintained"),
    "smaller": (lambda: nn.Sequential(nn.Identity(), nn.Identity(), nn.Linear(8, 3)), "it lacks '0.weight'"),
}


@pytest.mark.parametrize("other", OTHERS)
@every_method
def test_another_network_is_refused(name: str, other: str) -> None:
    if other == "smaller" and name in ("cbp", "redo"):
        pytest.skip("has no hidden units")
    build, message = OTHERS[other]
    stored = MAKERS[name](build()).state_dict()
    model = net()
    maintainer = MAKERS[name](model)
    train(model, sgd(model), range(3), maintainer.step)
    before = maintainer.state_dict()
    with pytest.raises(ValueError, match=f"state_dict is of another network: {message}"):
        maintainer.load_state_dict(stored)
    assert repr(maintainer.state_dict()) == repr(before)


@every_method
def test_a_state_of_before_shapes_were_stored_loads(name: str) -> None:
    model, other = net(), net()
    maintainer = MAKERS[name](model)
    train(model, sgd(model), range(5), maintainer.step)
    old = maintainer.state_dict()
    del old["shapes"], old["tally"]["skipped_no_signal"]
    for layer in old.get("layers", {}).values():
        young = layer["schedule"]["young"]
        layer["schedule"]["young"] = young[young[:, 1] > 0]  # as many rows as there were births
    new = MAKERS[name](other)
    new.load_state_dict(old)
    other.load_state_dict(model.state_dict())
    train(model, sgd(model), range(5, 9), maintainer.step)
    train(other, sgd(other), range(5, 9), new.step)
    assert same(weights(model), weights(other)) and maintainer.report() == new.report()


@pytest.mark.parametrize("name", ["swr", "cbp"])
def test_one_of_before_whose_laws_or_units_are_of_another_network(name: str) -> None:
    stored = MAKERS[name](net(16) if name == "cbp" else nn.Sequential(nn.Sequential(*net()))).state_dict()
    del stored["shapes"]
    with pytest.raises(ValueError, match="state_dict"):
        MAKERS[name](net()).load_state_dict(stored)


@pytest.mark.filterwarnings("ignore:torch.distributed is (disabled|unavailable)", "ignore:TypedStorage is deprecated")
@every_method
def test_a_distributed_checkpoint_stores_all_of_it(name: str, tmp_path) -> None:
    """It loads into the state of a fresh maintainer, so that every tensor must be there at its size from the start."""
    model, other = net(), net()
    opt = sgd(model)
    maintainer = MAKERS[name](model).attach(opt)
    train(model, opt, range(5))
    dcp.save({"regrow": maintainer.state_dict(), "model": model.state_dict()}, checkpoint_id=tmp_path)
    new, new_opt = MAKERS[name](other), sgd(other)
    state = {"regrow": new.state_dict(), "model": other.state_dict()}
    dcp.load(state, checkpoint_id=tmp_path)
    other.load_state_dict(state["model"])
    new.load_state_dict(state["regrow"])
    new.attach(new_opt)
    train(model, opt, range(5, 9))
    train(other, new_opt, range(5, 9))
    assert same(weights(model), weights(other)) and maintainer.report() == new.report()


@every_method
def test_a_state_is_of_the_same_shapes_at_every_step(name: str) -> None:
    def shapes(state: object) -> object:
        if isinstance(state, torch.Tensor):
            return tuple(state.shape)
        return {key: shapes(value) for key, value in state.items()} if isinstance(state, dict) else type(state)

    model = net()
    maintainer = MAKERS[name](model)
    before = shapes(maintainer.state_dict())
    train(model, sgd(model), range(7), maintainer.step)
    assert shapes(maintainer.state_dict()) == before
