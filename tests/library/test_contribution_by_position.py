"""Claim: contribution by position is the original's average of |h| |w_out| over positions, for every kind of reader."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from wiring_zoo import ZOO, ActorCritic, CReLU, Tokens

import regrow
from regrow.core import utility
from regrow.lab.nets import MLP
from regrow.lab.stack import StackedMLP
from regrow.maintain.activation_sums import ActivationSumsByPosition
from regrow.methods import StackedMethod
from regrow.names import walk
from regrow.wiring import Tap, Units, find_units


def by_position(model: nn.Module, units: Units, passes: list[Tensor]) -> Tensor:
    """The utility after some training passes, as a maintainer would put it together."""
    homes = {entry.name: entry for entry in walk(model)}
    watch = ActivationSumsByPosition(units, model, homes[units.weight_in[0].name])
    watch.begin_update(True)
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


def loop_utility(h: list, weight: list, units: int) -> list[float]:
    """One unit and one position after another: h (examples, units * positions), weight (outputs, the same)."""
    positions = len(h[0]) // units
    result = []
    for unit in range(units):
        total = 0.0
        for column in range(unit * positions, (unit + 1) * positions):
            mean_h = sum(abs(row[column]) for row in h) / len(h)
            mean_w = sum(abs(row[column]) for row in weight) / len(weight)
            total += mean_h * mean_w
        result.append(total / positions)
    return result


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_continual_backpropagation_replaces_what_a_loop_would(decay: float) -> None:
    """Convolution, pooling, flatten, linear: by position, update by update."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 7, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(63, 4)).double()
    bright = torch.rand(8, 8).double() ** 4  # what the positions see differs as well
    rate, maturity = 0.06, 3
    cbp = regrow.ContinualBackprop(
        net, replacement_rate=rate, maturity=maturity, utility="contribution-by-position", decay=decay, seed=0
    )
    opt = torch.optim.SGD(net.parameters(), lr=1e-3)
    flat: dict[str, Tensor] = {}
    net[3].register_forward_hook(lambda m, args, h: flat.update(h=h.detach()))
    ages, average, owed, replaced = [0] * 7, [0.0] * 7, 0.0, 0
    for _ in range(150):
        opt.zero_grad()
        net(torch.randn(5, 1, 8, 8).double() * bright).square().mean().backward()
        opt.step()
        net[4].weight.data.copy_(torch.randn(4, 63) * torch.rand(63) ** 4)  # trained, they would differ less and less
        weight = net[4].weight.detach().clone()
        u = loop_utility(flat["h"].tolist(), weight.tolist(), 7)
        ages = [age + 1 for age in ages]
        average = [decay * a + (1 - decay) * b for a, b in zip(average, u)]
        u = [a / (1 - decay**age) for a, age in zip(average, ages)]
        mature = [i for i in range(7) if ages[i] > maturity]
        owed += rate * len(mature)
        expected = sorted(mature, key=lambda i: u[i])[: int(owed)]
        owed -= int(owed)
        cbp.step()
        silent = (net[4].weight == 0).view(4, 7, 9).all(2).all(0)
        was = (weight == 0).view(4, 7, 9).all(2).all(0)
        assert set((silent & ~was).nonzero().flatten().tolist()) == set(expected)
        for unit in expected:
            ages[unit], average[unit] = 0, 0.0
        replaced += len(expected)
    assert cbp.report()["renewed_total"] == replaced > 15


def test_redo_takes_it_too_and_a_network_without_positions_refuses_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
    redo = regrow.ReDo(net, every=1, threshold=0.9, utility="contribution-by-position", seed=0)
    x = torch.randn(5, 1, 8, 8)
    net(x).square().mean().backward()
    u = torch.tensor(loop_utility(net[:3](x).tolist(), net[3].weight.tolist(), 6))
    chosen = u <= 0.9 * u.mean()
    redo.step()
    assert 0 < chosen.sum() < 6
    assert torch.equal((net[3].weight == 0).view(4, 6, 36).all(2).all(0), chosen)
    stack = StackedMLP(MLP(hidden=4, inputs=6), 1)
    method = regrow.methods.ReDo(every=1, threshold=0.9, utility="contribution-by-position")
    with pytest.raises(NotImplementedError, match="StackedMLP has no activations by position: .* another utility"):
        StackedMethod([method], [0], [0], stack).act(1, stack, None, [0])


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
