"""Claim: with clear_moments="restart" a renewed entry moves as under a new optimizer, step by step."""

import copy

import pytest
import torch
from models import mlp, same, train, weights
from torch import nn

import regrow

KINDS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


def swr(model: nn.Module, **more) -> regrow.Maintainer:
    return regrow.SWR(model, every=9, factor=1.0, prune="proportional", clear_moments="restart", seed=0, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_all_entries_renewed_go_on_as_with_a_new_optimizer(kind: str) -> None:
    model, fresh = mlp(dtype=torch.float64), mlp(dtype=torch.float64)
    opt = KINDS[kind](model.parameters())
    swr(model).attach(opt)
    train(model, opt, range(9))
    fresh.load_state_dict(model.state_dict())
    new = KINDS[kind](fresh.parameters())
    for step in range(9, 17):
        train(model, opt, range(step, step + 1))
        train(fresh, new, range(step, step + 1))
        for name, w in weights(fresh).items():
            torch.testing.assert_close(weights(model)[name], w, rtol=1e-9, atol=1e-12)


def test_the_first_steps_of_new_entries_are_of_the_length_of_lr() -> None:
    lengths = {}
    for how in (True, "zero", "restart"):
        model = nn.Linear(50, 50)
        opt = torch.optim.Adam(model.parameters(), lr=0.01)
        regrow.SWR(model, every=300, factor=0.2, prune="proportional", clear_moments=how, seed=0).attach(opt)
        generator = torch.Generator().manual_seed(0)
        for step in range(301):
            for w in model.parameters():
                w.grad = torch.randn(w.shape, generator=generator)
            old = model.weight.detach().clone()
            opt.step()
            if step == 299:
                new = model.weight.detach() - old
                mask = new.abs() > 0.02
        lengths[how] = float((model.weight.detach() - old).abs()[mask].mean() / 0.01)
    assert lengths["restart"] == pytest.approx(1.0, rel=1e-3)
    assert lengths["zero"] > 1.5 and lengths[True] < 0.5


def test_it_is_stored_and_resumed() -> None:
    model, other = mlp(), mlp()
    opt = KINDS["adam"](model.parameters())
    maintainer = swr(model).attach(opt)
    train(model, opt, range(11))
    stored = {name: torch.clone(x) for name, x in maintainer.state_dict()["restarts"].items()}
    assert all((born == 9).all() for born in stored.values())
    other.load_state_dict(model.state_dict())
    new = KINDS["adam"](other.parameters())
    again = swr(other, state=maintainer.state_dict()).attach(new)
    new.load_state_dict(copy.deepcopy(opt.state_dict()))
    train(model, opt, range(11, 20))
    train(other, new, range(11, 20))
    assert same(weights(model), weights(other)) and again.report() == maintainer.report()


def test_what_counts_in_another_way_is_refused() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="`clear_moments='restart'` serves Adam, AdamW .*RAdam does"):
        swr(model).attach(torch.optim.RAdam(model.parameters()))
