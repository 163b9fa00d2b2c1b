"""After a reset an optimizer steps as a new one, bit for bit; in part it forgets what it is told to, and no more."""

import copy
import io
import re
import warnings

import pytest
import torch
from models import backward, mlp, same, train, weights
from torch import Tensor, nn

import regrow
from regrow import optimizer_state, reset_optimizer_state

KINDS = {
    "sgd": (torch.optim.SGD, {"lr": 0.01}),
    "sgd-momentum": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "dampening": 0.5}),
    "sgd-nesterov": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "sgdw": (regrow.SGDW, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {"lr": 1e-2}),
    "adam-amsgrad": (torch.optim.Adam, {"lr": 1e-2, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2}),
    "nadam": (torch.optim.NAdam, {"lr": 1e-2}),
    "radam": (torch.optim.RAdam, {"lr": 1e-2}),
    "adamax": (torch.optim.Adamax, {"lr": 1e-2}),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0}),
    "adagrad": (torch.optim.Adagrad, {"lr": 1e-2, "initial_accumulator_value": 0.3, "lr_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-2, "momentum": 0.9, "centered": True}),
    "rprop": (torch.optim.Rprop, {"lr": 1e-2}),
    "asgd": (torch.optim.ASGD, {"lr": 1e-2, "t0": 2, "lambd": 0.1}),
    "lbfgs": (torch.optim.LBFGS, {"lr": 0.1, "max_iter": 3}),
    "adafactor": (torch.optim.Adafactor, {"lr": 1e-2}),
}
if hasattr(torch.optim, "Muon"):
    KINDS["muon"] = (torch.optim.Muon, {"lr": 1e-2})
FUSED = ("sgd-momentum", "adam", "adam-amsgrad", "adamw", "adagrad")
PLAIN = ("lbfgs", "muon")
CASES = [
    *((name, {}) for name in PLAIN),
    *((name, {"foreach": foreach}) for name in KINDS if name not in PLAIN for foreach in (True, False)),
    *((name, {"fused": True}) for name in FUSED),
]


def build(name: str, model: nn.Module, **flags: bool) -> torch.optim.Optimizer:
    kind, options = KINDS[name]
    return kind([p for p in model.parameters() if p.dim() == 2 or name != "muon"], **options, **flags)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        if isinstance(optimizer, torch.optim.LBFGS):

            def closure(step: int = step) -> Tensor:
                backward(model, step)
                return sum(p.grad.square().sum() for p in model.parameters())  # type: ignore[return-value]

            optimizer.step(closure)
        else:
            train(model, optimizer, range(step, step + 1))


def tensors(optimizer: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    return [
        {key: torch.as_tensor(value).clone() for key, value in optimizer.state[p].items() if value is not None}
        for group in optimizer.param_groups
        for p in group["params"]
        if p in optimizer.state and not isinstance(optimizer, torch.optim.LBFGS)
    ]


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


# What may be given.


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
