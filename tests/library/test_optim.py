"""SGDW: what is claimed.

Its steps are those of a scalar loop written from the definition; without decay it is torch.optim.SGD and with decay
timm's SGDW, to the bit; the decay is decoupled (never in the momentum), scaled by the step size or not as asked; one
tensor at a time or many give the same bits; gradients stay as they are.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from steps import DTYPES, SHAPES, give_gradients, parameters, run_pair, same_bits
from torch import nn

import regrow

# The slow loop twin: one number at a time, from the definition.


def twin_step(theta, b, g, *, lr, momentum, weight_decay, decay, nesterov, maximize):
    g = -g if maximize else g
    theta = (1 - (lr * weight_decay if decay == "lr" else weight_decay)) * theta
    if momentum == 0:
        return theta - lr * g, b
    b = g if b is None else momentum * b + g
    return theta - lr * (g + momentum * b if nesterov else b), b


@given(
    lr=st.floats(0, 2),
    momentum=st.sampled_from((0.0, 0.5, 0.99)),
    weight_decay=st.floats(0, 1),
    decay=st.sampled_from(("lr", "constant")),
    nesterov=st.booleans(),
    maximize=st.booleans(),
    foreach=st.sampled_from((None, True, False)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_loop_twin(lr, momentum, weight_decay, decay, nesterov, maximize, foreach, seed):
    options = {"momentum": momentum, "weight_decay": weight_decay, "decay": decay, "maximize": maximize}
    options["nesterov"] = nesterov and momentum > 0
    p = parameters(torch.float64, seed=seed)
    opt = regrow.SGDW(p, lr, foreach=foreach, **options)
    theta = [x for q in p for x in q.flatten().tolist()]
    b = [None] * len(theta)
    for step in range(6):
        give_gradients(p, seed=seed + step)
        opt.param_groups[0]["lr"] = lr / (1 + step)
        opt.step()
        g = [x for q in p for x in q.grad.flatten().tolist()]
        pairs = [twin_step(*entry, lr=lr / (1 + step), **options) for entry in zip(theta, b, g, strict=True)]
        theta, b = [t for t, _ in pairs], [m for _, m in pairs]
        ours = torch.cat([q.detach().flatten() for q in p])
        torch.testing.assert_close(ours, torch.tensor(theta, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}), ids=str)
@pytest.mark.parametrize("maximize", (False, True))
@pytest.mark.parametrize("foreach", (False, True))
def test_without_decay_it_is_torch_sgd(dtype, options, maximize, foreach):
    p, q = parameters(dtype), parameters(dtype)
    ours = regrow.SGDW(p, 0.05, maximize=maximize, foreach=foreach, **options)
    theirs = torch.optim.SGD(q, 0.05, maximize=maximize, foreach=False, **options)
    assert run_pair(ours, theirs, p, q)
    if options:
        assert same_bits(*([o.state[x]["momentum_buffer"] for x in o.state] for o in (ours, theirs)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}), ids=str)
def test_decay_scaled_by_lr_has_the_numerics_of_timm(dtype, options):
    timm = pytest.importorskip("timm.optim.sgdw", reason="needs timm", exc_type=ImportError)
    p, q = parameters(dtype), parameters(dtype)
    ours = regrow.SGDW(p, 0.05, weight_decay=0.37, **options)
    theirs = timm.SGDW(q, 0.05, weight_decay=0.37, foreach=False, **options)
    assert run_pair(ours, theirs, p, q)


# Decay


def test_constant_decay_is_the_decoupled_shrink_of_adamw_and_ignores_the_schedule():
    p, q, r = (parameters(torch.float64) for _ in range(3))
    rate, lr = 1e-3, 0.05
    ours = regrow.SGDW(p, lr, 0.9, rate, decay="constant")
    adamw = torch.optim.AdamW(q, lr, weight_decay=rate / lr)
    scaled = regrow.SGDW(r, lr, 0.9, rate, decay="lr")
    start = [x.detach().clone() for x in p]
    for step in range(50):
        for x in (*p, *q, *r):
            x.grad = torch.zeros_like(x)
        ours.param_groups[0]["lr"] = scaled.param_groups[0]["lr"] = lr / (1 + step)
        for opt in (ours, adamw, scaled):
            opt.step()
    sizes = [lr / (1 + step) for step in range(50)]
    product = torch.tensor([1 - rate * size for size in sizes], dtype=torch.float64).prod()
    for x, y, z, x0 in zip(p, q, r, start, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=0)
        torch.testing.assert_close(x.detach(), (1 - rate) ** 50 * x0, rtol=1e-12, atol=0)
        torch.testing.assert_close(z.detach(), product * x0, rtol=1e-12, atol=0)


def test_decay_never_enters_the_momentum():
    p, q = parameters(), parameters()
    with_decay = regrow.SGDW(p, 0.05, 0.9, 0.5, decay="constant")
    without = regrow.SGDW(q, 0.05, 0.9)
    for step in range(5):
        give_gradients(p, q, seed=step)
        with_decay.step()
        without.step()
    buffers = [[o.state[x]["momentum_buffer"] for x in o.state] for o in (with_decay, without)]
    assert same_bits(*buffers) and not same_bits(p, q)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@pytest.mark.parametrize("foreach", (False, True))
def test_decay_is_rounded_once_in_half_precision(dtype, foreach):
    p = parameters(dtype, shapes=((1000,),))
    expected = (p[0].detach().float() * (1 - 0.05 * 0.37)).to(dtype)
    opt = regrow.SGDW(p, 0.05, weight_decay=0.37, foreach=foreach)
    p[0].grad = torch.zeros_like(p[0])
    opt.step()
    assert torch.equal(p[0].detach(), expected)


# One tensor at a time, or many


@pytest.mark.parametrize("momentum, nesterov", ((0.0, False), (0.9, False), (0.9, True)))
@pytest.mark.parametrize("decay", ("lr", "constant"))
@pytest.mark.parametrize("tensor_lr", (False, True))
def test_foreach_and_plain_give_the_same_bits(momentum, nesterov, decay, tensor_lr):
    lists = [[p for dtype in DTYPES for p in parameters(dtype)] for _ in range(2)]
    optimizers = [
        regrow.SGDW(
            p,
            torch.tensor(0.05) if tensor_lr else 0.05,
            momentum,
            0.3,
            decay=decay,
            nesterov=nesterov,
            foreach=foreach,
        )
        for p, foreach in zip(lists, (True, False), strict=True)
    ]
    assert run_pair(*optimizers, *lists)


@pytest.mark.parametrize("foreach, taken", ((True, [2, 3]), (False, [1] * 5), (None, [1] * 5)))
def test_foreach_takes_the_tensors_of_one_type_together(foreach, taken, monkeypatch):
    p = parameters(torch.float32, SHAPES[:2]) + parameters(torch.float64, SHAPES[2:])
    give_gradients(p)
    plain, lengths = torch._foreach_add_, []
    monkeypatch.setattr(torch, "_foreach_add_", lambda x, *a, **k: (lengths.append(len(x)), plain(x, *a, **k)))
    regrow.SGDW(p, 0.1, foreach=foreach).step()
    assert sorted(lengths) == taken


# The step size as a tensor


@pytest.mark.parametrize("shape", ((), (1,)))
def test_lr_may_be_a_tensor(shape):
    p, q = parameters(), parameters()
    lr = torch.full(shape, 0.05)
    ours, theirs = regrow.SGDW(p, lr, 0.9, 0.3), regrow.SGDW(q, 0.05, 0.9, 0.3)
    for step in range(12):
        give_gradients(p, q, seed=step)
        ours.step()
        theirs.step()
        lr.mul_(0.9)  # in place, as schedulers do
        theirs.param_groups[0]["lr"] *= 0.9
    for x, y in zip(p, q, strict=True):
        torch.testing.assert_close(x, y)


def test_a_tensor_lr_is_never_read():
    p = [nn.Parameter(torch.empty(3, device="meta"))]
    opt = regrow.SGDW(p, 0.1, 0.9, 0.1, nesterov=True)
    opt.param_groups[0]["lr"] = torch.tensor(0.1, device="meta")  # reading a meta tensor raises
    for _ in range(2):
        p[0].grad = torch.empty(3, device="meta")
        opt.step()
    assert opt.state[p[0]]["momentum_buffer"].is_meta


# What a step leaves alone


def test_parameters_without_gradient_are_untouched():
    p = parameters()
    opt = regrow.SGDW(p, 0.1, 0.9, 0.5)
    give_gradients(p)
    p[1].grad = None
    before = p[1].detach().clone()
    opt.step()
    assert torch.equal(p[1], before) and p[1] not in opt.state
    give_gradients(p, seed=1)  # its first gradient makes its buffer, beside older ones
    opt.step()
    assert torch.equal(opt.state[p[1]]["momentum_buffer"], p[1].grad)


@pytest.mark.parametrize("foreach", (False, True))
@pytest.mark.parametrize("maximize", (False, True))
def test_gradients_stay_as_they_are(foreach, maximize):
    p = parameters()
    opt = regrow.SGDW(p, 0.1, 0.9, 0.5, nesterov=True, foreach=foreach, maximize=maximize)
    give_gradients(p)  # the same tensors at every step: no buffer may be one of them
    before = [x.grad.clone() for x in p]
    for _ in range(3):
        opt.step()
        assert same_bits([x.grad for x in p], before)


def test_no_gradient_anywhere_is_a_step_that_does_nothing():
    p = parameters()
    before = [x.detach().clone() for x in p]
    for foreach in (None, False, True):
        regrow.SGDW(p, 0.1, 0.9, 0.5, foreach=foreach).step()
    assert same_bits(p, before)


def test_closure():
    w = nn.Parameter(torch.tensor(3.0))
    opt = regrow.SGDW([w], 0.5)

    def closure():
        opt.zero_grad()
        loss = w**2
        loss.backward()
        return loss

    with torch.no_grad():
        assert opt.step(closure) == 9.0
    assert w == 0.0
