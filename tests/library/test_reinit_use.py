"""`reinitialize` and the optimizer, and what is refused with nothing changed."""

import re

import pytest
import torch
from models import mlp, same, train, trained, weights
from torch import Tensor, nn

from regrow import laws, reinitialize

# The optimizer.


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.LBFGS])
def test_the_optimizer_forgets_what_changed(kind: type) -> None:
    net = mlp()
    optimizer = kind(net.parameters())
    if kind is torch.optim.LBFGS:

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = net(torch.ones(2, 6)).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        reinitialize(net, "5", optimizer=optimizer, seed=0)
        assert not optimizer.state
        return
    train(net, optimizer, range(3))
    reinitialize(net, "5", optimizer=optimizer, seed=0, share=0.0)
    assert all(state["step"] == 3 for state in optimizer.state.values())
    reinitialize(net, "5", optimizer=optimizer, seed=0)
    assert {n for n, p in net.named_parameters() if optimizer.state[p]["step"] == 0} == {"5.weight", "5.bias"}


def test_gradients_and_what_the_optimizer_lacks_stay() -> None:
    net = mlp()
    optimizer = torch.optim.Adam(net[0].parameters())
    train(net, optimizer, range(2))
    grads = [p.grad.clone() for p in net.parameters()]
    reinitialize(net, optimizer=optimizer, seed=0)
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads))
    assert all(not state["exp_avg"].any() for state in optimizer.state.values())
    with pytest.raises(ValueError, match="the Adam holds none of the reinitialized parameters: is it this model's"):
        reinitialize(net, "5", optimizer=optimizer)


# Refused, with nothing changed.


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        (
            {"only": "head"},
            ValueError,
            "`only`: pattern 'head' matches no parameter; names are 0.weight, 0.bias, 2.weig",
        ),
        ({"only": ["0", "9"]}, ValueError, "`only`: pattern '9' matches no parameter"),
        ({"only": 3}, TypeError, "`only` takes name patterns (text, or a list of it); got 3"),
        ({"share": 1.5}, ValueError, "`share` must be in [0, 1] (share of the fresh draw); got 1.5"),
        ({"share": "a"}, TypeError, "`share` must be a number (share of the fresh draw); got 'a' of type str"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0 (random numbers are keyed by it); got -1"),
        ({"laws": {"9": laws.Normal()}}, ValueError, "laws: pattern '9' matches no parameter"),
        ({"laws": "fresh"}, ValueError, "the source of laws must be one of 'auto', 'modules', 'values'; got 'fresh'"),
        ({"laws": 3}, TypeError, "`laws` must be a mapping from name patterns to laws, a source, or a fresh"),
        ({"optimizer": "adam"}, TypeError, "`optimizer` must be a torch.optim.Optimizer or None; got str"),
    ],
)
def test_arguments(arguments: dict, error: type, text: str) -> None:
    net = trained(mlp())
    before = weights(net)
    with pytest.raises(error, match=re.escape(text)) as caught:
        reinitialize(net, **arguments)
    assert "\n" not in str(caught.value) and same(before, weights(net))


def test_models_that_cannot_be_reinitialized() -> None:
    with pytest.raises(TypeError, match="`model` must be a torch.nn.Module; got Tensor"):
        reinitialize(torch.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no trainable parameter to reinitialize: check `only` and requires_grad"):
        reinitialize(mlp().requires_grad_(False))
    bare = nn.ParameterDict({"w": nn.Parameter(torch.ones(3)), "c": nn.Parameter(torch.ones(2, dtype=torch.cfloat))})
    with pytest.raises(ValueError, match=r"no law for 'w', shape \(3,\).*or an init_laws\(\) method to its module$"):
        reinitialize(bare, "w")
    reinitialize(bare, "w", laws={"w": laws.Constant(2.0)})
    assert (bare["w"] == 2).all()
    with pytest.raises(TypeError, match="'c' is complex"):
        reinitialize(bare)
    with pytest.raises(ValueError, match="'0.weight' has no values yet"):
        reinitialize(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(ValueError, match="'weight' has no values yet"):
        reinitialize(nn.Linear(3, 3, device="meta"))
