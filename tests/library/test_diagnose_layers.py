"""`diagnose` measures the hidden units of models of every kind, at every position, and names their layers."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from twins_diagnose import RANKS, CReLU, activity, by_hand, energy, frozen, rows, without_units
from wiring_zoo import ZOO, LeNet

from regrow.diagnose import diagnose
from regrow.lab.nets import MLP, ViT
from regrow.wiring import find_units

# Units of every kind.


def test_lenet_by_hand() -> None:
    net, x = LeNet(), torch.randn(9, 1, 14, 14)
    with torch.no_grad():
        net.conv1.weight[1], net.conv1.bias[1] = 0, -1
        net.conv2.weight[:3], net.conv2.bias[:3] = 0, 0
        h1 = F.relu(net.conv1(x))  # before the pool
        h2 = F.relu(net.conv2(F.max_pool2d(h1, 2)))
        h3 = F.relu(net.fc1(F.avg_pool2d(h2, 2).flatten(1)))
    expected = by_hand({"conv1": rows(h1, 1), "conv2": rows(h2, 1), "fc1": rows(h3)})
    found = diagnose(net, x)
    assert activity(found) == pytest.approx(expected, rel=1e-5)
    assert (found["dead_units/conv1"], found["dead_units/conv2"]) == (1 / 4, 3 / 6)


@pytest.mark.parametrize("how", ["linear", "conv", "flattened"])
def test_every_output_of_a_crelu_is_a_unit(how: str) -> None:
    if how == "linear":
        net, x = nn.Sequential(nn.Linear(5, 6), CReLU(), nn.Linear(12, 2)), torch.randn(50, 5)
    elif how == "conv":
        net, x = nn.Sequential(nn.Conv2d(1, 6, 3), CReLU(), nn.Conv2d(12, 2, 1)), torch.randn(20, 1, 6, 6)
    else:
        net = nn.Sequential(nn.Conv2d(1, 6, 3), CReLU(), nn.Flatten(), nn.Linear(12 * 16, 2))
        x = torch.randn(20, 1, 6, 6)
    with torch.no_grad():
        net[0].bias[:2] = torch.tensor([60.0, -60.0])  # always on: the other half is dead
    found = diagnose(net, x)
    assert activity(found) == pytest.approx(by_hand({"0": rows(net[:2](x), 1)}), rel=1e-5)
    assert found["dead_units"] == 2 / 12


@pytest.mark.parametrize("gradient", [False, True])
def test_transformer_layers_by_hand(gradient: bool) -> None:
    """In evaluation mode torch would run them as one fused kernel, past all hooks."""
    net, (x,) = ZOO["encoder gelu"]()
    inside: dict[str, np.ndarray] = {}
    twin = copy.deepcopy(net).eval().requires_grad_()
    for i, layer in enumerate(twin.layers):
        keep: Callable = lambda m, args, name=f"layers.{i}.linear1": inside.update({name: rows(args[0])})  # noqa: E731
        layer.dropout.register_forward_pre_hook(keep)
    twin(x)
    found = diagnose(net, x, loss=energy if gradient else None)
    assert list(inside) == ["layers.0.linear1", "layers.1.linear1"]
    assert activity(found) == pytest.approx(by_hand(inside), rel=1e-5)


def test_padded_tokens_are_rows_too() -> None:
    """In evaluation mode torch would drop them, in a nested tensor that has no shape."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=True)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.encoder(x, src_key_padding_mask=mask)

    net, x = Padded(), torch.randn(4, 5, 8)
    inside: list[Tensor] = []
    twin = copy.deepcopy(net)  # in training mode, where there is no other way
    twin.encoder.layers[0].dropout.register_forward_pre_hook(lambda m, args: inside.append(args[0]))
    mask = torch.arange(5).expand(4, 5) > 2
    twin(x, mask)
    expected = by_hand({"encoder.layers.0.linear1": rows(inside[0])})
    assert activity(diagnose(net, (x, mask))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ZOO)
def test_every_model_of_the_zoo(name: str) -> None:
    """Shares are shares and ranks are ranks, in every layer that has units, and twice the same."""
    model, args = ZOO[name]()
    found = diagnose(model, args)
    layers = [key.split("/")[1] for key in found if key.startswith("rank99/")]
    assert {units.layer for units in find_units(model, args)} == set(layers)
    for layer in layers:
        assert 0 <= found[f"dead_units/{layer}"] <= 1 and 0 <= found[f"dormant_units/{layer}"] <= 1
        assert 1 <= found[f"stable_rank/{layer}"] <= found[f"effective_rank/{layer}"] * 1.0001
    assert diagnose(model, args) == found


def test_vit_has_the_units_of_its_mlps() -> None:
    net, x = ViT(width=12, depth=2, heads=3, mlp=16, classes=5, image_size=8), torch.randn(6, 3, 8, 8)
    inside: dict[str, np.ndarray] = {}
    twin = copy.deepcopy(net).eval()
    for i, block in enumerate(twin.blocks):
        keep: Callable = lambda m, args, out, k=f"blocks.{i}.mlp.fc1": inside.update({k: rows(out)})  # noqa: E731
        block.mlp.gelu.register_forward_hook(keep)
    twin(x)
    found = diagnose(net, x)
    assert activity(found) == pytest.approx(by_hand(inside), rel=1e-5)
    assert found["weight_magnitude/position"] == pytest.approx(net.position.abs().mean().item(), rel=1e-5)


def test_parts_of_one_layer_are_layers_of_their_own() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.a, self.b = nn.Linear(4, 8), nn.Linear(5, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.fc(x).split([5, 3], dim=-1)
            return self.a(a.relu()) + self.b(b.tanh())

    net, x = Split(), torch.randn(40, 4)
    z = net.fc(x)
    expected = by_hand({"fc": rows(z[:, :5].relu()), "fc[5:]": rows(z[:, 5:].tanh())})
    assert activity(diagnose(net, x)) == pytest.approx(expected, rel=1e-5)


def test_the_last_layer_is_that_of_the_forward_pass() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.last, self.first = nn.Linear(7, 2), nn.Linear(6, 7), nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.last(torch.relu(self.first(x)))))

    found = diagnose(Backwards(), torch.randn(50, 4))
    assert [found[key] for key in RANKS] == [found[f"{key}/last"] for key in RANKS]


# Frozen models: measuring changes none, so their layers are those of the same model unfrozen.


@pytest.mark.parametrize("name", ZOO)
def test_frozen_layers_are_measured_as_others_are(name: str) -> None:
    net, args = ZOO[name]()
    expected = activity(diagnose(net, args))
    assert activity(diagnose(frozen(net), args)) == pytest.approx(expected, rel=1e-5)


def test_a_frozen_body_below_a_trained_head() -> None:
    """Its gradients and moments are none; those of the rest are as they were."""
    net, x = MLP(10, inputs=6), torch.rand(40, 6)
    expected = activity(diagnose(net, x))
    *body, head = (m for m in net.modules() if isinstance(m, nn.Linear))
    frozen(nn.Sequential(*body))
    opt = torch.optim.Adam(head.parameters())
    energy(net(x)).backward()
    opt.step()
    found = diagnose(net, x, loss=energy, optimizer=opt)
    assert list(activity(found)) == list(expected)
    assert math.isnan(found["gradient_dormant_units"]) and math.isnan(found["moment_dormant_units"])


# Where no units are found: the outputs of activation modules.


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU(), nn.PReLU(), CReLU()])
def test_an_mlp_has_its_activation_modules(activation: nn.Module) -> None:
    net = nn.Sequential(nn.Linear(5, 8), activation, nn.Linear(16 if isinstance(activation, CReLU) else 8, 3))
    x = torch.randn(40, 5)
    found = diagnose(frozen(without_units(net)), x)
    assert activity(found) == pytest.approx(by_hand({"0": rows(net[:2](x))}), rel=1e-5)
    assert math.isnan(found["weight_magnitude"])


def test_a_convnet_counts_channels_until_they_are_flat() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.ReLU(), nn.Linear(12, 2),
    )  # fmt: skip
    x = torch.randn(6, 1, 6, 6)
    net.eval()
    expected = by_hand({"0": rows(net[:3](x), 1), "3": rows(net[:6](x))})
    assert activity(diagnose(without_units(net.train()), x)) == pytest.approx(expected, rel=1e-5)


def test_an_activation_module_with_two_names_serves_two_layers() -> None:
    act = nn.Tanh()
    net, x = nn.Sequential(nn.Linear(4, 6), act, nn.Linear(6, 6), act, nn.Linear(6, 2)), torch.randn(30, 4)
    expected = by_hand({"0": rows(net[:2](x)), "2": rows(net[:4](x))})
    assert activity(diagnose(without_units(net), x)) == pytest.approx(expected, rel=1e-5)


def test_activation_modules_shared_stacked_and_unrolled() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.gate = nn.Tanh(), nn.Sigmoid()
            self.first, self.again = nn.Linear(4, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.first(x))
            self.gate(x)
            for _ in range(3):
                x = self.act(self.again(x))
            return x

    net, x = without_units(Odd()), torch.randn(30, 4)
    a = torch.tanh(net.first(x))
    b = torch.tanh(net.again(a))
    c = torch.tanh(net.again(b))
    d = torch.tanh(net.again(c))
    layers = {"first": rows(a), "gate": rows(a.sigmoid()), "again": rows(torch.cat([b, c, d]))}
    assert activity(diagnose(net, x)) == pytest.approx(by_hand(layers), rel=1e-5)


def test_a_recurrent_network_has_the_activation_after_it() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.act = nn.LSTM(3, 5, batch_first=True), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.lstm(x)[0])

    net, x = Recurrent(), torch.randn(8, 4, 3)
    assert activity(diagnose(net, x)) == pytest.approx(by_hand({"lstm": rows(net(x))}), rel=1e-5)


def test_layers_that_no_example_reaches_are_left_out() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            mine = x[:, 0] > 0
            out = x.new_zeros(len(x), 2)
            out[mine], out[~mine] = self.experts[0](x[mine]), self.experts[1](x[~mine])
            return out

    found = diagnose(Experts(), torch.rand(20, 4))  # all for the first; the second gets none, the third is not called
    assert [key for key in found if key.startswith("rank99")] == ["rank99", "rank99/experts.0.0"]
