"""`plasticity` tells lost ability to learn from none, and leaves no trace."""

import copy
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from models import mlp
from torch import Tensor, nn
from torch.nn import functional as F

import regrow
from regrow import plasticity

Batch = tuple[Tensor, Tensor]


def task(seed: int, batches: int = 40) -> list[Batch]:
    """Labels of a random linear teacher."""
    g = torch.Generator().manual_seed(seed)
    teacher = torch.randn(6, 3, generator=g)
    x = torch.randn(batches, 16, 6, generator=g)
    return [(part, (part @ teacher).argmax(1)) for part in x]


def loss(net: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(net(batch[0]), batch[1])


def adam(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=1e-2)


def sgd(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1, momentum=0.9)


def busy(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 3))


# What it measures.


def test_by_hand() -> None:
    model, fresh, data = mlp(0), mlp(1), task(0, 10)
    found = plasticity(model, fresh, iter(data), loss, optimizer=adam)
    expected = []
    for net in (model, fresh):
        twin = copy.deepcopy(net)
        opt, losses = adam(list(twin.parameters())), []
        for batch in data:
            opt.zero_grad()
            value = loss(twin, batch)
            value.backward()
            opt.step()
            losses.append(value.item())
        expected.append(losses)
    assert (found["loss"], found["fresh_loss"]) == tuple(expected)
    assert found["difference"] == pytest.approx(np.mean(expected[0]) - np.mean(expected[1]))
    assert found["final_difference"] == pytest.approx(np.mean(expected[0][-3:]) - np.mean(expected[1][-3:]))
    assert list(found) == ["loss", "fresh_loss", "difference", "final_difference"]
    assert all(type(value) is float for value in (*found["loss"], found["difference"], found["final_difference"]))


@pytest.mark.parametrize("optimizer", [adam, sgd, lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3)])
def test_a_model_against_itself_is_level_bit_for_bit(optimizer: Any) -> None:
    """Dropout too: both have the same random numbers."""
    model = busy()
    found = plasticity(model, model, task(1), loss, optimizer=optimizer)
    assert found["loss"] == found["fresh_loss"] and found["difference"] == found["final_difference"] == 0
    assert len(set(found["loss"])) == 40


def test_lost_plasticity_is_above_zero_and_transfer_below() -> None:
    fresh, data = mlp(1), task(0)
    dead = copy.deepcopy(fresh)
    nn.init.constant_(dead[3].bias, -100.0)
    lost = plasticity(dead, fresh, data, loss, optimizer=sgd)
    assert lost["difference"] > 0.2 and lost["final_difference"] > 0.2
    learned = copy.deepcopy(fresh)
    opt = sgd(list(learned.parameters()))
    for batch in task(0, 200):
        opt.zero_grad()
        loss(learned, batch).backward()
        opt.step()
    assert plasticity(learned, fresh, data, loss, optimizer=sgd)["difference"] < -0.2


def test_a_fresh_network_of_another_structure_and_frozen_parts() -> None:
    model = mlp()
    model[0].requires_grad_(False)
    seen = []

    def make(params: list[nn.Parameter]) -> torch.optim.Optimizer:
        seen.append(len(params))
        return adam(params)

    found = plasticity(model, nn.Linear(6, 3), task(0, 4), loss, optimizer=make)
    assert len(found["loss"]) == len(found["fresh_loss"]) == 4 and seen == [6, 2]


def test_one_batch() -> None:
    found = plasticity(mlp(0), mlp(1), task(0, 1), loss, optimizer=adam)
    assert found["difference"] == found["final_difference"] == found["loss"][0] - found["fresh_loss"][0]


def test_copies_are_trained_in_training_mode() -> None:
    modes: list[list[bool]] = []

    def watching(net: nn.Module, batch: Batch) -> Tensor:
        modes.append([m.training for m in net.modules()])
        return loss(net, batch)

    model, fresh = busy().eval(), busy(1)
    fresh[1].eval()  # a part that is kept in evaluation mode on purpose
    plasticity(model, fresh, task(0, 1), watching, optimizer=adam)
    assert modes == [[True] * 6, [True, True, False, True, True, True]]
    assert not any(m.training for m in model.modules()) and fresh.training and not fresh[1].training


# No trace.


def trace(model: nn.Module) -> list[Any]:
    hooks = [dict(v) for m in model.modules() for k, v in vars(m).items() if "hooks" in k and isinstance(v, dict)]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()]
    return [hooks, state, grads, [m.training for m in model.modules()], [dict(vars(p)) for p in model.parameters()]]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def generators() -> list[Any]:
    return [torch.get_rng_state(), list(np.random.get_state()[1]), random.getstate()]


def wild(net: nn.Module, batch: Batch) -> Tensor:
    """Draws from every generator."""
    noise = torch.randn(batch[0].shape) * np.random.rand() * random.random()
    return F.cross_entropy(net(batch[0] + noise), batch[1])


def failing(net: nn.Module, batch: Batch) -> Tensor:
    wild(net, batch).backward()
    raise ArithmeticError("in the loss")


@pytest.mark.parametrize("function", [wild, failing])
@pytest.mark.parametrize("grads", [False, True])
def test_nothing_changes(function: Any, grads: bool) -> None:
    model, fresh = busy(), busy(1)
    if grads:
        loss(model, task(0, 1)[0]).backward()
    x, y = map(torch.cat, zip(*task(0, 8)))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16, shuffle=True)
    before = trace(model), trace(fresh), generators()
    for _ in range(2):
        try:
            found = plasticity(model, fresh, loader, function, optimizer=adam)
        except ArithmeticError:
            assert function is failing
        assert equal((trace(model), trace(fresh), generators()), before)
    if function is wild:
        assert plasticity(model, fresh, loader, function, optimizer=adam) == found


def test_maintainers_do_not_fire_and_training_goes_on_as_if_never_measured() -> None:
    def run(measure: bool) -> tuple[dict[str, Tensor], list[float]]:
        net = mlp(3)
        opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        kept = [
            regrow.SWR(net, every=4, factor=0.2, prune="proportional", seed=0).attach(opt),
            regrow.ContinualBackprop(net, replacement_rate=0.02, maturity=3, seed=0).attach(opt),
            regrow.ReDo(net, every=4, threshold=0.5, seed=1).attach(opt),
            regrow.ShrinkPerturb(net, noise_variance=1e-6, seed=2).attach(opt),
        ]
        for batch in task(5, 20):
            opt.zero_grad()
            value = loss(net, batch)
            if measure:
                plasticity(net, mlp(4), task(6, 3), loss, optimizer=sgd)
            value.backward()
            if measure:
                plasticity(net, mlp(4), task(7, 3), loss, optimizer=sgd)
            opt.step()
        assert kept[0].report()["renewals"] == 5
        return net.state_dict(), [m.report()["renewed_total"] for m in kept]

    assert equal(run(True), run(False))


def test_where_gradients_are_off() -> None:
    model, fresh, data = mlp(0), mlp(1), task(0, 4)
    plain = plasticity(model, fresh, data, loss, optimizer=adam)
    with torch.no_grad():
        assert plasticity(model, fresh, data, loss, optimizer=adam) == plain
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert plasticity(model, fresh, data, loss, optimizer=adam) == plain


def test_autocast_trains_the_weights_of_now() -> None:
    model, data = mlp(0), task(0, 30)
    with torch.autocast("cpu", torch.bfloat16):
        found = plasticity(model, model, data, loss, optimizer=adam)
    assert found["loss"][-1] < found["loss"][0] - 0.2
    assert torch.is_autocast_cache_enabled()


def test_wrapped_models() -> None:
    model, data = mlp(0), task(0, 4)
    plain = plasticity(model, mlp(1), data, loss, optimizer=adam)
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        assert plasticity(wrapped, mlp(1), data, loss, optimizer=adam) == plain


# Refused.


def _outside(net: nn.Module, batch: Batch) -> Tensor:
    return loss(OUTSIDE, batch)


OUTSIDE = mlp()


@pytest.mark.parametrize(
    "change, error, text",
    [
        ({"model": torch.ones(2)}, TypeError, "`model` must be a torch.nn.Module; got Tensor"),
        ({"fresh": mlp}, TypeError, "`fresh` must be a torch.nn.Module; got function"),
        ({"batches": []}, ValueError, "`batches` must hold at least one batch; got none"),
        ({"batches": 3}, TypeError, "`batches` must be a list of batches, or another iterable; got int"),
        ({"loss": 3}, TypeError, "`loss` must be a function of a model and a batch; got int"),
        ({"loss": lambda n, b: n(b[0])}, ValueError, "`loss` must return one number, a tensor of one entry; got shape"),
        ({"loss": lambda n, b: 1.0}, ValueError, "`loss` must return one number, a tensor of one entry; got float"),
        ({"loss": lambda n, b: b[0].sum()}, ValueError, "`loss` must depend on the model that it is given"),
        ({"loss": _outside, "model": OUTSIDE}, ValueError, "`loss` must depend on the model that it is given"),
        ({"optimizer": "adam"}, TypeError, "`optimizer` must be a function of a list of parameters"),
        ({"optimizer": adam(list(mlp().parameters()))}, TypeError, "`optimizer` must be a function of a list of"),
        ({"optimizer": lambda p: p}, TypeError, "`optimizer` must return a torch.optim.Optimizer; got list"),
        ({"optimizer": lambda p: adam(list(OUTSIDE.parameters()))}, ValueError, "do not return the one you train with"),
        ({"model": mlp().requires_grad_(False)}, ValueError, "the Sequential has no trainable parameter"),
    ],
)
def test_arguments(change: dict[str, Any], error: type, text: str) -> None:
    arguments = {"model": mlp(), "fresh": mlp(), "batches": task(0, 2), "loss": loss, "optimizer": adam} | change
    before = trace(OUTSIDE)
    with pytest.raises(error, match=re.escape(text)) as caught:
        plasticity(**arguments)
    assert "\n" not in str(caught.value) and equal(before, trace(OUTSIDE))


def test_a_model_that_cannot_be_copied() -> None:
    model = mlp()
    model.cache = model(torch.ones(2, 6))  # no leaf
    with pytest.raises(TypeError, match="`model` must be a module that copy.deepcopy copies; it says: Only Tensors"):
        plasticity(model, mlp(), task(0, 2), loss, optimizer=adam)
