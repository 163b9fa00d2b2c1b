"""Claim: an update without signal renews nothing, and a step without lr and gradient is no update at all."""

import pytest
import torch
from models import backward, mlp, same, train, weights
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

import regrow
from regrow.methods import REGISTRY, SWR, StackedMethod

MAKERS = {
    "swr": lambda model, **more: regrow.SWR(model, every=1, factor=0.1, seed=0, **more),
    "cbp": lambda model, **more: regrow.ContinualBackprop(model, replacement_rate=0.2, maturity=0, seed=0, **more),
    "redo": lambda model, **more: regrow.ReDo(model, every=1, threshold=0.5, seed=0, **more),
    "shrink-perturb": lambda model, **more: regrow.ShrinkPerturb(
        model, shrink=0.1, noise_variance=0.01, seed=0, **more
    ),
}
every_method = pytest.mark.parametrize("name", MAKERS)


def test_every_method_is_tested() -> None:
    assert MAKERS.keys() <= REGISTRY.keys()


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def loss(model: nn.Module) -> torch.Tensor:
    return model(torch.randn(5, 8)).square().mean()


# An update without signal.


@pytest.mark.filterwarnings("ignore:SWR renews nothing at an update without signal")
@pytest.mark.parametrize("attached", [True, False])
@pytest.mark.parametrize("prune", ["threshold", "proportional"])
def test_a_loss_times_zero_renews_nothing(attached: bool, prune: str) -> None:
    model = small()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    swr = regrow.SWR(model, every=5, factor=1e-5 if prune == "threshold" else 0.5, prune=prune, seed=0)
    if attached:
        swr.attach(opt)
    for step in range(10):
        opt.zero_grad()
        (loss(model) * (0.0 if step in (4, 9) else 1.0)).backward()
        before = weights(model)
        opt.step()
        if not attached:
            swr.step()
        assert same(before, weights(model)) == (step in (4, 9))
    report = swr.report()
    assert report["skipped_no_signal"] == 2 and report["renewals"] == 0 and report["steps"] == 10


def test_it_is_warned_once() -> None:
    model = small()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    swr = regrow.SWR(model, every=2, factor=1e-5, seed=0).attach(opt)
    loss(model).backward()
    opt.step()
    opt.zero_grad()
    (loss(model) * 0.0).backward()
    before = weights(model)
    with pytest.warns(UserWarning, match="SWR renews nothing at an update without signal.*at step 2"):
        opt.step()
    opt.step()
    opt.step()  # is due again: warnings are errors here
    assert same(before, weights(model)) and swr.report()["skipped_no_signal"] == 2


def test_without_an_optimizer_all_of_the_model_counts() -> None:
    model = nn.ModuleDict({"dead": nn.Linear(3, 2), "alive": nn.Linear(3, 2)})
    swr = regrow.SWR(model, every=2, factor=1e-5, only="dead", seed=0)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    swr.step()
    for p in model["dead"].parameters():
        p.grad.zero_()
    swr.step()
    assert swr.report()["renewed_last"] == 8, "a single dead tensor is renewed whole"


@pytest.mark.parametrize("only", [None, "dead.*"])
def test_a_single_dead_tensor_is_renewed_whole(only: str | None) -> None:
    model = nn.ModuleDict({"dead": nn.Linear(3, 2), "alive": nn.Linear(3, 2)})
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    swr = regrow.SWR(model, every=1, factor=1e-9, only=only, seed=0).attach(opt)
    (model["alive"](torch.ones(1, 3)).sum() + 0.0 * model["dead"](torch.ones(1, 3)).sum()).backward()
    opt.step()
    assert swr.report()["renewed_last"] == 8 and swr.report()["skipped_no_signal"] == 0


def test_what_goes_by_no_gradient_needs_no_signal() -> None:
    model = small()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    swr = regrow.SWR(model, every=1, factor=0.25, utility="magnitude", prune="proportional", seed=0).attach(opt)
    (loss(model) * 0.0).backward()
    opt.step()
    assert swr.report()["renewals"] == 1


def test_it_is_judged_for_each_member_of_a_stack() -> None:
    from regrow.lab.nets import MLP
    from regrow.lab.stack import StackedMLP

    def gradients(zero: int | None) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        found = {n: torch.randn(w.shape, generator=generator) for n, w in stack.parameters.items()}
        for g in found.values():
            if zero is not None:
                g[zero] = 0
        return found

    masks = []
    for zero in (None, 1):
        torch.manual_seed(0)
        stack = StackedMLP(MLP(hidden=4, inputs=6), 3)
        before = {name: w.clone() for name, w in stack.parameters.items()}
        swr = StackedMethod([SWR(every=1, factor=0.5)] * 3, [0, 1, 2], [0, 1, 2])
        fired = swr.renew(1, stack, gradients(zero), [0, 1, 2])
        masks.append([{n: w[i] != before[n][i] for n, w in stack.parameters.items()} for i in range(3)])
        assert fired.tolist() == [True, zero is None, True]
        assert swr.counters.skipped_no_signal == (0 if zero is None else 1)
    assert not any(mask.any() for mask in masks[1][1].values())
    for i in (0, 2):  # neighbours are as they were
        assert all(torch.equal(mask, masks[0][i][name]) for name, mask in masks[1][i].items())


# A step that is none.


@every_method
def test_a_distributed_checkpoint_steps_the_optimizer_without_an_update(name: str) -> None:
    model, other = small(), small()
    opt = torch.optim.Adam(model.parameters(), lr=0.1)
    maintainer = MAKERS[name](model).attach(opt)
    before = weights(model)
    state = get_optimizer_state_dict(model, opt)
    assert same(before, weights(model)) and maintainer.report()["steps"] == 0
    new = torch.optim.Adam(other.parameters(), lr=0.1)
    again = MAKERS[name](other).attach(new)
    before = weights(other)
    set_optimizer_state_dict(other, new, state)
    assert same(before, weights(other)) and again.report()["steps"] == 0
    loss(model).backward()
    opt.step()
    assert maintainer.report()["steps"] == 1


@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)], ids=["number", "tensor"])
@every_method
def test_no_lr_and_no_gradient_is_no_update(name: str, lr: float | torch.Tensor) -> None:
    model = small()
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    maintainer = MAKERS[name](model, **({} if name == "shrink-perturb" else {"optimizer": opt}))
    if name == "shrink-perturb":
        maintainer.attach(opt)
    loss(model).backward()
    before = weights(model)
    for zero in (torch.zeros_like, lambda p: None):
        for p in model.parameters():
            p.grad = zero(p)
        opt.step()
        if name in ("cbp", "redo"):
            maintainer.step()
    assert same(before, weights(model)) and maintainer.report()["steps"] == 0


@every_method
def test_a_linear_warm_up_from_zero_counts(name: str) -> None:
    model = small()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: step / 3)
    maintainer = MAKERS[name](model).attach(opt)
    for _ in range(4):
        opt.zero_grad()
        loss(model).backward()
        opt.step()
        schedule.step()
    assert maintainer.report()["steps"] == 4
    assert maintainer.report()["skipped_no_grad"] == {"cbp": 1, "redo": 1}.get(name, 4)  # the first, at lr 0


@every_method
def test_a_group_of_lr_zero_is_left_alone_and_counted(name: str) -> None:
    model = mlp()
    opt = torch.optim.SGD([{"params": model[:4].parameters(), "lr": 0.0}, {"params": model[5].parameters()}], lr=0.1)
    maintainer = MAKERS[name](model).attach(opt)
    before = weights(model)
    train(model, opt, range(3))
    after = weights(model)
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith("5"))
    assert maintainer.report()["skipped_no_grad"] > 0
    backward(model, 3)


# A gradient that the optimizer changes.


@pytest.mark.parametrize("beside_another", [False, True])
def test_utilities_are_of_the_gradient_of_the_loss_where_the_step_changes_it(beside_another: bool) -> None:
    """Nesterov's momentum of several tensors at once is added to `.grad` itself."""
    renewed = {}
    for foreach in (False, True):
        model = small()
        opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, foreach=foreach)
        swr = regrow.SWR(model, every=3, factor=1e-5, seed=0).attach(opt)
        if beside_another:
            regrow.L2Init(model, strength=0.01).attach(opt)
        for step in range(6):
            x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
            x[:, 4:] *= step % 3 != 2  # dark at the updates that are due
            opt.zero_grad()
            model(x).square().mean().backward()
            expected = [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
            opt.step()
            if step % 3 == 2:
                assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), expected))  # type: ignore[arg-type]
        renewed[foreach] = swr.report()
    assert renewed[False]["share_last"] == renewed[True]["share_last"] > 0.3
