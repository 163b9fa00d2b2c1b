"""Dormancy in the memory of an optimizer is what its definition gives by hand."""

import copy
import math
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from twins_diagnose import Plain, dormant, energy, measured, spread
from wiring_zoo import LeNet

from regrow import diagnose

MOMENT = "moment_dormant_units"


def stepped(net: nn.Module, kind: type, steps: int = 4, **options: object) -> torch.optim.Optimizer:
    optimizer = kind(net.parameters(), **options)
    for _ in range(steps):
        optimizer.zero_grad()
        energy(net(torch.randn(16, 5)) - 1).backward()
        optimizer.step()
    return optimizer


def second(optimizer: torch.optim.Optimizer, w: Tensor) -> Tensor:
    """sqrt(v), entry by entry."""
    state = optimizer.state[w]
    if "row_var" in state:
        rows, columns = state["row_var"].squeeze(1), state["col_var"].squeeze(0)
        v = [[float(r * c / rows.mean()) for c in columns] for r in rows]
        return torch.tensor(v).sqrt()
    if "exp_inf" in state:
        return state["exp_inf"]
    return state[next(k for k in ("exp_avg_sq", "square_avg", "sum") if k in state)].sqrt()


@pytest.mark.parametrize(
    "kind", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Adafactor"]
)
def test_moments_by_hand(kind: str) -> None:
    net = Plain("module")
    spread(net)
    with torch.no_grad():
        net.a.bias[:3] = -99
    optimizer = stepped(net, getattr(torch.optim, kind))
    before = copy.deepcopy(optimizer.state_dict())
    found = diagnose(net, torch.randn(30, 5), dormant=0.3, optimizer=optimizer)
    layers = {name: second(optimizer, net.get_parameter(f"{name}.weight")).T.numpy() for name in ("a", "b")}
    expected = dormant(MOMENT, layers, 0.3)
    assert measured(MOMENT, found) == pytest.approx(expected)
    assert 3 / 22 <= expected[MOMENT] < 1
    assert str(before) == str(optimizer.state_dict())


def test_a_unit_that_died_is_counted_when_the_docstring_says() -> None:
    net = nn.Sequential(nn.Linear(1, 8, bias=False), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(net.parameters())
    net[0].weight.grad = torch.ones(8, 1)
    shares = []
    for step in range(15000):
        if step == 7000:
            net[0].weight.grad[:2] = 0
        optimizer.step()
        if step % 100 == 99:
            shares.append(diagnose(net, torch.randn(3, 1), optimizer=optimizer)[MOMENT])
    first = next(i for i, share in enumerate(shares) if share) * 100 - 7000
    assert shares[-1] == 0.25 and 7000 < first < 8000


def test_gated_convolutional_and_layers_that_no_input_reaches() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up, self.down = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 5)
            self.other = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 5))

        def forward(self, x: Tensor, other: bool = False) -> Tensor:
            return self.other(x) if other else self.down(F.silu(self.gate(x)) * self.up(x))

    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    net.gate.weight.grad[:2], net.up.weight.grad[1:3] = 0, 0
    optimizer.step()
    found = measured(MOMENT, diagnose(net, torch.randn(20, 5), optimizer=optimizer))
    assert found[f"{MOMENT}/gate"] == 1 / 6  # unit 1 alone has no gradient in either row
    conv = LeNet()
    optimizer = torch.optim.Adam(conv.parameters())
    for p in conv.parameters():
        p.grad = torch.ones_like(p)
    conv.conv2.weight.grad[:2] = 0
    optimizer.step()
    found = measured(MOMENT, diagnose(conv, torch.randn(2, 1, 14, 14), optimizer=optimizer))
    assert found[f"{MOMENT}/conv2"] == 2 / 6 and found[f"{MOMENT}/conv1"] == found[f"{MOMENT}/fc1"] == 0


def test_before_the_first_step_and_of_a_part() -> None:
    net, x = Plain("module"), torch.randn(9, 5)
    assert not measured(MOMENT, diagnose(net, x))
    found = measured(MOMENT, diagnose(net, x, optimizer=torch.optim.Adam(net.parameters())))
    assert list(found) == [MOMENT] and math.isnan(found[MOMENT])
    optimizer = torch.optim.Adam(net.b.parameters())
    energy(net(x)).backward()
    optimizer.step()
    assert set(measured(MOMENT, diagnose(net, x, optimizer=optimizer))) == {MOMENT, f"{MOMENT}/b"}


def test_optimizers_that_do_not_serve() -> None:
    net, x = Plain("module"), torch.randn(9, 5)
    momentum = stepped(net, torch.optim.SGD, lr=0.1, momentum=0.9)
    for optimizer, error, text in (
        ("adam", TypeError, "`optimizer` must be a torch.optim.Optimizer or None; got str"),
        (momentum, ValueError, "`optimizer` must keep second moments, as Adam does; SGD has none that are known here"),
        (
            torch.optim.Adam(net.c.parameters()),
            ValueError,
            "the Adam holds the incoming weights of no hidden layer: is it this model's?",
        ),
    ):
        with pytest.raises(error, match=re.escape(text)) as caught:
            diagnose(net, x, optimizer=optimizer)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
