"""Claim: a maintainer whose optimizer trains no longer says so, and moves over."""

import gc

import pytest
import torch
from models import mlp, same, train, weights
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks

import regrow

TAKEN_OVER = "SWR does nothing at present: another optimizer, of type Adam, made 3 steps in a row"


def swr(model: nn.Module, **more) -> regrow.Maintainer:
    return regrow.SWR(model, every=2, factor=0.1, seed=0, **more)


def adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def test_three_steps_of_a_new_optimizer_are_noticed_and_attach_moves_over() -> None:
    model = mlp()
    maintainer = swr(model).attach(adam(model))
    opt = adam(model)
    train(model, opt, range(2))
    assert "not been heard of" not in repr(maintainer) and "steps_elsewhere" not in maintainer.report()
    with pytest.warns(UserWarning, match=TAKEN_OVER):
        train(model, opt, range(2, 3))
    train(model, opt, range(3, 5))  # once
    assert maintainer.report()["steps"] == 0 and maintainer.report()["steps_elsewhere"] == 5
    assert "attached to Adam, which has not been heard of for 5 steps" in repr(maintainer)
    assert maintainer.attach(opt) is maintainer
    train(model, opt, range(5, 9))
    assert maintainer.report()["renewals"] == 2 and "steps_elsewhere" not in maintainer.report()


def test_an_optimizer_initialised_again_has_lost_its_hooks() -> None:
    model = mlp()
    opt = adam(model)
    maintainer = swr(model).attach(opt)
    train(model, opt, range(2))
    opt.__init__(model.parameters(), lr=0.01)
    with pytest.warns(UserWarning, match="SWR does nothing at present: its hooks are gone from the optimizer"):
        train(model, opt, range(2, 3))
    train(model, opt, range(3, 4))
    assert maintainer.report()["steps"] == 2 and maintainer.report()["steps_elsewhere"] == 2
    maintainer.attach(opt)
    train(model, opt, range(4, 6))
    assert maintainer.report()["steps"] == 4


def test_one_attached_after_it_was_initialised_again_works() -> None:
    model = mlp()
    opt = adam(model)
    gone = swr(model).attach(opt)
    opt.__init__(model.parameters(), lr=0.01)
    new = regrow.ShrinkPerturb(model, shrink=0.1, seed=0).attach(opt)
    train(model, opt, range(2))
    assert new.report()["steps"] == 2 and gone.report()["steps"] == 2, "the hooks serve both again"


def test_an_optimizer_of_other_parameters_is_none_of_its_business() -> None:
    model = nn.ModuleDict({"actor": mlp(0), "critic": mlp(1)})
    actor, critic = adam(model["actor"]), adam(model["critic"])
    maintainer = swr(model, only="actor").attach(actor)
    train(model["critic"], critic, range(6))
    assert "steps_elsewhere" not in maintainer.report()
    with pytest.raises(RuntimeError, match="is attached already: detach"):
        maintainer.attach(critic)


def test_alternating_and_inner_optimizers_never_count() -> None:
    model = mlp()
    one, two = adam(model), torch.optim.SGD(model.parameters(), lr=0.1)
    maintainer = swr(model).attach(one)
    for step in range(12):
        train(model, two if step % 3 else one, range(step, step + 1))
    assert "steps_elsewhere" not in maintainer.report()

    class Wrapper(torch.optim.Optimizer):
        """Three steps of another optimizer inside each of its own."""

        def __init__(self, params) -> None:
            super().__init__(params, {"lr": 0.1})
            self.inside = torch.optim.SGD(self.param_groups, lr=0.1)

        def step(self, closure=None):
            for _ in range(4):
                self.inside.step()

    maintainer.detach()
    wrapper = Wrapper(model.parameters())
    maintainer.attach(wrapper)
    train(model, wrapper, range(6))
    assert "steps_elsewhere" not in maintainer.report() and maintainer.report()["steps"] == 10


def test_a_new_one_of_all_parameters_may_be_attached_at_once() -> None:
    model = mlp()
    maintainer = swr(model).attach(adam(model))
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    maintainer.attach(opt)
    train(model, opt, range(2))
    assert maintainer.report()["renewals"] == 1


def test_detach_leaves_no_hook_behind() -> None:
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    gc.collect()
    before = len(_global_optimizer_post_hooks)
    makers = (
        swr,
        lambda m: regrow.ReDo(m, every=1, threshold=0.5),
        lambda m: regrow.ContinualBackprop(m, replacement_rate=0.1, maturity=0, decay=0.9),
    )
    maintainers = [make(model).attach(opt) for make in makers]
    train(model, opt, range(2))
    for maintainer in maintainers:
        maintainer.detach()
    assert not opt._optimizer_step_pre_hooks and not opt._optimizer_step_post_hooks
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(w._backward_hooks or w._post_accumulate_grad_hooks for w in model.parameters())
    assert len(_global_optimizer_post_hooks) <= before
    assert not [name for name in vars(opt) if "regrow" in name]


@pytest.mark.parametrize("by_hand", [False, True])
def test_after_detach_it_goes_on_where_it_was(by_hand: bool) -> None:
    runs = []
    for pause in (False, True):
        model = mlp()
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        redo = regrow.ReDo(model, every=2, threshold=0.5, seed=0).attach(opt)
        train(model, opt, range(2))
        if pause or by_hand:
            redo.detach()
        if by_hand:
            train(model, opt, range(2, 6), redo.step if pause else redo.step)
        else:
            redo.attach(opt) if pause else None
            train(model, opt, range(2, 6))
        runs.append((weights(model), redo.report()))
    assert same(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1] and runs[0][1]["renewals"] == 3


def test_covers_says_which_optimizer_attach_takes() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    own, other = torch.optim.SGD(model.parameters()), torch.optim.SGD(nn.Linear(2, 2).parameters())
    head = torch.optim.SGD(model[2].parameters())
    for kept in (regrow.SWR(model, every=1, factor=0.1), regrow.ReDo(model, every=1, threshold=0.1)):
        assert kept.covers(own) and not kept.covers(other) and not kept.covers("adam")  # type: ignore[arg-type]
        assert kept.covers(head) == isinstance(kept, regrow.SWR)  # the units' incoming weights are not in it
        for optimizer in (other, head):
            if not kept.covers(optimizer):
                with pytest.raises(ValueError, match="holds none of the maintained parameters"):
                    kept.attach(optimizer)
