"""Claim: h is read at one place, the output of the last nonlinearity, however the forward is written.

Networks of the same weights and bit-equal outputs, with modules of their own, with functions and with shared modules,
give equal sums per unit, equal measures, and continual backpropagation replaces the same units.
"""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import regrow
from regrow.maintain.activation_sums import ActivationSums
from regrow.names import walk
from regrow.wiring import find_units

# Where a forward takes the weights of a module and does not call it, as some here do.
pytestmark = pytest.mark.filterwarnings("ignore:ContinualBackprop leaves out layers that may have hidden units")

Step = Callable[[Tensor], Tensor]
FORMS = ("modules", "functions", "shared")

ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], Step]] = {
    "relu": (nn.ReLU, F.relu),
    "relu in place": (lambda: nn.ReLU(inplace=True), lambda x: F.relu(x, True)),
    "relu_": (nn.ReLU, torch.relu_),
    "method": (nn.ReLU, lambda x: x.relu_()),
    "tanh": (nn.Tanh, torch.tanh),
    "sigmoid": (nn.Sigmoid, lambda x: torch.sigmoid(input=x)),
    "gelu": (lambda: nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "silu": (nn.SiLU, lambda x: F.silu(x, inplace=True)),
    "elu": (lambda: nn.ELU(0.5), lambda x: F.elu(x, 0.5)),
    "leaky relu": (lambda: nn.LeakyReLU(0.2), lambda x: F.leaky_relu_(x, 0.2)),
    "softplus": (nn.Softplus, F.softplus),
    "mish": (nn.Mish, F.mish),
    "hardtanh": (lambda: nn.Hardtanh(-2.0, 0.5), lambda x: x.clamp(-2.0, 0.5)),
}
AFTER: dict[str, tuple[Callable[[], nn.Module], Step]] = {
    "max pool": (lambda: nn.MaxPool2d(2), lambda x: F.max_pool2d(x, 2)),
    "average pool": (lambda: nn.AvgPool2d(2), lambda x: F.avg_pool2d(x, kernel_size=2)),
    "adaptive pool": (lambda: nn.AdaptiveMaxPool2d((3, 2)), lambda x: F.adaptive_max_pool2d(x, (3, 2))),
    "dropout": (lambda: nn.Dropout(0.0), lambda x: F.dropout(x, 0.0)),
    "scaled": (nn.Identity, lambda x: 1.0 * x),
    "nothing": (nn.Identity, lambda x: x),
}


class ConvNet(nn.Module):
    """Two convolutions, each with an activation and what follows it, flattened into two linear layers."""

    def __init__(self, form: str, act: str, after: str, norm: bool = False) -> None:
        super().__init__()
        self.form, self.norm = form, norm
        self.conv1, self.conv2 = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 7, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(5), nn.BatchNorm2d(7)
        side = 3 * 2 if after == "adaptive pool" else {"max pool": 4, "average pool": 4}.get(after, 64)
        self.fc1, self.fc2 = nn.Linear(7 * side, 6), nn.Linear(6, 3)
        self.act, self.after = act, after
        make_act, make_after = ACTIVATIONS[act][0], AFTER[after][0]
        if form == "modules":
            self.act1, self.act2, self.act3 = make_act(), make_act(), make_act()
            self.after1, self.after2 = make_after(), make_after()
        elif form == "shared":
            self.act1 = self.act2 = self.act3 = make_act()
            self.after1 = self.after2 = make_after()

    def forward(self, x: Tensor) -> Tensor:
        functions, act, after = self.form == "functions", ACTIVATIONS[self.act][1], AFTER[self.after][1]
        x = self.bn1(self.conv1(x)) if self.norm else self.conv1(x)
        x = after(act(x)) if functions else self.after1(self.act1(x))
        x = self.bn2(self.conv2(x)) if self.norm else self.conv2(x)
        x = after(act(x)) if functions else self.after2(self.act2(x))
        x = self.fc1(x.flatten(1))
        return self.fc2(act(x) if functions else self.act3(x))


class Mlp(nn.Module):
    """Gated by another layer or by its own other half, or scaled after a written-out activation."""

    def __init__(self, form: str, kind: str) -> None:
        super().__init__()
        self.form, self.kind = form, kind
        self.gate, self.up, self.down = nn.Linear(6, 12 if kind == "packed" else 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.out = nn.Linear(6, 3)
        self.read = nn.Identity()  # its input is h, in the form of modules
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.down(x)) if self.kind == "two" else x
        if self.kind == "packed":
            first, second = self.gate(x).chunk(2, -1)
            h = F.silu(first) * second
        elif self.kind == "written":
            z = self.gate(x)
            h = 0.5 * z * (1 + torch.tanh(0.8 * (z + 0.04 * torch.pow(z, 3.0))))
        else:
            h = F.silu(self.gate(x)) * self.up(x)
        h = self.read(h) if self.form == "modules" else h
        h = F.dropout(h, 0.0) if self.form == "functions" else self.drop(h) if self.form == "shared" else h
        return self.out(2.0 * h)


class Halves(nn.Module):
    """One layer split after its activation, one half pooled over positions; and an activation of two layers at once."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.a, self.b, self.c = nn.Conv1d(2, 6, 1), nn.Conv1d(2, 4, 1), nn.Conv1d(7, 3, 2)
        self.side, self.read, self.both = nn.Linear(3, 2), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = F.relu(self.a(x)).split(3, dim=1)
        h = torch.tanh(torch.cat([self.b(x), first], 1))
        if self.form == "modules":
            second, h = self.read(second), self.both(h)
        return self.c(F.max_pool1d(h, 2)), self.side(second.mean(-1))


def cases() -> dict[str, tuple[Callable[[str], nn.Module], tuple[int, ...]]]:
    image = (8, 1, 8, 8)
    found: dict[str, tuple[Callable[[str], nn.Module], tuple[int, ...]]] = {}
    for act in ACTIVATIONS:
        found[f"{act}, max pool"] = (lambda form, a=act: ConvNet(form, a, "max pool"), image)
    for after in AFTER:
        found[f"norm, relu, {after}"] = (lambda form, a=after: ConvNet(form, "relu", a, norm=True), image)
    for kind in ("gated", "packed", "written", "two"):
        found[kind] = (lambda form, k=kind: Mlp(form, k), (9, 5, 6))
    found["halves"] = (Halves, (5, 2, 4))
    return found


CASES = cases()


def total(y: Tensor | tuple[Tensor, ...]) -> Tensor:
    return sum((t.square().sum() for t in (y if isinstance(y, tuple) else (y,))), torch.zeros(()))


def sums(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Mean |h| of each layer's units in one training pass."""
    homes = {entry.name: entry for entry in walk(model)}
    watches = [ActivationSums(units.reading(model), homes[units.weight_in[0].name]) for units in find_units(model)]
    for watch in watches:
        watch.begin_update(True)
    total(model(x)).backward()
    seen = [watch.sums() for watch in watches]
    for watch in watches:
        watch.remove()
    model.zero_grad()
    return [s[0] / s[1] for s in seen if s is not None]


@pytest.mark.parametrize("name", CASES)
def test_the_form_of_the_forward_makes_no_difference(name: str) -> None:
    build, shape = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(shape)
    first = build("modules")
    expected = everything(first, x)
    for form in ("functions", "shared"):
        model = build(form)
        model.load_state_dict(first.state_dict())
        found = everything(model, x)
        assert all(map(torch.equal, found[0], expected[0]))  # the outputs
        assert len(found[1]) == len(expected[1]) and all(map(torch.allclose, found[1], expected[1], [1e-6] * 9))
        assert found[2] == pytest.approx(expected[2], rel=1e-5)
        assert found[3] == expected[3] and any(found[3])


def everything(model: nn.Module, x: Tensor) -> tuple:
    """Outputs, mean |h| of each layer's units, measures, units that continual backpropagation would replace."""
    y, h, measures, chosen = (f(copy.deepcopy(model), x) for f in (lambda m, x: m(x), sums, measured, replacements))
    return _tuple(y), h, {k: v for k, v in measures.items() if "/" in k and not k.startswith("weight")}, chosen


def measured(model: nn.Module, x: Tensor) -> dict[str, float]:
    return regrow.diagnose(model, x, loss=total, dormant=0.8)


def _tuple(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return y if isinstance(y, tuple) else (y,)


def replacements(model: nn.Module, x: Tensor) -> list[list[int]]:
    """The units that continual backpropagation would replace, of each layer."""
    cbp = regrow.ContinualBackprop(model, replacement_rate=0.4, maturity=0, seed=0)
    total(model(x)).backward()
    masks = cbp.preview()
    return _units(masks, model)


def _units(masks: dict[str, Tensor], model: nn.Module) -> list[list[int]]:
    """Which units masks name: their biases, which belong to nothing else."""
    return [masks[units.bias[0].name].nonzero().flatten().tolist() for units in find_units(model)]


@pytest.mark.parametrize("name", ["elu, max pool", "norm, relu, max pool", "gated", "packed", "written", "halves"])
@pytest.mark.parametrize("form", FORMS)
def test_formulas_are_compiled_with_the_model(name: str, form: str) -> None:
    """In one graph, without a break."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, x = CASES[name][0](form), torch.randn(CASES[name][1])
    expected = replacements(copy.deepcopy(model), x)
    cbp = regrow.ContinualBackprop(model, replacement_rate=0.4, maturity=0, seed=0)
    total(torch.compile(model, backend="aot_eager", fullgraph=True)(x)).backward()
    assert _units(cbp.preview(), model) == expected


def test_before_the_pool_by_hand() -> None:
    """What is summed is what the nonlinearity gives, of every position."""
    torch.manual_seed(0)
    x = torch.randn(8, 1, 8, 8)
    for form in FORMS:
        model = ConvNet(form, "relu", "max pool")
        with torch.no_grad():
            h = F.relu(model.conv1(x))
        torch.testing.assert_close(sums(model, x)[0], h.mean((0, 2, 3)))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.net, self.reentrant = ConvNet("functions", "relu", "max pool"), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.net, x, use_reentrant=self.reentrant)  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["compiled", "checkpointed", "reentrant", "copied", "pickled", "autocast"])
def test_functions_are_read_under_every_wrapper(how: str) -> None:
    torch.manual_seed(0)
    plain = ConvNet("functions", "relu", "max pool")
    x = torch.randn(8, 1, 8, 8)
    expected = replacements(copy.deepcopy(plain), x)
    net = copy.deepcopy(plain)
    if how in ("checkpointed", "reentrant"):
        model = Checkpointed(how == "reentrant")
        model.net, x = net, x.requires_grad_()
        units = [copy.copy(u) for u in find_units(plain)]
        units = [_below(u, "net.") for u in units]
        cbp = regrow.ContinualBackprop(model, replacement_rate=0.4, maturity=0, seed=0, units=units)
    else:
        cbp = regrow.ContinualBackprop(net, replacement_rate=0.4, maturity=0, seed=0)
        if how == "copied":
            net, cbp = copy.deepcopy((net, cbp))
        if how == "pickled":
            net, cbp = pickle.loads(pickle.dumps((net, cbp)))
        model = torch.compile(net, backend="aot_eager") if how == "compiled" else net
    with torch.autocast("cpu", enabled=how == "autocast"):
        y = model(x)
    total(y.float()).backward()
    masks = {name.removeprefix("net."): mask for name, mask in cbp.preview().items()}
    chosen = _units(masks, plain)
    assert [len(c) for c in chosen] == [len(e) for e in expected]
    assert how == "autocast" or chosen == expected or how in ("checkpointed", "reentrant")  # ties keyed by name


def test_functions_are_read_under_data_parallel(tmp_path: Path) -> None:
    dist = torch.distributed
    if not dist.is_available():
        pytest.skip("torch was built without torch.distributed")
    torch.manual_seed(0)
    net, x = ConvNet("functions", "relu", "max pool"), torch.randn(8, 1, 8, 8)
    expected = replacements(copy.deepcopy(net), x)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(net)
        cbp = regrow.ContinualBackprop(model, replacement_rate=0.4, maturity=0, seed=0)
        total(model(x)).backward()
        assert _units(cbp.preview(), net) == expected
    finally:
        dist.destroy_process_group()


def _below(units: regrow.Units, prefix: str) -> regrow.Units:
    def moved(places: tuple) -> tuple:
        return tuple(p._replace(name=prefix + p.name) for p in places)

    activation = units.activation.replace("('", f"('{prefix}").replace("input of ", f"input of {prefix}")
    return regrow.Units(
        moved(units.weight_in), moved(units.bias), moved(units.norm), moved(units.weight_out), activation,
        units.positions, units.axis,
    )  # fmt: skip


def test_a_value_that_depends_on_chance_is_read_where_it_is_seen() -> None:
    """Dropout before the nonlinearity cannot be computed once more: h is read behind the pool then."""

    class Net(ConvNet):
        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(F.relu(F.dropout(self.conv1(x), 0.5)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    found = find_units(Net("functions", "relu", "max pool"))
    assert [u.activation for u in found] == ["input of conv2", "F.relu('conv2')", "input of fc2"]


def test_a_formula_by_hand() -> None:
    """`Units` takes formulas, checks them, and is still a value."""
    net = ConvNet("functions", "relu", "max pool")
    fields = (("conv1.weight", 0), ("conv1.bias", 0), None, ("conv2.weight", 1))
    units = regrow.Units(*fields, "F.relu(operator.mul(2.0, 'conv1'))")
    assert pickle.loads(pickle.dumps(units)) == units == copy.deepcopy(units)
    reading = units.reading(net)
    assert reading.outputs == (net.conv1,) and reading.axis == -3
    z = torch.randn(2, 5, 3, 3)
    assert torch.equal(reading.activation((), {}, z), F.relu(2 * z))
    for text in ("F.relu('conv1', )()", "F.nonsense('conv1')", "relu('conv1')", "'conv1'.relu()", "F.relu(x='a'"):
        with pytest.raises(ValueError, match="formula|must name a module|must call"):
            regrow.Units(*fields, text).count(net)
    with pytest.raises(ValueError, match="there is no 'conv9'"):
        regrow.Units(*fields, "F.relu('conv9')").count(net)
