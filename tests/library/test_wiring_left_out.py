"""Claim: `find_units` finds no units that are none, and whatever it leaves out has its reason."""

import copy
import re
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from wiring_zoo import LeNet, Net, layers

import regrow
from regrow.lab.general import StackedModule
from regrow.lab.nets import ViT
from regrow.wiring import find_units

CONV = {"k": nn.Conv2d(3, 4, 3), "l": nn.Conv2d(4, 4, 3, groups=2), "m": nn.Conv2d(4, 2, 1)}
NEVER = {
    "residual stream": (
        lambda m, x: m.d(F.relu(x + m.b(F.relu(m.a(x))))), {},
        {"b": "added to another tensor, as in a residual stream", "d": "its output leaves the model"}, ["a"],
    ),
    "two layers added": (
        lambda m, x: m.c(F.relu(m.a(x) + m.b(x))), {},
        dict.fromkeys("ab", "added to another tensor, as in a residual stream"), [],
    ),
    "tied autoencoder": (
        lambda m, x: F.linear(F.relu(m.a(x)), m.a.weight.t()), {},
        {"a": "shared: the forward of Net uses its parameters by itself"}, [],
    ),
    "called twice": (
        lambda m, x: m.c(F.relu(m.b(F.relu(m.a(F.relu(m.a(x))))))), {},
        {"a": "shared: the forward calls it more than once"}, ["b"],
    ),
    "reader called twice": (
        lambda m, x: m.b(F.relu(m.b(F.relu(m.a(x))))), {},
        {"a": "read by 'b', which is shared: the forward calls it more than once"}, [],
    ),
    "no activation": (lambda m, x: m.c(F.relu(m.b(m.a(x)))), {}, {"a": "no activation between it and 'b'"}, ["b"]),
    "norm alone": (
        lambda m, x: m.b(m.n(m.a(x))), {"n": nn.LayerNorm(6)}, {"a": "no activation between it and 'b'"}, [],
    ),
    "softmax": (lambda m, x: m.b(F.relu(m.a(x)).softmax(-1)), {}, {"a": "read by softmax(…), unknown here"}, []),
    "softmax module": (
        lambda m, x: m.b(m.s(F.relu(m.a(x)))), {"s": nn.Softmax(-1)}, {"a": "read by 's' (Softmax), unknown here"}, [],
    ),
    "also an output": (lambda m, x: (m.b(h := F.relu(m.a(x))), h), {}, {"a": "its output leaves the model"}, []),
    "indexed": (lambda m, x: m.b(F.relu(m.a(x))[:, :6]), {}, {"a": "indexed"}, []),
    "sorted": (lambda m, x: m.b(F.relu(m.a(x)).flip(-1)), {}, {"a": "read by flip(…), unknown here"}, []),
    "reversed by a transpose": (
        lambda m, x: m.b(F.relu(m.a(x)).transpose(-1, -2)), {},
        {"a": "read by 'b' along another dimension"}, [],
    ),
    "transposed from the front": (
        lambda m, x: m.b(F.relu(m.a(x)).transpose(1, 2)), {},
        {"a": "dimension 1 of a tensor with an unknown number of dimensions: give an example_input"}, [],
    ),
    "mean over units": (
        lambda m, x: m.b(x * F.relu(m.a(x)).mean(-1, keepdim=True)), {}, {"a": "reduced over its units"}, [],
    ),
    "different activations": (
        lambda m, x: m.b(F.relu(h := m.a(x))) + m.c(h.tanh()), {},
        {"a": "its readers see it through different activations"}, [],
    ),
    "gate read elsewhere": (
        lambda m, x: m.c(F.relu(g := m.a(x)) * m.b(x)) + m.d(F.relu(g)), {},
        {"a": "its readers see it combined with different layers",
         "b": "forms units together with 'a': its readers see it combined with different layers"}, [],
    ),
    "squeeze and excite": (
        lambda m, x: m.d((h := F.relu(m.a(x))) * m.c(F.relu(m.b(h))).sigmoid()), {},
        {"a": "its readers see it combined with different layers"}, ["b"],
    ),
    "multiplied by the input": (lambda m, x: m.b(F.relu(m.a(x)) * x), {}, {"a": "multiplied by another tensor"}, []),
    "scaled by a parameter": (
        lambda m, x: m.b(F.relu(m.a(x)) * m.n.weight), {"n": nn.LayerNorm(6)},
        {"a": "multiplied by another tensor"}, [],
    ),
    "concatenated with the input": (
        lambda m, x: m.w(torch.cat([x, F.relu(m.a(x))], -1)), {"w": nn.Linear(12, 2)},
        {"a": "concatenated with another tensor"}, [],
    ),
    "concatenated as examples": (
        lambda m, x: m.c(torch.cat([F.relu(m.a(x)), F.relu(m.b(x))], -2)), {},
        {"a": "concatenated with another tensor"}, [],
    ),
    "norm used twice": (
        lambda m, x: m.c(F.relu(m.n(m.b(F.relu(m.n(m.a(x))))))), {"n": nn.LayerNorm(6)},
        {"a": "passes through 'n', which is shared: the forward calls it more than once"}, [],
    ),
    "depthwise": (
        lambda m, x: m.m(F.relu(m.l(F.relu(m.k(x))))), CONV,
        {"k": "read by 'l', which is a grouped convolution (2 groups)", "l": "a grouped convolution (2 groups)"}, [],
    ),
    "positions mixed with units": (
        lambda m, x: m.v(F.relu(m.k(x)).permute(0, 2, 1, 3).flatten(1)),
        {"k": nn.Conv2d(3, 4, 3), "v": nn.Linear(36, 2)},
        {"k": "its positions are flattened in an order that mixes units"}, [],
    ),
    "pooled over units": (
        lambda m, x: m.v(F.max_pool1d(F.relu(m.a(x)), 2)), {"v": nn.Linear(3, 2)}, {"a": "pooled over its units"}, [],
    ),
    "recurrent": (
        lambda m, x: m.b(F.relu(m.a(m.r(x)[0]))), {"r": nn.GRU(6, 6)},
        {"r": "recurrent: its units read each other"}, ["a"],
    ),
    "read by recurrence": (
        lambda m, x: m.r(F.relu(m.a(x))), {"r": nn.LSTM(6, 6)}, {"a": "read by 'r' (LSTM), unknown here"}, [],
    ),
    "squeezed, unknown": (
        lambda m, x: m.m2(F.relu(m.k(x)).squeeze()), {"k": nn.Conv2d(3, 4, 3), "m2": nn.Linear(4, 2)},
        {"k": "squeezed, of unknown sizes"}, [],
    ),
    "flattened from somewhere": (
        lambda m, x: m.b(F.relu(m.a(x)).flatten(x.size(0))), {}, {"a": "a dimension is computed in the forward"}, [],
    ),
    "in-place addition": (
        lambda m, x: m.b(F.relu(m.a(x)).add_(x)), {}, {"a": "added to another tensor, as in a residual stream"}, [],
    ),
    "written into": (
        lambda m, x: (h := F.relu(m.a(x)), h.copy_(x), m.b(h))[-1], {},
        {"a": "read by copy(…) together with other numbers"}, [],
    ),
    "folded": (
        lambda m, x: m.w(F.relu(m.a(x)).view(x.size(0), -1, 12)), {"w": nn.Linear(12, 2)}, {"a": "reshaped"}, [],
    ),
    "custom op": (lambda m, x: m.b(relu(m.a(x))), {}, {"a": "read by relu(…), unknown here"}, []),
}  # fmt: skip


@torch.fx.wrap
def relu(x: Tensor) -> Tensor:
    """Called like an activation, and none."""
    return x.flip(-1)


@pytest.mark.parametrize("name", NEVER)
def test_left_out(name: str) -> None:
    forward, extra, reasons, kept = NEVER[name]
    net = Net(forward, **copy.deepcopy(extra))
    try:
        found, left_out = layers(f := find_units(net)), f.left_out
    except ValueError as error:
        found, left_out = [], {}
        for layer, reason in reasons.items():
            assert re.search(rf"\b{layer}: {re.escape(reason)}|\*.*{re.escape(reason)}", str(error)), error
    assert found == kept
    if left_out:
        assert {layer: left_out[layer] for layer in reasons} == reasons


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.a.requires_grad_(False), "frozen"),
        (lambda m: m.b.bias.requires_grad_(False), "read by 'b', which is frozen"),
        (lambda m: setattr(m.c, "weight", m.a.weight), "tied: a.weight is also c.weight"),
        (
            lambda m: setattr(m, "e", nn.ModuleList([m.b, m.b])),
            "read by 'b', which is shared: the forward calls it more than once",
        ),
        (
            lambda m: parametrizations.weight_norm(m.a),
            "its weight is computed from other parameters (a parametrization)",
        ),
        (lambda m: prune.l1_unstructured(m.a, "weight", 1), "its weight is computed from other parameters"),
        (lambda m: setattr(m.b, "forward", lambda x: x), "read by 'b' (Linear), unknown here"),
    ],
)
def test_layers_that_cannot_take_part(change, reason: str) -> None:  # type: ignore[no-untyped-def]
    net = Net(lambda m, x: m.c(m.b(F.relu(m.a(x)))))
    assert layers(find_units(net)) == ["a"]
    change(net)
    with pytest.raises(ValueError, match=re.escape(f"a: {reason}")):
        find_units(net)


def test_lazy_layers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert layers(find_units(net)) == ["2"]
    assert find_units(net).left_out["0"] == "not initialised yet: run one forward of the lazy module first"
    net(torch.randn(2, 6))
    assert layers(find_units(net)) == ["0", "2"]


def test_none_found() -> None:
    with pytest.raises(
        ValueError, match=r"^no units found in Sequential \(0: its output leaves the model\): give an example_input"
    ) as error:
        find_units(nn.Sequential(nn.Linear(2, 2)))
    assert "units=[regrow.Units(weight_in=" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"^no units found in GRU \(the model: recurrent: its units read each other\)"):
        find_units(nn.GRU(3, 4))
    with pytest.raises(ValueError, match=r"^no units found in ReLU \(it has no linear or convolutional layer\)"):
        find_units(nn.ReLU())
    with pytest.raises(ValueError, match="`kinds` must be one of 'hidden', 'attention'; got 'heads'"):
        find_units(LeNet(), kinds=("hidden", "heads"))
    with pytest.raises(TypeError, match="`model` must be a torch.nn.Module; got list"):
        find_units([])  # type: ignore[arg-type]


def test_layers_of_unknown_transformers() -> None:
    class Own(nn.TransformerEncoderLayer):
        def _ff_block(self, x: Tensor) -> Tensor:
            return self.linear2(self.linear1(x))

    with pytest.raises(ValueError, match="linear1: part of Own, whose forward is its own"):
        find_units(Own(8, 2, 12))
    with pytest.raises(ValueError, match="linear1: its activation is unknown here"):
        find_units(nn.TransformerEncoderLayer(8, 2, 12, activation=lambda x: x.softmax(-1)))


def softmaxed() -> nn.Module:
    """Layer b looks hidden, but is read by what `find_units` does not know."""
    return Net(lambda m, x: m.d(F.relu(m.c(m.b(F.relu(m.a(x))).relu().softmax(-1)))))


MAKE = {
    "cbp": lambda model, **more: regrow.ContinualBackprop(model, replacement_rate=0.1, maturity=1, **more),
    "redo": lambda model, **more: regrow.ReDo(model, every=1, threshold=0.1, **more),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_unit_methods_warn_once_of_layers_that_they_overlook(make) -> None:
    net = softmaxed()
    with pytest.warns(UserWarning) as caught:
        kept = make(net)
    (warning,) = caught
    message = "leaves out layers that may have hidden units: b: read by softmax(…), unknown here. To add them, give "
    assert f"{message}units=[*regrow.find_units(model), regrow.Units(...)]" in str(warning.message)
    assert warning.filename == __file__  # the caller's line
    net.d = nn.Linear(6, 3)  # looked at anew: nothing new to say (warnings are errors here)
    net(torch.randn(2, 6)).sum().backward()
    kept.step()
    copy.deepcopy(kept)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize(
    "options",
    [lambda net: {"units": find_units(net)}, lambda net: {"skip": "b"}, lambda net: {"only": ["a", "c"]}],
    ids=["units given", "skipped", "not in only"],
)
def test_they_do_not_where_it_is_wanted(make, options) -> None:
    net = softmaxed()
    make(net, **options(net))


@pytest.mark.parametrize(
    "model",
    [
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        lambda: nn.TransformerDecoderLayer(8, 2, 16, batch_first=True),
        lambda: ViT(image_size=8, patch_size=4, width=8, depth=2, heads=2, mlp=12, classes=5),
        lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(-1)),
        lambda: Net(lambda m, x: F.cross_entropy(m.d(F.relu(m.c(F.relu(m.b(F.relu(m.a(x))))))), x.argmax(1))),
        lambda: Net(lambda m, x: m.d(F.relu(m.c(F.relu(m.b(F.relu(m.a(x))))))).argmax(-1)),
    ],
)
def test_they_do_not_warn_of_what_has_no_units_by_its_nature(model) -> None:
    """Outputs, also as probabilities and losses, residual streams, attention, the patches of a vision transformer."""
    net = model()
    assert find_units(net).overlooked == {}
    regrow.ReDo(net, every=1, threshold=0.1)


def test_what_ends_a_part_of_a_forward_that_cannot_be_followed() -> None:
    """The last layer of all, and the last of a part without an activation behind it, are outputs, it seems."""
    part = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    net = Net(lambda m, x: m.f(m.e(m.d(F.relu(m.a(x))))) if x.sum() > 0 else x, e=part, f=nn.Linear(6, 2))
    found = find_units(net)
    assert layers(found) == ["e.0"] and set(found.overlooked) == {"a", "b", "c", "d"}
    assert found.left_out["e.2"] == "no activation between it and the end of 'e'"
    assert found.left_out["f"].startswith("its output leaves the model, it seems: the last of what could not be")


def test_stacks_warn_too() -> None:
    stack = StackedModule([softmaxed(), softmaxed()])
    with pytest.warns(UserWarning, match="a stack leaves out layers that may have hidden units: b: read by softmax"):
        assert len(stack.units) == 2
    assert len(stack.units) == 2
