"""Optimizer state of just the renewed entries, for every optimizer and implementation."""

import pytest
import torch
from models import mlp, train, weights
from torch import nn

import regrow
from regrow.maintain import moments

OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}, ["momentum_buffer"], []),
    "sgdw": (regrow.SGDW, {"lr": 0.01, "momentum": 0.9}, ["momentum_buffer"], []),
    "adam": (torch.optim.Adam, {"lr": 1e-3}, ["exp_avg"], ["exp_avg_sq"]),
    "adam-amsgrad": (torch.optim.Adam, {"lr": 1e-3, "amsgrad": True}, ["exp_avg"], ["exp_avg_sq", "max_exp_avg_sq"]),
    "adamw": (torch.optim.AdamW, {"lr": 1e-3}, ["exp_avg"], ["exp_avg_sq"]),
    "nadam": (torch.optim.NAdam, {"lr": 1e-3}, ["exp_avg"], ["exp_avg_sq"]),
    "radam": (torch.optim.RAdam, {"lr": 1e-3}, ["exp_avg"], ["exp_avg_sq"]),
    "adamax": (torch.optim.Adamax, {"lr": 1e-3}, ["exp_avg"], ["exp_inf"]),
    "rmsprop": (
        torch.optim.RMSprop,
        {"lr": 1e-3, "momentum": 0.9, "centered": True},
        ["momentum_buffer", "grad_avg"],
        ["square_avg"],
    ),
    "adagrad": (torch.optim.Adagrad, {"lr": 1e-2}, [], ["sum"]),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0}, [], ["square_avg", "acc_delta"]),
}
FUSED = {"sgd", "adam", "adam-amsgrad", "adamw", "adagrad"}
VARIANTS = [
    (name, variant)
    for name in OPTIMIZERS
    for variant in ("plain", "foreach", "fused", "capturable")
    if (variant != "fused" or name in FUSED) and (variant != "capturable" or name not in {"sgd", "sgdw", "adagrad"})
]


def build(name, variant, model):
    kind, options, first, second = OPTIMIZERS[name]
    flags = {"plain": {"foreach": False}}.get(variant, {variant: True})
    if variant == "capturable" and not torch.cuda.is_available():
        # The CPU has no capturable path; what it changes of the state is that `step` is a tensor, as set here.
        optimizer = kind(model.parameters(), **options)
        for group in optimizer.param_groups:
            assert "capturable" in group
        return optimizer, first, second
    return kind(model.parameters(), **options, **flags), first, second


@pytest.mark.parametrize("name, variant", VARIANTS)
def test_first_moments_zero_second_the_mean_of_the_kept(name, variant):
    model = mlp()
    optimizer, first, second = build(name, variant, model)
    swr = regrow.SWR(model, every=1, factor=0.3, clear_moments=True, seed=0, optimizer=optimizer)
    train(model, optimizer, range(5))
    before = {p: {k: v.clone() for k, v in s.items() if torch.is_tensor(v)} for p, s in optimizer.state.items()}
    masks = swr.preview()
    swr.step()
    partly = 0
    for key, w in model.named_parameters():
        mask, state = masks[key], optimizer.state[w]
        partly += bool(mask.any() and not mask.all())
        assert set(first + second) <= set(state)
        for moment in first:
            assert (state[moment][mask] == 0).all()
            assert torch.equal(state[moment][~mask], before[w][moment][~mask])
        for moment in second:
            was = before[w][moment]
            mean = (was if mask.all() else was[~mask]).mean()
            assert torch.allclose(state[moment][mask], mean.expand(int(mask.sum())), rtol=1e-5)
            assert torch.equal(state[moment][~mask], was[~mask])
        if "step" in before[w]:
            assert torch.equal(before[w]["step"], torch.as_tensor(state["step"]))
    assert partly >= 3


@pytest.mark.parametrize("how, expected", [("zero", 0.0), (False, None)])
def test_zero_and_off(how, expected):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    swr = regrow.SWR(model, every=1, factor=0.3, clear_moments=how, optimizer=optimizer)
    train(model, optimizer, range(3))
    masks, before = swr.preview(), optimizer.state[model[0].weight]["exp_avg_sq"].clone()
    swr.step()
    after = optimizer.state[model[0].weight]["exp_avg_sq"]
    if expected is None:
        assert torch.equal(before, after)
    else:
        assert (after[masks["0.weight"]] == 0).all()
        assert torch.equal(after[~masks["0.weight"]], before[~masks["0.weight"]])


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "radam", "rmsprop", "adagrad"])
def test_the_next_steps_of_a_renewed_entry_are_no_larger_than_its_neighbours(name):
    """Steps of entries of like gradients, over the 10 updates after a renewal in mid-training.

    With second moments zeroed instead the same entries move several times as far.
    """

    def mean_steps(clear_moments):
        torch.manual_seed(0)
        model = nn.Linear(40, 40, bias=False)
        optimizer, _, _ = build(name, "plain", model)
        swr = regrow.SWR(
            model, every=1, factor=0.3, utility="random", prune="proportional", clear_moments=clear_moments, seed=0,
            optimizer=optimizer,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(1)

        def update():
            model.weight.grad = torch.randn(40, 40, generator=generator)
            before = model.weight.detach().clone()
            optimizer.step()
            return (model.weight.detach() - before).abs()

        for _ in range(100):
            update()
        mask = swr.preview()["weight"]
        swr.step()
        moved = sum(update() for _ in range(10)) / 10
        return [float(m) for part in (moved[mask], moved[~mask]) for m in (part.mean(), part.max())]

    renewed, renewed_max, kept, kept_max = mean_steps(True)
    assert renewed <= kept * 1.05
    assert renewed_max <= kept_max * 1.5
    zeroed, _, kept, _ = mean_steps("zero")
    assert zeroed > 1.5 * kept


def test_a_tensor_renewed_whole_takes_the_mean_of_all():
    state = {"exp_avg_sq": torch.tensor([1.0, 3.0])}
    moments.clear(state, torch.tensor([True, True]))
    assert state["exp_avg_sq"].tolist() == [2.0, 2.0]


def test_the_step_count_of_a_scalar_parameter_is_no_moment():
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.Adam(model.parameters())
    swr = regrow.SWR(model, every=1, factor=1.0, laws={"scale": regrow.laws.Constant(1.0)}, optimizer=optimizer)
    model.scale.grad = torch.tensor(0.5)
    optimizer.step()
    swr.step()
    assert model.scale.item() == 1 and optimizer.state[model.scale]["step"] == 1
    assert optimizer.state[model.scale]["exp_avg"] == 0


def test_unknown_state_is_left_and_named_once():
    moments._warned.clear()
    state = {"ax": torch.ones(3)}
    with pytest.warns(UserWarning, match="optimizer state 'ax' is unknown to regrow and stays as it is"):
        moments.clear(state, torch.tensor([True, False, False]))
    moments.clear(state, torch.tensor([True, False, False]))  # warnings are errors here
    assert state["ax"].tolist() == [1, 1, 1]


def test_attach_makes_the_optimizer_known():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    regrow.SWR(model, every=3, factor=1e9, seed=0).attach(optimizer)
    train(model, optimizer, range(3))
    assert all((s["exp_avg"] == 0).all() and (s["exp_avg_sq"] == 0).all() for s in optimizer.state.values())
    assert len(weights(model)) == len(optimizer.state)
