"""Claim: contribution by position is the original's average of |h| |w_out| over positions, for every kind of reader."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from wiring_zoo import ZOO, ActorCritic, CReLU, Tokens

from regrow.core import utility
from regrow.maintain.activation_sums import ActivationSumsByPosition
from regrow.names import walk
from regrow.wiring import Tap, Units, find_units


def by_position(model: nn.Module, units: Units, passes: list[Tensor]) -> Tensor:
    """The utility after some training passes, as a maintainer would put it together."""
    homes = {entry.name: entry for entry in walk(model)}
    watch = ActivationSumsByPosition(units, model, homes[units.weight_in[0].name])
    watch.want(True)
    for x in passes:
        y = model(x)
        sum(t.sum() for t in (y if isinstance(y, tuple) else (y,))).backward()
    sums = watch.sums()
    watch.remove()
    assert sums is not None
    tensors = [homes[place.name].parameter.detach() for place in units.weight_out]
    total, count = (units.outgoing_by_position(t, tensors) for t in sums)
    return utility.contribution_by_position(total, count, units.outgoing(tensors, units.count(model)))


def test_convolution_flatten_linear_as_in_the_original() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 7))
    net[4].weight.data.mul_(torch.rand(45) ** 4)
    passes = [torch.randn(6, 2, 8, 8), torch.randn(6, 2, 8, 8)]
    (units,) = find_units(net)
    features = torch.cat([net[:4](x) for x in passes]).detach()
    original = (net[4].weight.abs().mean(0) * features.abs().mean(0)).view(-1, 9).mean(1)
    torch.testing.assert_close(by_position(net, units, passes), original)
    means = features.abs().mean(0).view(5, 9).mean(1) * net[4].weight.abs().mean(0).view(5, 9).mean(1)
    assert not torch.allclose(original, means, rtol=0.02)  # the two choose different units


def test_readers_of_every_kind() -> None:
    """Two columns a unit, two readers, columns that lie apart, another convolution."""
    torch.manual_seed(0)
    crelu, x = CReLU(), torch.randn(9, 5)
    z = crelu.fc1(x).detach()
    w = crelu.fc2.weight.detach()
    expected = torch.cat([F.relu(z).mean(0) * w[:, :6].abs(), F.relu(-z).mean(0) * w[:, 6:].abs()]).mean(0)
    torch.testing.assert_close(by_position(crelu, find_units(crelu)[0], [x]), expected)
    trunk = ActorCritic()
    h = trunk.trunk(x).detach()
    w = torch.cat([trunk.actor[0].weight, trunk.critic.weight]).detach()
    torch.testing.assert_close(by_position(trunk, find_units(trunk)[1], [x]), (h.abs().mean(0) * w.abs()).mean(0))
    tokens, x = Tokens().eval(), torch.randn(4, 3, 4)
    tokens.fc2.train()  # whose input is watched; the norm's statistics stay
    h = tokens.norm(F.relu(tokens.fc1(x)).flatten(1)).detach()
    expected = (h.abs().mean(0) * tokens.fc2.weight.detach().abs()).view(3, 3, 5).mean((0, 1))
    torch.testing.assert_close(by_position(tokens, find_units(tokens)[0], [x]), expected)
    convs = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 2))
    x = torch.randn(5, 1, 6, 6)
    h, w = convs[:2](x).detach(), convs[2].weight.detach()
    expected = h.abs().mean((0, 2, 3)) * w.abs().mean((0, 2, 3))
    torch.testing.assert_close(by_position(convs, find_units(convs)[0], [x]), expected)


@pytest.mark.parametrize("name", [name for name in ZOO if name not in ("encoder", "encoder gelu", "decoder")])
def test_with_one_position_it_is_the_contribution(name: str) -> None:
    """Where nothing lies between h and its readers the two utilities are the same."""
    torch.manual_seed(0)
    model, args = ZOO[name]()
    model.eval()
    for units in find_units(model):
        reading = units.reading(model)
        readers = [place.name.rpartition(".")[0] for place in units.weight_out]
        if units.activation != f"input of {readers[0]}" or len(units.weight_out) > 1 or units.positions > 1:
            continue
        home = next(entry for entry in walk(model) if entry.name == units.weight_out[0].name)
        home.module.train()  # whose input is watched
        seen: list[Tensor] = []
        tap = Tap(reading, lambda module, h, seen=seen: seen.append(h.detach()))
        found = by_position(model, units, list(args))
        tap.remove()
        outgoing = units.outgoing([home.parameter.detach()], reading.n)
        torch.testing.assert_close(found, utility.contribution(*reading.sum_abs(seen[0]), outgoing))
