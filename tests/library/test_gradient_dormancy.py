"""Dormancy of gradients is what its definition gives by hand, wherever the pre-activation is."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from twins_diagnose import CReLU, Plain, dormant, energy, measured, rows, spread
from wiring_zoo import ZOO, LeNet

from regrow import diagnose
from regrow.diagnose.probe import Probe
from regrow.wiring import find_units, locate

KEY = "gradient_dormant_units"


def at(loss: Tensor, **layers: Tensor) -> dict[str, np.ndarray]:
    """Gradients at tensors whose last axis is that of units."""
    return {name: rows(g) for name, g in zip(layers, torch.autograd.grad(loss, list(layers.values())))}


# The pre-activation, wherever it is.


@pytest.mark.parametrize("how", ["module", "inplace", "functional", "functional inplace", "shared"])
@pytest.mark.parametrize(
    "norm, before",
    [
        (lambda n: nn.Identity(), True),
        (nn.LayerNorm, True),
        (nn.LayerNorm, False),
        (nn.BatchNorm1d, True),
        (nn.BatchNorm1d, False),
    ],
    ids=["none", "ln before", "ln after", "bn before", "bn after"],
)
def test_z_is_what_the_activation_receives(how: str, norm: Callable, before: bool) -> None:
    net, x = Plain(how, norm, before), torch.randn(40, 5)
    spread(net)
    with torch.no_grad():
        net.a.bias[:2] = -50
    twin, seen = copy.deepcopy(net).eval(), {}
    expected = dormant(KEY, at(energy(twin(x, seen)), **seen), 0.3)
    assert measured(KEY, diagnose(net, x, energy, 0.3)) == pytest.approx(expected, rel=1e-6)
    assert 0 < expected[KEY] < 1


def test_convolutions_and_positions() -> None:
    net, x = LeNet(), torch.randn(9, 1, 14, 14)
    spread(net)
    z1 = net.conv1(x)
    z2 = net.conv2(F.max_pool2d(F.relu(z1), 2))
    z3 = net.fc1(F.avg_pool2d(F.relu(z2), 2).flatten(1))
    gradients = torch.autograd.grad(energy(net(x)), [net.fc1.bias])  # the model's own forward ends as this does
    out = [m for m in net.children() if isinstance(m, nn.Linear)][-1](F.relu(z3))
    assert torch.allclose(out, net(x)) and gradients
    g1, g2, g3 = torch.autograd.grad(energy(out), [z1, z2, z3])
    expected = dormant(KEY, {"conv1": rows(g1, 1), "conv2": rows(g2, 1), "fc1": rows(g3)}, 0.5)
    assert measured(KEY, diagnose(net, x, energy, 0.5)) == pytest.approx(expected, rel=1e-6)


def test_batch_norm_before_a_function_of_feature_maps() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(F.relu(self.norm(self.conv(x))))

    net, x = Net(), torch.randn(6, 1, 6, 6)
    spread(net)
    z = net.eval().norm(net.conv(x))
    g = torch.autograd.grad(energy(net.out(F.relu(z))), z)[0]
    expected = dormant(KEY, {"conv": rows(g, 1)}, 0.2)
    assert measured(KEY, diagnose(net.train(), x, energy, 0.2)) == pytest.approx(expected)
    assert 0 < expected[KEY] < 1


def test_gated_units_sum_over_their_rows() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up, self.down = nn.Linear(4, 9), nn.Linear(4, 9), nn.Linear(9, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(F.silu(self.gate(x)) * self.up(x))

    net, x = Gated(), torch.randn(30, 4)
    spread(net)
    gate, up = net.gate(x), net.up(x)
    g = torch.autograd.grad(energy(net.down(F.silu(gate) * up)), [gate, up])
    expected = dormant(KEY, {"gate": rows(g[0].abs() + g[1].abs())}, 0.2)
    assert measured(KEY, diagnose(net, x, energy, 0.2)) == pytest.approx(expected)


def test_parts_of_a_layer_and_both_halves_of_a_crelu() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.a, self.b = nn.Linear(4, 12), nn.Linear(7, 2), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.fc(x).split([7, 5], dim=-1)
            return self.a(a.relu()) + self.b(b.tanh())

    net, x = Split(), torch.randn(40, 4)
    spread(net)
    z = net.fc(x)
    g = torch.autograd.grad(energy(net.a(z[:, :7].relu()) + net.b(z[:, 7:].tanh())), z)[0]
    expected = dormant(KEY, {"fc": rows(g[:, :7]), "fc[7:]": rows(g[:, 7:])}, 0.2)
    assert measured(KEY, diagnose(net, x, energy, 0.2)) == pytest.approx(expected)
    both = nn.Sequential(nn.Linear(4, 6), CReLU(), nn.Linear(12, 2))
    spread(both)
    z = both[0](x)
    g = torch.autograd.grad(energy(both[1:](z)), z)[0]
    assert measured(KEY, diagnose(both, x, energy, 0.2)) == pytest.approx(dormant(KEY, {"0": rows(g)}, 0.2))


def total(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    return sum(energy(one) for one in out) if isinstance(out, tuple) else energy(out)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ZOO)
def test_every_model_of_the_zoo(name: str) -> None:
    """Every layer of units has its share, twice the same."""
    model, args = ZOO[name]()
    found = diagnose(model, args, total)
    layers = {units.layer for units in find_units(model, args)}
    assert {k.partition("/")[2] for k in measured(KEY, found)} - {""} == layers
    assert all(0 <= value <= 1 for value in measured(KEY, found).values())
    assert diagnose(model, args, total) == found


@pytest.mark.parametrize("name", ZOO)
def test_gradients_of_units_add_up_to_those_of_their_biases(name: str) -> None:
    """So each belongs to its unit, in whatever order the units lie; a norm between the two is left out."""
    model, args = ZOO[name]()
    with Probe(model.eval(), gradients=True) as probe:
        probe.watch(args)
        loss = total(model(*args))
    assert probe.preactivations is not None
    grads = torch.autograd.grad(loss, probe.preactivations.edges, retain_graph=True)
    added = {}
    left = list(grads)
    for layer, _, parts in probe.preactivations._noted:
        for i, seen in enumerate(parts):
            added[layer, i] = added.get((layer, i), 0) + seen.rows(left.pop(0)).sum(0)
    for units in probe.units:
        if not units.norm:
            makers = [place.name.rpartition(".")[0] for place in units.weight_in]
            for place in units.bias:
                i = makers.index(place.name.rpartition(".")[0]) if len(set(makers)) > 1 else units.bias.index(place)
                g = torch.autograd.grad(loss, getattr(*locate(model, place.name)), retain_graph=True)[0]
                expected = place.per_unit(g, units.count(model)).squeeze(1)
                assert torch.allclose(added[units.layer, i], expected, atol=1e-6), units


def test_activation_modules_where_no_units_are_found() -> None:
    class Shared(nn.Module):
        """Weights that two layers share hold no units."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.act = nn.Linear(6, 6), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.act(self.a(x)))

    net, x = Shared(), torch.randn(30, 6)
    spread(net)
    z = net.a(x)
    g = torch.autograd.grad(energy(net.a(F.relu(z))), z)[0]
    assert measured(KEY, diagnose(net, x, energy, 0.2)) == pytest.approx(dormant(KEY, {"a": rows(g)}, 0.2))


# What it tells.


def test_planted_units() -> None:
    """Dead, cut off behind, and alike: what activations miss the gradient sees."""
    net = nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 3))
    with torch.no_grad():
        net[0].bias[:4] = -99
        net[2].weight[:, 4:14] = 0
    x = torch.randn(200, 10)
    found = diagnose(net, x, energy)
    assert found["dead_units"] == found["dormant_units"] == 4 / 40
    assert found[KEY] == found[f"{KEY}/0"] == 14 / 40
    assert diagnose(net, x, energy, 0.0)[KEY] == 14 / 40 and diagnose(net, x, energy, 1.0)[KEY] > 0.5
    saturated = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))
    nn.init.constant_(saturated[0].bias[:3], 99.0)
    found = diagnose(saturated, x, energy)
    assert (found["dormant_units"], found["dead_units"], found[KEY]) == (0, 3 / 8, 3 / 8)


def test_without_gradient() -> None:
    net, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)), torch.randn(20, 4)
    assert not measured(KEY, diagnose(net, x))
    net[0].requires_grad_(False)  # holds no units any more, so only the other layer is there
    assert set(measured(KEY, diagnose(net, x, energy))) == {KEY, f"{KEY}/2"}
    net[2].requires_grad_(False)  # activation modules; no gradient reaches them
    found = diagnose(net, x, energy)
    assert math.isnan(found[KEY]) and len(measured(KEY, found)) == 1
    assert found["gradient_magnitude"] > 0


def test_units_that_the_loss_does_not_depend_on() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)) for _ in range(2))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.a(x), self.b(x)

    found = diagnose(Two(), torch.randn(20, 4), lambda out: energy(out[0]))
    assert (found[f"{KEY}/a.0"], found[f"{KEY}/b.0"], found[KEY]) == (0, 1, 0.5)


def test_a_gradient_that_is_not_finite() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    found = diagnose(net, torch.randn(20, 4), lambda out: energy(out) * math.inf)
    assert math.isnan(found[KEY]) and math.isnan(found[f"{KEY}/0"]) and not math.isnan(found["dead_units"])


def test_activation_checkpointing() -> None:
    class Block(nn.Module):
        def __init__(self, saves: bool) -> None:
            super().__init__()
            self.saves, self.body = saves, nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 5))

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.body, x, use_reentrant=False) if self.saves else self.body(x)

    net, x = nn.Sequential(Block(True), Block(True)), torch.randn(20, 5)
    plain = copy.deepcopy(net)
    for block in plain:
        block.saves = False
    spread(net), plain.load_state_dict(net.state_dict())
    assert measured(KEY, diagnose(net, x, energy, 0.3)) == measured(KEY, diagnose(plain, x, energy, 0.3)) != {}


def test_hooks_and_gradients_are_gone() -> None:
    net = Plain("inplace", nn.BatchNorm1d)
    tables = [t for m in net.modules() for k, t in vars(m).items() if "hooks" in k and isinstance(t, dict)]
    opt = torch.optim.Adam(net.parameters())
    for raises in (False, True):

        def loss(out: Tensor, raises: bool = raises) -> Tensor:
            assert any(tables)
            return out.missing if raises else energy(out)

        try:
            diagnose(net, torch.randn(9, 5), loss, optimizer=opt)
            assert not raises
        except AttributeError:
            assert raises
        assert not any(tables) and all(p.grad is None for p in net.parameters())
        assert net.training and not opt.state
