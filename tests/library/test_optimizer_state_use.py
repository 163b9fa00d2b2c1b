"""What `reset_optimizer_state` takes and refuses; storing afterwards; optimizers of others."""

import copy
import io
import re
import warnings

import pytest
import torch
from models import mlp, same, train, weights
from optimizers import KINDS, build, update
from torch import nn

import regrow
from regrow import optimizer_state, reset_optimizer_state


def test_a_module_a_tensor_named_parameters_and_a_generator() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    for chosen, names in (
        (model[0], {"0.weight", "0.bias"}),
        (model[3].weight, {"3.weight"}),
        (model[5].named_parameters(), {"5.weight", "5.bias"}),
        ((p for p in model[2].parameters()), {"2.weight", "2.bias"}),
        ([], set()),
    ):
        train(model, optimizer, range(2))
        reset_optimizer_state(optimizer, chosen)
        assert {n for n, p in model.named_parameters() if optimizer.state[p]["step"] == 0} == names


def test_what_is_not_held_is_refused_and_nothing_changes() -> None:
    model, other = mlp(), nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, range(2))
    for params, error, text in (
        ([model[0].weight, other.weight], ValueError, "the Adam does not hold number 1, of shape (2, 3): leave it out"),
        (other, ValueError, "`params`: the Adam does not hold weight, of shape (2, 3): leave it out"),
        (
            "0.weight",
            TypeError,
            "`params` takes parameters or a module, for an optimizer knows no names; got '0.weight'",
        ),
        (["0.weight"], TypeError, "`params` takes parameters, for an optimizer knows no names; got '0.weight'"),
        (3, TypeError, "`params` takes parameters or a module, for an optimizer knows no names; got 3"),
    ):
        with pytest.raises(error, match=re.escape(text)) as caught:
            reset_optimizer_state(optimizer, params)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert all(state["step"] == 2 for state in optimizer.state.values())
    with pytest.raises(TypeError, match="`optimizer` must be a torch.optim.Optimizer; got Linear"):
        reset_optimizer_state(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`step` must be True or False; got 1"):
        reset_optimizer_state(optimizer, step=1)  # type: ignore[arg-type]


def test_lbfgs_is_reset_whole_or_not_at_all() -> None:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters())
    update(model, optimizer, range(1))
    for options in ({"params": model[0]}, {"moments": False}, {"step": False}):
        with pytest.raises(ValueError, match="an LBFGS has one memory"):
            reset_optimizer_state(optimizer, **options)
    assert optimizer.state
    reset_optimizer_state(optimizer)
    assert not optimizer.state


def test_a_new_optimizer_has_nothing_to_forget() -> None:
    for name in KINDS:
        model = mlp()
        optimizer = build(name, model)
        reset_optimizer_state(optimizer)
        update(model, optimizer, range(2))


@pytest.mark.parametrize("name", KINDS)
def test_the_state_can_be_stored_and_loaded_afterwards(name: str) -> None:
    model = mlp()
    optimizer = build(name, model)
    update(model, optimizer, range(3))
    reset_optimizer_state(optimizer)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(model)
    loaded = build(name, twin)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    update(model, optimizer, range(3, 6)), update(twin, loaded, range(3, 6))
    assert same(weights(model), weights(twin))


def test_maintainers_and_options_stay() -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.5)
    swr = regrow.SWR(model, every=2, factor=0.1, seed=0).attach(optimizer)
    train(model, optimizer, range(3))
    reset_optimizer_state(optimizer)
    train(model, optimizer, range(3, 6))
    assert swr.report()["renewals"] == 3 and optimizer.param_groups[0]["weight_decay"] == 0.5


# Optimizers of others.


class Foreign(torch.optim.Optimizer):
    """Adam-like, with a state of its own, made at the first step, and a step count in the group."""

    def __init__(self, params: object, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "step": 0})  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["step"] += 1
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {"exp_avg": torch.zeros_like(p), "preconditioner": torch.ones_like(p)}
                state["exp_avg"].lerp_(p.grad, 0.5)
                state["preconditioner"].add_(p.grad.square())
                p -= group["lr"] / group["step"] * state["exp_avg"] / state["preconditioner"].sqrt()


def test_a_foreign_optimizer_begins_anew_and_what_is_unknown_is_named_once() -> None:
    optimizer_state._warned.clear()
    model = mlp()
    optimizer = Foreign(model.parameters())
    reset_optimizer_state(optimizer)  # nothing to forget yet
    train(model, optimizer, range(3))
    twin = copy.deepcopy(model)
    with pytest.warns(UserWarning, match="state 'preconditioner' of Foreign is unknown to regrow and forgotten"):
        reset_optimizer_state(optimizer)
    train(model, optimizer, range(3, 5)), train(twin, Foreign(twin.parameters()), range(3, 5))
    assert same(weights(model), weights(twin))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reset_optimizer_state(optimizer)


def test_in_part_a_foreign_optimizer_keeps_what_is_unknown() -> None:
    optimizer_state._warned.clear()
    model = mlp()
    optimizer = Foreign(model.parameters())
    train(model, optimizer, range(3))
    before = optimizer.state[model[0].weight]["preconditioner"].clone()
    with pytest.warns(UserWarning, match="state 'preconditioner' of Foreign is unknown to regrow and stays as it is"):
        reset_optimizer_state(optimizer, model[0], step=False)
    state = optimizer.state[model[0].weight]
    assert not state["exp_avg"].any() and torch.equal(state["preconditioner"], before)
    assert optimizer.state[model[3].weight]["exp_avg"].any() and optimizer.param_groups[0]["step"] == 3


def test_a_wrapper_with_the_state_of_another_optimizer() -> None:
    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

        state = property(lambda self: self.optimizer.state)  # type: ignore[assignment]
        param_groups = property(lambda self: self.optimizer.param_groups)  # type: ignore[assignment]

    model = mlp()
    optimizer = torch.optim.Adagrad(model.parameters(), initial_accumulator_value=0.5)
    train(model, optimizer, range(3))
    reset_optimizer_state(Wrapper(optimizer))
    assert all((state["sum"] == 0.5).all() for state in optimizer.state.values())
