"""`diagnose` gives what its definitions give when computed by hand, and finds what was planted."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from twins_diagnose import RANKS, activity, by_hand, dormant, energy, gradients_at, hidden, magnitudes

from regrow.diagnose import diagnose, effective_rank, probe, rank99, stable_rank
from regrow.lab.nets import MLP

# Equal to what is computed by hand.


@pytest.mark.parametrize(
    "norm, position, dtype",
    [(False, "after", torch.float32), (True, "after", torch.float64), (True, "before", torch.float32)],
)
def test_the_papers_mlp_by_hand(norm: bool, position: str, dtype: torch.dtype) -> None:
    net = MLP(hidden=20, layer_norm=norm, ln_position=position, inputs=50).to(dtype)
    with torch.no_grad():
        for linear, dead in ((net.fc1, 2), (net.fc2, 0), (net.fc3, 5)):
            linear.bias[:dead] = -50 if position == "after" else 0
        net.fc2.weight[3:6] *= 0.01
    x, y = torch.rand(150, 50, dtype=dtype), torch.randint(10, (150,))
    found = diagnose(net, x, loss=lambda out: F.cross_entropy(out, y))
    twin = copy.deepcopy(net)
    F.cross_entropy(twin(x), y).backward()
    grads = {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}
    expected = by_hand(hidden(net, x))
    expected |= magnitudes("weight_magnitude", dict(net.named_parameters()))
    expected |= magnitudes("gradient_magnitude", grads)
    at = gradients_at(net, x, lambda out: F.cross_entropy(out, y))
    expected |= dormant("gradient_dormant_units", at)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["rank99"] == found["rank99/fc3"]
    assert position == "before" or (found["dead_units/fc1"] >= 0.1 and found["dead_units/fc3"] >= 0.25)


def test_keys_of_the_whole_come_first_and_the_gradient_only_with_a_loss() -> None:
    net, x = MLP(10, inputs=6), torch.rand(30, 6)
    whole = ["dead_units", "dormant_units", *RANKS, "weight_magnitude"]
    assert list(diagnose(net, x))[:7] == [*whole, "dead_units/fc1"]
    both = [*whole, "gradient_magnitude", "gradient_dormant_units"]
    assert list(diagnose(net, x, loss=energy))[:9] == [*both, "dead_units/fc1"]
    assert all(type(value) is float for value in diagnose(net, x, loss=energy).values())


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_dormancy_threshold(tau: float) -> None:
    net, x = MLP(30, inputs=6), torch.rand(40, 6)
    expected = by_hand(hidden(net, x), tau)
    assert activity(diagnose(net, x, dormant=tau)) == pytest.approx(expected, rel=1e-6)
    assert tau == 0 or expected["dormant_units"] > expected["dead_units"]


def test_many_blocks_of_rows_are_one_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = MLP(10, inputs=6), torch.rand(333, 6)
    at_once = diagnose(net, x)
    monkeypatch.setattr(probe, "_BLOCK", 1)  # 20 rows at a time
    assert diagnose(net, x) == pytest.approx(at_once, rel=1e-9)


def test_fewer_rows_than_units() -> None:
    net, x = MLP(50, inputs=6), torch.rand(7, 6)
    found = diagnose(net, x)
    assert activity(found) == pytest.approx(by_hand(hidden(net, x)), rel=1e-6)
    assert found["rank99"] <= 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    net, x = MLP(20, True, inputs=30).to(dtype), torch.rand(60, 30).to(dtype)
    found = diagnose(net, x, loss=energy)
    assert activity(found) == pytest.approx(by_hand(hidden(net, x)), rel=1e-6)
    twin = copy.deepcopy(net)
    energy(twin(x)).backward()
    grads = {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}
    assert found["gradient_magnitude"] == pytest.approx(magnitudes("gradient_magnitude", grads)["gradient_magnitude"])


# Finds what was planted.


@pytest.mark.parametrize("dead, copies, dormant", [(0, 0, 0), (7, 0, 0), (0, 5, 0), (0, 0, 9), (4, 6, 3)])
def test_planted_units_are_found_exactly(dead: int, copies: int, dormant: int) -> None:
    n = 40
    net = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 2))
    w, b = torch.eye(n), torch.zeros(n)  # unit i fires for example i alone: all singular values are 1
    b[:dead] = -2
    w[dead : dead + copies] = w[n - 1]
    w[dead + copies : dead + copies + dormant] *= 1e-3
    with torch.no_grad():
        net[0].weight.copy_(w)
        net[0].bias.copy_(b)
    found = diagnose(net, torch.eye(n))
    alive = n - dead - dormant - copies
    squares = [1.0 + copies] + [1.0] * (alive - 1) + [1e-6] * dormant
    total = sum(map(math.sqrt, squares))
    p = [math.sqrt(x) / total for x in squares]
    assert found["dead_units"] == dead / n
    assert found["dormant_units"] == (dead + dormant) / n
    assert found["rank99"] == alive  # lower by one for each that is dead, dormant or a copy
    assert found["stable_rank"] == pytest.approx(sum(squares) / (1 + copies), rel=1e-6)
    assert found["effective_rank"] == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)), rel=1e-6)


@pytest.mark.parametrize(
    "activation, bias, dead, dormant",
    [
        (nn.ReLU(), -50.0, True, True),
        (nn.ReLU(), 0.7, False, False),  # a constant other than 0 still learns: not dead, as in the paper
        (nn.ReLU6(), -50.0, True, True),
        (nn.LeakyReLU(), -50.0, False, False),
        (nn.GELU(), -50.0, True, True),
        (nn.GELU("tanh"), -50.0, True, True),
        (nn.GELU(), -3.0, False, True),
        (nn.SiLU(), -200.0, True, True),
        (nn.ELU(), -200.0, True, False),
        (nn.Tanh(), 50.0, True, False),
        (nn.Tanh(), -50.0, True, False),
        (nn.Tanh(), 0.0, True, True),
        (nn.Tanh(), 1.0, False, False),
        (nn.Sigmoid(), 50.0, True, False),
        (nn.Sigmoid(), -200.0, True, True),
        (nn.Sigmoid(), -20.0, False, True),  # close to 0, not there
        (nn.Sigmoid(), 0.0, False, False),
        (nn.Softplus(), -200.0, True, True),
    ],
)
def test_a_unit_at_a_constant(activation: nn.Module, bias: float, dead: bool, dormant: bool) -> None:
    """One unit of eight without incoming weights, at an activation that its bias sets."""
    net = nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, 2))
    with torch.no_grad():
        net[0].weight[3], net[0].bias[3] = 0.0, bias
    found = diagnose(net, torch.randn(100, 4))
    assert (found["dead_units"], found["dormant_units"]) == (dead / 8, dormant / 8)


def test_a_saturated_unit_that_switches_is_alive() -> None:
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Tanh(), nn.Linear(2, 2))
    nn.init.constant_(net[0].weight, 1e4)
    x = torch.tensor([[1.0], [-1.0], [2.0]])
    assert diagnose(net, x)["dead_units"] == 0
    assert diagnose(net, x[::2])["dead_units"] == 1


def test_a_layer_that_is_zero_throughout() -> None:
    net = MLP(10, inputs=6)
    nn.init.constant_(net.fc2.bias, -99)
    found = diagnose(net, torch.rand(30, 6))
    assert [found[f"{key}/fc2"] for key in RANKS] == [0, 0, 0]
    assert (found["dead_units/fc2"], found["dormant_units/fc2"]) == (1, 1)
    assert found["dead_units/fc3"] == pytest.approx((net.fc3.bias <= 0).float().mean().item())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_activations_that_are_not_finite_give_nan_where_they_are(bad: float) -> None:
    net = MLP(10, inputs=6)
    with torch.no_grad():
        net.fc2.bias[0] = bad
    found = diagnose(net, torch.rand(30, 6))
    measured = ("dead_units", "dormant_units", *RANKS)
    assert all(math.isnan(found[f"{key}/fc2"]) and math.isnan(found[key]) for key in measured)
    assert all(math.isfinite(found[f"{key}/fc1"]) for key in measured)


# Magnitudes.


def test_magnitudes_count_tied_once_frozen_never_and_unused_as_zero() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 4, sparse=True), nn.Linear(4, 9, bias=False)
            self.head.weight = self.embed.weight
            self.mlp = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
            self.mlp[2].bias.requires_grad_(False)
            self.scale = nn.Parameter(torch.full((3,), -2.0))

        def forward(self, i: Tensor, whole: bool = True) -> Tensor:
            return self.mlp(self.embed(i))

    net, i = Tied(), torch.arange(5)
    found = diagnose(net, i, loss=energy)
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert "head.weight" not in trained and "mlp.2.bias" not in trained
    weights = {k: v for k, v in found.items() if k.startswith("weight")}
    assert weights == pytest.approx(magnitudes("weight_magnitude", trained), rel=1e-6)
    energy(net(i)).backward()
    grads = {name: torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for name, p in trained.items()}
    gradients = {k: v for k, v in found.items() if k.startswith("gradient_magnitude")}
    assert gradients == pytest.approx(magnitudes("gradient_magnitude", grads), rel=1e-5)
    assert gradients["gradient_magnitude/scale"] == 0 < gradients["gradient_magnitude/embed"]


def test_gradient_under_autocast_and_no_grad() -> None:
    net, x = MLP(10, inputs=6), torch.rand(30, 6)
    cached = []  # weights cast by an autocast without gradient

    def loss(out: Tensor) -> Tensor:
        cached.append(torch.is_autocast_cache_enabled())
        return energy(out)

    with torch.autocast("cpu", torch.bfloat16):
        found = diagnose(net, x, loss=loss)
        energy(net(x)).backward()
    grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    expected = magnitudes("gradient_magnitude", grads)
    assert {k: v for k, v in found.items() if k.startswith("gradient_magnitude")} == pytest.approx(expected, rel=1e-5)
    assert cached == [False]
    with torch.no_grad():
        assert diagnose(net, x, loss=energy)["gradient_magnitude"] > 0
        assert not torch.is_grad_enabled()


# Ranks of many matrices at once.


def test_ranks_of_a_stack_are_those_of_its_members() -> None:
    a = torch.randn(2, 3, 30, 8, dtype=torch.float64) * torch.rand(8).pow(3)
    a[0, 0] = 0
    a[1, 2, :, 1:] = 0
    s = torch.linalg.svdvals(a)
    for f in (stable_rank, rank99, effective_rank):
        for i in range(2):
            for j in range(3):
                expected = by_hand({"": a[i, j].numpy()})[f.__name__]
                assert f(s)[i, j].item() == pytest.approx(expected, rel=1e-9)
    s[0, 1, 3] = math.nan
    assert stable_rank(s)[0, 1].isnan() and effective_rank(s)[0, 1].isnan() and rank99(s)[0, 1] == 0
    assert stable_rank(s)[0, 2] >= 1


def test_rank99_counts_the_value_that_reaches_99_percent() -> None:
    assert rank99(torch.tensor([98.0, 1.0, 1.0])) == 2
    assert rank99(torch.tensor([99.0, 1.0])) == 1


def test_buffers_are_as_before_whatever_the_forward_does_to_them():
    """A running normaliser counts in evaluation mode too; one buffer is changed in place, one is replaced."""

    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("mean", torch.zeros(4))

        def forward(self, x):
            self.count += x.shape[0]
            self.mean = self.mean + (x.mean(0) - self.mean) * x.shape[0] / self.count
            return self.last(torch.relu(self.first(x - self.mean)))

    model = Normalised()
    model(torch.randn(64, 4))
    mean, before = model.mean, {name: b.clone() for name, b in model.named_buffers()}
    diagnose(model, torch.randn(64, 4) + 5)
    assert model.mean is mean and all(torch.equal(b, before[name]) for name, b in model.named_buffers())
