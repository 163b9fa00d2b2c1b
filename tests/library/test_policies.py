"""Claim: rows that took no part, and zeros of sparse networks, can be kept; ties can go by position."""

import pytest
import torch
from models import mlp, with_gradients
from torch import nn

import regrow
from regrow import methods


def swr(model: nn.Module, **more) -> regrow.Maintainer:
    return regrow.SWR(model, **({"every": 1, "factor": 0.5, "seed": 0} | more))


def head_with_absent_classes() -> nn.Sequential:
    """A class-incremental head whose last three classes take no part in the loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    nn.functional.cross_entropy(model(torch.randn(9, 6))[:, :2], torch.randint(2, (9,))).backward()
    assert not model[2].weight.grad[2:].any()
    return model


def test_without_a_policy_absent_classes_are_wiped() -> None:
    model = head_with_absent_classes()
    assert swr(model).preview()["2.weight"][2:].all()


def test_absent_slices_of_any_parameter_are_kept_by_pattern() -> None:
    model = head_with_absent_classes()
    keeper, plain = swr(model, absent_rows={"2": "keep"}), swr(model)
    masks, before = keeper.preview(), plain.preview()
    assert not masks["2.weight"][2:].any() and not masks["2.bias"][2:].any()
    # What is left out takes no part in the mean either: the rest is chosen as if it were the whole tensor.
    u = (model[2].weight * model[2].weight.grad).abs()[:2]
    assert torch.equal(masks["2.weight"][:2], u <= 0.5 * u.mean())
    assert torch.equal(masks["0.weight"], before["0.weight"])


def test_experts_without_a_token_are_kept() -> None:
    torch.manual_seed(0)
    model = nn.ParameterDict({"experts": nn.Parameter(torch.randn(4, 3, 5)), "router": nn.Parameter(torch.randn(5, 4))})
    laws = {"*": regrow.laws.Normal(0.0, 1.0)}
    model["experts"].grad, model["router"].grad = torch.randn(4, 3, 5), torch.randn(5, 4)
    model["experts"].grad[1] = 0
    assert swr(model, laws=laws).preview()["experts"][1].all()
    mask = swr(model, laws=laws, absent_rows={"experts": "keep"}).preview()["experts"]
    assert not mask[1].any() and mask[[0, 2, 3]].any()


def test_proportional_pruning_takes_its_share_of_what_takes_part() -> None:
    model = head_with_absent_classes()
    mask = swr(model, prune="proportional", absent_rows={"2.weight": "keep"}).preview()["2.weight"]
    assert int(mask[:2].sum()) == 8 and not mask[2:].any()


def test_embeddings_are_as_they_are_unless_a_pattern_names_them() -> None:
    model = nn.ModuleDict({"words": nn.Embedding(6, 4), "head": nn.Linear(4, 2)})
    model["head"](model["words"](torch.tensor([0, 3]))).square().sum().backward()
    absent = [1, 2, 4, 5]
    assert not swr(model, absent_rows={"head": "keep"}).preview()["words.weight"][absent].any()
    assert swr(model, absent_rows={"words": "renew"}).preview()["words.weight"][absent].all()
    assert swr(model, absent_rows="renew").preview()["words.weight"][absent].all()


def test_patterns_are_checked() -> None:
    with pytest.raises(ValueError, match="`absent_rows`: pattern 'tail' matches no parameter; names are 0.weight"):
        swr(mlp(), absent_rows={"tail": "keep"})
    with pytest.raises(ValueError, match=r"`absent_rows\['0'\]` must be one of 'keep', 'renew'; got 'hold'"):
        swr(mlp(), absent_rows={"0": "hold"})
    with pytest.warns(UserWarning, match="`absent_rows` keeps '0.bias', '0.weight', whose rows are hidden units"):
        swr(mlp(), absent_rows={"0": "keep"})


def test_policies_are_stored_and_compared() -> None:
    model = mlp()
    one = swr(model, absent_rows={"5": "keep"}, keep_zeros=True, ties="position")
    assert one.state_dict()["knobs"]["absent_rows"] == {"5": "keep"}
    swr(model, absent_rows={"5": "keep"}, keep_zeros=True, ties="position").load_state_dict(one.state_dict())
    with pytest.warns(UserWarning, match="absent_rows stored {'5': 'keep'}, here 'keep'"):
        swr(model, keep_zeros=True, ties="position").load_state_dict(one.state_dict())


@pytest.mark.parametrize("prune", ["threshold", "proportional"])
def test_exact_zeros_of_a_sparse_network_stay(prune: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(20, 10, bias=False)
    sparse = torch.rand(10, 20) < 0.8
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    model.weight.register_hook(lambda g: g.masked_fill(sparse, 0))
    with torch.no_grad():
        model.weight.masked_fill_(sparse, 0)
    maintainer = swr(model, prune=prune, keep_zeros=True, laws="modules").attach(opt)
    for _ in range(4):
        opt.zero_grad()
        model(torch.randn(8, 20)).square().mean().backward()
        opt.step()
        assert (model.weight[sparse] == 0).all() and (model.weight[~sparse] != 0).all()
    share = maintainer.report()["renewed_last"] / int((~sparse).sum())
    assert 0.2 < share < 0.7 if prune == "threshold" else share == pytest.approx(0.5, abs=0.02)
    plain = swr(model, prune=prune, laws="modules")
    assert plain.preview()["weight"][sparse].any(), "without it they are refilled"


def test_ties_go_row_by_row_where_asked() -> None:
    """As torch.argsort(utility.flatten(), stable=True) has them, the presumed sort of the authors' code."""
    model = nn.Linear(5, 4)
    with_gradients(model)
    model.bias.grad.fill_(1.0)
    model.weight.grad[3, 1:] = 1.0
    mask = swr(model, prune="proportional", factor=0.4, ties="position", only="weight").preview()["weight"]
    u = (model.weight * model.weight.grad).abs().detach().flatten()
    expected = torch.zeros(20, dtype=torch.bool)
    expected[torch.argsort(u, stable=True)[:8]] = True
    assert torch.equal(mask.flatten(), expected)
    assert torch.equal(mask.flatten().nonzero().flatten(), torch.arange(8))
    at_random = swr(model, prune="proportional", factor=0.4, only="weight").preview()["weight"]
    assert not torch.equal(mask, at_random) and int(at_random.sum()) == 8


def test_members_of_a_stack_keep_what_they_keep_alone() -> None:
    from regrow.lab.nets import MLP
    from regrow.lab.stack import StackedMLP

    def renewed(members: list[int]) -> list[dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        stack = StackedMLP(MLP(hidden=4, inputs=6), 2)
        generator = torch.Generator().manual_seed(1)
        gradients = {n: torch.randn(w.shape, generator=generator) for n, w in stack.parameters.items()}
        name = list(stack.parameters)[0]
        gradients[name][0, 1] = 0
        gradients[name][1, :3] = 0
        method = methods.SWR(every=1, factor=0.5, absent_rows={name: "keep"}, keep_zeros=True)
        numbers = list(range(len(members)))
        methods.StackedMethod([method] * len(members), members, [5] * len(members)).act(1, stack, gradients, numbers)
        return [{n: w[i].clone() for n, w in stack.parameters.items()} for i in members]

    both, alone = renewed([0, 1]), [renewed([0])[0], renewed([1])[0]]
    for i in range(2):
        assert all(torch.allclose(both[i][n], w) for n, w in alone[i].items())
