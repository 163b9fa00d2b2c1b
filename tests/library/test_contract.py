"""The contract: every method of the registry, under every optimizer, through everything that happens to a run.

The suite covers every pair of two of these; `-m slow` the whole product.
"""

import copy
import itertools
import pickle
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from models import batch, same, weights
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from wrapped import Accelerated

import regrow
from regrow.methods import REGISTRY, knobs_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:optimizer state '.*' is factored"),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
]


def zero(params) -> ZeroRedundancyOptimizer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ZeroRedundancyOptimizer(list(params), torch.optim.Adam, lr=0.01)


OPTIMIZERS = {
    "plain": lambda p: torch.optim.Adam(p, lr=0.01, foreach=False),
    "foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "muon": lambda p: torch.optim.Muon(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "zero": zero,
    "wrapped": lambda p: Accelerated(torch.optim.Adam(p, lr=0.01)),
}
EVENTS = ("pickle", "deepcopy", "checkpoint", "grown head", "no signal", "new optimizer")
KNOBS = {"shrink-perturb": {"shrink": 0.01, "noise_variance": 1e-6}}
EVERY = 2


def make(name: str, model: nn.Module) -> regrow.Maintainer:
    """A maintainer of a method, acting at every second update if it has a period."""
    method = REGISTRY[name].method
    required = {n: EVERY if k.kind == "whole" else 0.2 for n, k in knobs_of(method).items() if k.required}
    return getattr(regrow, method.__name__)(model, **required, **KNOBS.get(name, {}), seed=0)


def net(outputs: int = 3) -> nn.Sequential:
    """Matrices alone, for Muon takes nothing else."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16, bias=False), nn.ReLU(), nn.Linear(16, outputs, bias=False))


def update(model: nn.Module, opt, step: int, scale: float = 1.0) -> None:
    x, y = batch(step)

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y) * scale
        loss.backward()
        return loss

    if isinstance(opt, torch.optim.LBFGS):
        opt.step(closure)
    else:
        closure()
        opt.step()


def resumed(kind: str, opt, model: nn.Module):
    """A new optimizer of a copied model, with the state of the first."""
    new = OPTIMIZERS[kind](model.parameters())
    if kind == "zero":
        opt.consolidate_state_dict()
    old, into = (opt.optimizer, new.optimizer) if kind == "wrapped" else (opt, new)
    into.load_state_dict(copy.deepcopy(old.state_dict()))
    return new


def copied(event: str, name: str, model: nn.Module, maintainer: regrow.Maintainer, folder):
    """Model and maintainer as the event leaves them."""
    both = model, maintainer
    if event == "deepcopy":
        return copy.deepcopy(both)
    if event == "pickle":
        return pickle.loads(pickle.dumps(both))
    dcp.save({"model": model.state_dict(), "regrow": maintainer.state_dict()}, checkpoint_id=folder)
    other = net()
    state = {"model": other.state_dict(), "regrow": make(name, other).state_dict()}
    dcp.load(state, checkpoint_id=folder)
    other.load_state_dict(state["model"])
    again = make(name, other)
    again.load_state_dict(state["regrow"])
    return other, again


def check(name: str, kind: str, event: str, folder) -> None:
    if kind == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("torch has Muon from 2.9 on")
    model = net()
    opt = OPTIMIZERS[kind](model.parameters())
    maintainer = make(name, model).attach(opt)
    needs_gradient = REGISTRY[name].method.__name__ == "SWR"
    for step in range(5):
        update(model, opt, step)
    steps = maintainer.report()["steps"]
    assert steps == 5 and "steps_elsewhere" not in maintainer.report()
    if event in ("pickle", "deepcopy", "checkpoint"):
        other, again = copied(event, name, model, maintainer, folder)
        new = resumed(kind, opt, other)
        assert "not attached" in repr(again)
        again.attach(new)
        for step in range(5, 9):
            update(model, opt, step)
            update(other, new, step)
        assert same(weights(model), weights(other)) and again.report() == maintainer.report()
    elif event == "no signal":
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            update(model, opt, 5, scale=0.0)
        assert any("without signal" in str(w.message) for w in told) == needs_gradient
        assert maintainer.report()["skipped_no_signal"] == int(needs_gradient)
    else:
        if event == "grown head":
            head = model[2]
            model[2] = nn.Linear(16, 5, bias=False)
            with torch.no_grad():
                model[2].weight[:3] = head.weight
        new = OPTIMIZERS[kind](model.parameters())
        if event == "new optimizer":
            with pytest.warns(UserWarning, match="does nothing at present: another optimizer"):
                for step in range(5, 8):
                    update(model, new, step)
            assert maintainer.report()["steps"] == 5
        maintainer.attach(new)
        for step in range(8, 12):
            update(model, new, step)
        assert maintainer.report()["steps"] == 9 and "steps_elsewhere" not in maintainer.report()
    assert all(w.isfinite().all() for w in model.parameters())
    assert maintainer.report()["renewals"] > 0 or not REGISTRY[name].method.renews


@pytest.fixture
def group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


PRODUCT = list(itertools.product(REGISTRY, OPTIMIZERS, EVENTS))
NAMES = list(REGISTRY)
PAIRS = [
    (NAMES[(i + j) % len(NAMES)], kind, event) for i, kind in enumerate(OPTIMIZERS) for j, event in enumerate(EVENTS)
]


def test_every_pair_is_covered() -> None:
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert {(case[a], case[b]) for case in PAIRS} == {(case[a], case[b]) for case in PRODUCT}


@pytest.mark.parametrize("name, kind, event", PAIRS)
def test_pairs(name: str, kind: str, event: str, tmp_path, group) -> None:
    check(name, kind, event, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name, kind, event", [case for case in PRODUCT if case not in PAIRS])
def test_the_whole_product(name: str, kind: str, event: str, tmp_path, group) -> None:
    check(name, kind, event, tmp_path)
