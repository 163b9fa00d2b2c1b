"""SGDW in use: it groups, saves, loads, schedules, scales and compiles like torch's own; bad arguments are refused."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from steps import give_gradients, parameters, run_pair, same_bits
from torch import nn

import regrow

# Groups


def test_groups_have_their_own_options():
    p = parameters(torch.float64, ((4,),) * 3)
    opt = regrow.SGDW([{"params": p[:1]}, {"params": p[1:2], "weight_decay": 0.0}], 0.1, weight_decay=0.5)
    opt.add_param_group({"params": p[2:], "decay": "constant", "lr": 0.2})
    before = [x.detach().clone() for x in p]
    for x in p:
        x.grad = torch.zeros_like(x)
    opt.step()
    for x, x0, factor in zip(p, before, (0.95, 1.0, 0.5), strict=True):
        torch.testing.assert_close(x.detach(), factor * x0)


def test_named_parameters():
    model = nn.Linear(2, 2)
    opt = regrow.SGDW(model.named_parameters(), 0.1)
    assert opt.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


# Saving


def saved(state):
    """A state dict that went through a file, read without unpickling code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("lr", (0.05, torch.tensor(0.05)), ids=("number", "tensor"))
def test_saved_and_loaded_in_mid_run_it_continues_to_the_bit(lr):
    p = parameters()
    opt = regrow.SGDW(p, copy.copy(lr), 0.9, 0.1, decay="constant", nesterov=True)
    for step in range(3):
        give_gradients(p, seed=step)
        opt.step()
    q = [nn.Parameter(x.detach().clone()) for x in p]
    other = regrow.SGDW(q, 1.0)
    other.load_state_dict(saved(opt.state_dict()))
    assert other.param_groups[0]["decay"] == "constant"
    assert run_pair(opt, other, p, q)


@pytest.mark.parametrize("clone", (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))), ids=("deepcopy", "pickle"))
def test_copies_continue_to_the_bit(clone):
    p = parameters()
    opt = regrow.SGDW(p, 0.05, 0.9, 0.1)
    give_gradients(p)
    opt.step()
    q, other = clone((p, opt))
    assert run_pair(opt, other, p, q)


def test_a_checkpoint_of_torch_sgd_continues_here():
    p, q = parameters(), parameters()
    sgd, ours = torch.optim.SGD(p, 0.05, 0.9), regrow.SGDW(q, 1.0)
    give_gradients(p)
    sgd.step()
    ours.load_state_dict(saved(sgd.state_dict()))
    assert ours.param_groups[0]["decay"] == "lr"
    with torch.no_grad():
        for x, y in zip(p, q, strict=True):
            y.copy_(x)
    assert run_pair(sgd, ours, p, q)


# Schedules, scaling, compiling


@pytest.mark.parametrize("tensor_lr", (False, True))
def test_one_cycle_cycles_the_momentum(tensor_lr):
    p, q = parameters(), parameters()
    ours = regrow.SGDW(p, torch.tensor(0.1) if tensor_lr else 0.1, momentum=0.9)
    theirs = torch.optim.SGD(q, torch.tensor(0.1) if tensor_lr else 0.1, momentum=0.9)
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20, anneal_strategy="linear") for o in (ours, theirs)
    ]
    seen = []
    for step in range(19):
        give_gradients(p, q, seed=step)
        seen.append(ours.param_groups[0]["momentum"])
        for o, schedule in zip((ours, theirs), schedules, strict=True):
            o.step()
            schedule.step()
        for x, y in zip(p, q, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5 if tensor_lr else 0, atol=1e-6 if tensor_lr else 0)
    assert max(seen) == pytest.approx(0.95) and min(seen) == pytest.approx(0.85)


def test_grad_scaler_on_cpu_skips_the_whole_step():
    p, q = parameters(), parameters()
    scaled, plain = regrow.SGDW(p, 0.1, 0.9, 0.5), regrow.SGDW(q, 0.1, 0.9, 0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(4):
        give_gradients(p, q, seed=step)
        for x in p:
            x.grad.mul_(float(scaler.scale(torch.tensor(1.0))))  # powers of 2: exact
        if step == 2:
            p[0].grad[0] = torch.inf
        else:
            plain.step()
        scaler.step(scaled)
        scaler.update()
        assert same_bits(p, q)


@pytest.mark.parametrize("tensor_lr", (False, True))
def test_compiled_step(tensor_lr):
    torch._dynamo.reset()
    p, q = parameters(), parameters()
    lr = torch.tensor(0.05) if tensor_lr else 0.05
    compiled, plain = (regrow.SGDW(x, lr, 0.9, 0.1, nesterov=True) for x in (p, q))
    step = torch.compile(compiled.step, backend="aot_eager", fullgraph=True)
    for seed in range(4):
        give_gradients(p, q, seed=seed)
        step()
        plain.step()
    for x, y in zip(p, q, strict=True):
        torch.testing.assert_close(x, y)


# Refusals

BAD = {
    "lr": (
        (-0.1, ValueError, "`lr` must be finite and at least 0 (the step size; to ascend set maximize=True); got -0.1"),
        (float("nan"), ValueError, "`lr` must be finite"),
        ("fast", TypeError, "`lr` must be a number (the step size; to ascend set maximize=True); got 'fast'"),
        (torch.ones(2), ValueError, "a tensor `lr` must hold one real number; got torch.float32 of shape (2,)"),
        (torch.tensor(-1.0), ValueError, "`lr` must be finite and at least 0"),
    ),
    "momentum": (
        (1.5, ValueError, "`momentum` must be in [0, 1] (the share of the last direction that stays); got 1.5"),
        (-0.5, ValueError, "`momentum` must be in [0, 1]"),
        (None, TypeError, "`momentum` must be a number"),
    ),
    "weight_decay": (
        (-1, ValueError, "`weight_decay` must be finite and at least 0 (decay per unit of lr)"),
        (True, TypeError, "`weight_decay` must be a number"),
    ),
    "decay": (("l2", ValueError, "`decay` must be one of 'lr', 'constant'; got 'l2'"),),
    "nesterov": (
        (True, ValueError, "`nesterov=True` needs `momentum` > 0; got 0: set momentum=0.9, or nesterov=False"),
        ("yes", TypeError, "`nesterov` must be True or False; got 'yes'"),
    ),
    "maximize": ((1, TypeError, "`maximize` must be True or False; got 1"),),
    "foreach": (("no", TypeError, "`foreach` must be True, False or None; got 'no'"),),
}


@pytest.mark.parametrize("name, value, error, text", [(name, *case) for name, cases in BAD.items() for case in cases])
def test_bad_options_are_refused_in_one_line(name, value, error, text):
    p = parameters()
    with pytest.raises(error) as caught:
        regrow.SGDW(p, **{"lr": 0.1, name: value})
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)
    opt = regrow.SGDW(p[:1], 0.1)
    with pytest.raises(error):
        opt.add_param_group({"params": p[1:], name: value})
    assert len(opt.param_groups) == 1


def test_a_constant_decay_above_one_is_refused():
    with pytest.raises(ValueError, match=r"`weight_decay` must be in \[0, 1\] \(the share lost .*\); got 1.5"):
        regrow.SGDW(parameters(), 0.1, weight_decay=1.5, decay="constant")
    regrow.SGDW(parameters(), 0.1, weight_decay=1.5)


def test_sparse_and_complex_gradients_are_refused():
    table = nn.Embedding(5, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    before = table.weight.detach().clone()
    with pytest.raises(TypeError, match=r"dense real gradients; got torch.sparse_coo.*\(5, 2\): use sparse=False"):
        regrow.SGDW(table.parameters(), 0.1).step()
    assert torch.equal(table.weight, before)
    w = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    w.grad = torch.ones_like(w)
    with pytest.raises(TypeError, match="dense real gradients; got torch.strided, torch.complex64"):
        regrow.SGDW([w], 0.1).step()


def test_every_option_of_the_contract_is_there():
    opt = regrow.SGDW(parameters(), 0.1)
    names = ("lr", "momentum", "weight_decay", "decay", "nesterov", "maximize", "foreach")
    assert set(itertools.chain(*opt.param_groups)) >= set(names)
    with pytest.raises(TypeError):
        regrow.SGDW(parameters(), 0.1, 0.9, 0.1, "constant")  # keyword only
