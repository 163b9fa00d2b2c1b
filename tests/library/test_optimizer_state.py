"""After a reset an optimizer steps as a new one, bit for bit; in part it forgets what it is asked to, and no more."""

import copy

import pytest
import torch
from models import mlp, same, train, weights
from optimizers import CASES, KINDS, build, tensors, update
from torch import nn

from regrow import reset_optimizer_state


def test_every_optimizer_of_torch_is_here() -> None:
    kinds = {kind for kind, _ in KINDS.values()} | {torch.optim.SparseAdam, torch.optim.Optimizer}
    assert kinds >= {thing for thing in vars(torch.optim).values() if isinstance(thing, type)}


@pytest.mark.parametrize("name, flags", CASES)
def test_the_next_steps_are_those_of_a_new_optimizer(name: str, flags: dict[str, bool]) -> None:
    model = mlp()
    optimizer = build(name, model, **flags)
    update(model, optimizer, range(5))
    twin = copy.deepcopy(model)
    new = build(name, twin, **flags)
    old = copy.deepcopy(model)
    kept = build(name, old, **flags)
    kept.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    reset_optimizer_state(optimizer)
    for steps in (range(5, 6), range(6, 10)):
        for net, opt in ((model, optimizer), (twin, new), (old, kept)):
            update(net, opt, steps)
        assert same(weights(model), weights(twin))
        assert all(same(a, b) for a, b in zip(tensors(optimizer), tensors(new), strict=True))
    assert name == "sgd" or not same(weights(model), weights(old))  # there was something to forget


def test_sparse_adam() -> None:
    model = nn.Embedding(6, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(model.parameters())

    def step(net: nn.Module, opt: torch.optim.Optimizer) -> None:
        opt.zero_grad()
        net(torch.tensor([1, 4, 1])).square().sum().backward()
        opt.step()

    for _ in range(3):
        step(model, optimizer)
    twin = copy.deepcopy(model)
    new = torch.optim.SparseAdam(twin.parameters())
    reset_optimizer_state(optimizer)
    step(model, optimizer), step(twin, new)
    assert torch.equal(model.weight, twin.weight) and optimizer.state[model.weight]["step"] == 1


@pytest.mark.parametrize("kind", [torch.optim.Rprop, torch.optim.Adagrad, torch.optim.Adam])
def test_complex_parameters(kind: type) -> None:
    w = nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))

    def step(p: nn.Parameter, opt: torch.optim.Optimizer) -> None:
        opt.zero_grad()
        (p * p.conj()).real.sum().backward()
        opt.step()

    optimizer = kind([w], **({"initial_accumulator_value": 0.1} if kind is torch.optim.Adagrad else {}))
    step(w, optimizer), step(w, optimizer)
    twin = nn.Parameter(w.detach().clone())
    new = kind([twin], **({"initial_accumulator_value": 0.1} if kind is torch.optim.Adagrad else {}))
    reset_optimizer_state(optimizer)
    step(w, optimizer), step(twin, new)
    assert torch.equal(w, twin)


def test_the_present_learning_rate_counts() -> None:
    model = mlp()
    optimizer = torch.optim.Rprop(model.parameters(), lr=0.1)
    train(model, optimizer, range(3))
    optimizer.param_groups[0]["lr"] = 0.03125
    reset_optimizer_state(optimizer)
    assert all((s["step_size"] == 0.03125).all() for s in optimizer.state.values())


@pytest.mark.parametrize("name", [n for n in KINDS if n not in ("sgd", "lbfgs")])
def test_some_parameters_forget_and_others_do_not(name: str) -> None:
    model = mlp()
    optimizer = build(name, model)
    update(model, optimizer, range(4))
    before = {p: {k: torch.as_tensor(v).clone() for k, v in s.items()} for p, s in optimizer.state.items()}
    reset_optimizer_state(optimizer, [model[0].weight])
    for p, state in before.items():
        now = {k: torch.as_tensor(v) for k, v in optimizer.state.get(p, {}).items()}
        assert same(now, state) == (p is not model[0].weight)


def test_tensors_stay_where_they_are() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    train(model, optimizer, range(2))
    before = {id(value) for state in optimizer.state.values() for value in state.values()}
    reset_optimizer_state(optimizer)
    assert {id(value) for state in optimizer.state.values() for value in state.values()} == before


# In part.


@pytest.mark.parametrize("name", [n for n in KINDS if n not in ("sgd", "lbfgs")])
@pytest.mark.parametrize("moments", [True, False])
def test_moments_or_step_alone(name: str, moments: bool) -> None:
    model = mlp()
    optimizer = build(name, model)
    update(model, optimizer, range(4))
    before = tensors(optimizer)
    reset_optimizer_state(optimizer, moments=moments, step=not moments)
    after = tensors(optimizer)
    counts = ("step", "mu_product", "eta", "mu")
    for was, now in zip(before, after or [{}] * len(before), strict=True):
        stay = {k: v for k, v in was.items() if (k in counts) == moments}
        assert same(stay, {k: v for k, v in now.items() if k in stay})
        for key, value in now.items():
            if key == "step" and not moments:
                assert value == 0
            elif key in ("exp_avg", "exp_avg_sq", "exp_inf", "square_avg", "grad_avg", "acc_delta", "prev") and moments:
                assert not value.any()
    update(model, optimizer, range(4, 6))
    assert all(w.isfinite().all() for w in model.parameters())


def test_adam_in_part_steps_as_the_docstring_says() -> None:
    def first_step(**what: bool) -> float:
        w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = torch.optim.Adam([w], lr=1.0, eps=0)
        for _ in range(20000):
            w.grad = torch.ones_like(w)
            optimizer.step()
        reset_optimizer_state(optimizer, **what)
        before = w.item()
        optimizer.step()
        return before - w.item()

    assert first_step() == pytest.approx(1)
    assert first_step(step=False) == pytest.approx(0.1 / 0.001**0.5, rel=1e-4)
    assert first_step(moments=False) == pytest.approx(10 * 0.001**0.5, rel=1e-4)
    assert first_step(moments=False, step=False) == pytest.approx(1)


def test_the_average_of_asgd_begins_where_the_weights_are() -> None:
    model = mlp()
    optimizer = torch.optim.ASGD(model.parameters(), t0=2)
    train(model, optimizer, range(6))
    reset_optimizer_state(optimizer, step=False)
    assert all(torch.equal(state["ax"], p) and state["mu"] < 1 for p, state in optimizer.state.items())
