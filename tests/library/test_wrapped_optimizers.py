"""Claim: hooks sit where a step ends with the final weights, and memory is cleared where it lies."""

import warnings

import pytest
import torch
from models import backward, mlp, same, train, weights
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from wrapped import SAM, Accelerated, Lookahead, adam

import regrow


def swr(model: nn.Module, **more) -> regrow.Maintainer:
    return regrow.SWR(model, every=2, factor=0.3, utility="random", prune="proportional", reinit="mean", seed=0, **more)


def renewed(model: nn.Module, opt: object, step: int, maintainer: regrow.Maintainer) -> dict[str, torch.Tensor]:
    """Masks of what a step renews: with reinit="mean" exactly what is 0 afterwards (what is 1 in a norm's scale)."""
    backward(model, step)
    opt.step()
    return {name: w.detach() == 0 for name, w in model.named_parameters() if name in ("0.weight", "3.weight")}


@pytest.mark.parametrize("wrap", [Accelerated, Lookahead], ids=["accelerate", "lookahead"])
def test_wrappers_without_hooks_are_reached_through(wrap) -> None:
    model = mlp()
    inner = adam(model)
    outer = wrap(inner)
    maintainer = swr(model).attach(outer)
    assert "attached to Adam" in repr(maintainer)
    backward(model, 0)
    outer.step()
    masks = renewed(model, outer, 1, maintainer)
    for name, mask in masks.items():
        state = inner.state[dict(model.named_parameters())[name]]
        assert 0.2 < mask.float().mean() < 0.4 and (state["exp_avg"][mask] == 0).all()
    maintainer.detach()
    assert not inner._optimizer_step_post_hooks


def test_a_step_that_accelerate_leaves_out_does_not_count() -> None:
    model = mlp()
    outer = Accelerated(adam(model))
    maintainer = swr(model).attach(outer)
    for step in range(6):
        outer.skips = step % 2 == 0
        train(model, outer, range(step, step + 1))
    assert maintainer.report()["steps"] == 3


def test_lookaheads_slow_copy_of_renewed_entries_is_new_too() -> None:
    model = mlp()
    outer = Lookahead(adam(model), k=3)
    maintainer = swr(model).attach(outer)
    backward(model, 0)
    outer.step()
    masks = renewed(model, outer, 1, maintainer)
    for name, mask in masks.items():
        slow = outer.state[dict(model.named_parameters())[name]]["slow_param"]
        assert (slow[mask] == 0).all() and not (slow[~mask] == 0).any()


@pytest.mark.parametrize("whole", [True, False], ids=["step(closure)", "first_step, second_step"])
def test_sam_is_followed_at_its_base(whole: bool) -> None:
    model = mlp()
    opt = SAM(model.parameters(), torch.optim.Adam, lr=0.01)
    maintainer = swr(model).attach(opt)
    for step in range(2):
        backward(model, step)
        if whole:
            opt.step(lambda step=step: backward(model, step))
        else:
            opt.first_step()
            backward(model, step)
            opt.second_step()
    assert maintainer.report()["steps"] == 2 and maintainer.report()["renewals"] == 1
    mask = model[0].weight.detach() == 0
    assert 0.2 < mask.float().mean() < 0.4
    assert (opt.base_optimizer.state[model[0].weight]["exp_avg"][mask] == 0).all()


def test_zero_keeps_its_moments_in_an_inner_optimizer(tmp_path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = mlp()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opt = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=0.01)
        maintainer = swr(model).attach(opt)
        assert "attached to ZeroRedundancyOptimizer" in repr(maintainer)
        backward(model, 0)
        opt.step()
        for name, mask in renewed(model, opt, 1, maintainer).items():
            state = opt.optim.state[dict(model.named_parameters())[name]]
            assert 0.2 < mask.float().mean() < 0.4 and (state["exp_avg"][mask] == 0).all()
    finally:
        torch.distributed.destroy_process_group()


def test_lbfgs_begins_anew_where_something_was_renewed() -> None:
    model, fresh = mlp(dtype=torch.float64), mlp(dtype=torch.float64)
    opt = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    maintainer = swr(model).attach(opt)

    def closure(net: nn.Module, step: int):
        def run() -> torch.Tensor:
            backward(net, step)
            return torch.tensor(float(step))

        return run

    for step in range(2):
        opt.step(closure(model, step))
    assert maintainer.report()["renewals"] == 1 and not opt.state[model[0].weight]
    fresh.load_state_dict(model.state_dict())
    new = torch.optim.LBFGS(fresh.parameters(), lr=0.1, max_iter=3)
    maintainer.detach()
    opt.step(closure(model, 2))
    new.step(closure(fresh, 2))
    assert same(weights(model), weights(fresh)), "the next step is a first one"


def test_factored_moments_are_named_once() -> None:
    model = mlp()
    opt = torch.optim.Adafactor(model.parameters(), lr=0.01)
    swr(model).attach(opt)
    backward(model, 0)
    opt.step()
    backward(model, 1)
    with pytest.warns(UserWarning) as told:
        opt.step()
    assert sorted(str(w.message).split("'")[1] for w in told) == ["col_var", "row_var"]
    assert all("factored or rotated" in str(w.message) for w in told)
    train(model, opt, range(2, 6))


class Blocks(torch.Tensor):
    """Stands for state in blocks of 8 bits, as torchao keeps it."""

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise NotImplementedError(function)


@pytest.mark.parametrize("method", ["swr", "redo"])
def test_state_of_a_kind_of_its_own_is_refused_before_a_weight_is_changed(method: str) -> None:
    model, before = mlp(), {}
    opt = adam(model)

    def quantise(optimizer, args, kwargs) -> None:
        before.update(weights(model))
        for state in optimizer.state.values():
            state["exp_avg"] = torch.Tensor._make_subclass(Blocks, state["exp_avg"])

    opt.register_step_post_hook(quantise)
    if method == "swr":
        regrow.SWR(model, every=1, factor=0.5, seed=0).attach(opt)
    else:
        regrow.ReDo(model, every=1, threshold=0.9, seed=0).attach(opt)
    backward(model, 0)
    with pytest.raises(TypeError, match="'exp_avg' of '0.weight' cannot be cleared because it is a Blocks"):
        opt.step()
    assert same(before, weights(model))


def test_what_is_no_optimizer_and_has_none_inside_is_refused() -> None:
    with pytest.raises(TypeError, match=r"attach takes a torch.optim.Optimizer; got object: call step\(\)"):
        swr(mlp()).attach(object())
