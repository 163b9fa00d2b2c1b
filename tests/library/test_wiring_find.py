"""Claim: `find_units` finds the units that are there under the names that are expected.

Finding leaves no mark on the model, and wrappers make no difference.
"""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from wiring_zoo import ZOO, Around, LeNet, Net, ResNet, Untraceable, layers

from regrow.wiring import Place, Units, find_units


def build(name: str) -> nn.Module:
    return ZOO[name]()[0]


# What is found.


def test_names_of_a_lenet() -> None:
    first, second, third = find_units(LeNet())
    assert first == Units(("conv1.weight", 0), ("conv1.bias", 0), None, ("conv2.weight", 1), "F.relu('conv1')")
    assert second == Units(
        ("conv2.weight", 0), ("conv2.bias", 0), None, ("fc1.weight", 1), "F.relu('conv2')", positions=4
    )
    assert third == Units(("fc1.weight", 0), ("fc1.bias", 0), None, ("fc2.weight", 1), "input of fc2")


def test_names_of_a_residual_network() -> None:
    found = find_units(ResNet())
    norm = [(f"blocks.0.bn1.{key}", 0) for key in ("bias", "running_mean", "running_var", "weight")]
    assert found[0] == Units(
        ("blocks.0.conv1.weight", 0), None, norm, ("blocks.0.conv2.weight", 1), "input of blocks.0.conv2"
    )
    assert layers(found) == ["blocks.0.conv1", "blocks.1.conv1"]
    assert (
        found.left_out["stem.0"]
        == found.left_out["blocks.1.conv2"]
        == "added to another tensor, as in a residual stream"
    )
    assert found.left_out["head"] == "its output leaves the model"


def test_norms_on_either_side() -> None:
    found = find_units(build("sequential"))
    assert [units.norm for units in found] == [
        (Place("2.bias", 0), Place("2.weight", 0)),
        (Place("3.1.bias", 0), Place("3.1.weight", 0)),
        (Place("5.weight", 0),),
    ]
    assert [units.activation for units in found] == ["1", "3.2", "4"]
    flat = find_units(build("sequential conv"))[2]
    assert flat.weight_in == (Place("7.weight", 1),) and flat.axis is None  # a transposed convolution
    assert flat.norm == tuple(
        Place(f"10.{key}", 0, None, 16) for key in ("bias", "running_mean", "running_var", "weight")
    )
    assert flat.weight_out == (Place("11.weight", 1, None, 16),) and flat.positions == 16


def test_gated_units_have_several_rows() -> None:
    swiglu, packed, glu = find_units(build("gated"))
    assert swiglu.weight_in == (Place("gate.weight", 0), Place("up.weight", 0)) and swiglu.bias == (
        Place("up.bias", 0),
    )
    assert packed.weight_in == (Place("packed.weight", 0, 0), Place("packed.weight", 0, 5))
    assert packed.bias == (Place("packed.bias", 0, 0), Place("packed.bias", 0, 5))
    assert (swiglu.activation, packed.activation, glu.activation) == ("input of down", "input of down2", "glu")
    assert find_units(build("gated")).sizes == (6, 5, 4)


def test_several_readers_and_several_columns() -> None:
    trunk = find_units(build("actor-critic"))[1]
    assert trunk.weight_out == (Place("actor.0.weight", 1), Place("critic.weight", 1)) and trunk.activation == "trunk.3"
    crelu, both, a, b = find_units(build("crelu"))
    assert crelu.weight_out == (Place("fc2.weight", 1, 0), Place("fc2.weight", 1, 6))
    assert both.weight_out == (Place("a.weight", 1), Place("b.weight", 1)) and both.activation == "input of a"
    assert (a.weight_out, b.weight_out) == ((Place("out.weight", 1, 0),), (Place("out.weight", 1, 3),))
    tokens = find_units(build("tokens"))[0]
    assert tokens.weight_out == (Place("fc2.weight", 1, None, 3, 5),)


def test_the_networks_of_the_paper() -> None:
    after, before = (find_units(build(f"mlp norm {where}")) for where in ("after", "before"))
    assert [u.activation for u in after] == [
        "input of norm1",
        "input of norm2",
        "input of norm3",
    ]  # h is before the norm
    assert [u.activation for u in before] == ["input of fc2", "input of fc3", "input of out"]
    assert (
        [u.norm for u in after]
        == [u.norm for u in before]
        == [(Place(f"norm{i}.bias", 0), Place(f"norm{i}.weight", 0)) for i in (1, 2, 3)]
    )
    vit = find_units(build("vit"))
    assert layers(vit) == ["blocks.0.mlp.fc1", "blocks.1.mlp.fc1"] and vit[0].activation == "blocks.0.mlp.gelu"
    both = find_units(build("vit"), kinds=("hidden", "attention"))
    assert both[0] == Units(
        ("blocks.0.attention.qkv.weight", 0, 24), ("blocks.0.attention.qkv.bias", 0, 24), None,
        ("blocks.0.attention.out.weight", 1), "input of blocks.0.attention.out",
    )  # fmt: skip
    assert layers(both) == ["blocks.0.attention.qkv", "blocks.0.mlp.fc1", "blocks.1.attention.qkv", "blocks.1.mlp.fc1"]


def test_torch_attention() -> None:
    block = nn.TransformerEncoderLayer(8, 2, 12)
    first, second = find_units(block, kinds=("attention", "hidden"))
    assert first == Units(
        ("self_attn.in_proj_weight", 0, 16), ("self_attn.in_proj_bias", 0, 16), None, ("self_attn.out_proj.weight", 1),
        "values of self_attn",
    )  # fmt: skip
    assert second == Units(("linear1.weight", 0), ("linear1.bias", 0), None, ("linear2.weight", 1), "input of dropout")
    assert find_units(block).left_out["self_attn"] == "its units are found with kinds='attention'"
    assert find_units(block, kinds="attention").left_out["linear1"] == "its units are found with kinds='hidden'"
    separate = find_units(nn.MultiheadAttention(8, 2, vdim=3, add_bias_kv=True), kinds="attention")[0]
    assert separate.weight_in == (Place("v_proj_weight", 0),)
    assert separate.bias == (Place("in_proj_bias", 0, 16), Place("bias_v", 2))
    assert separate.activation == "values of "


def test_hugging_face() -> None:
    pytest.importorskip("transformers")
    from wiring_zoo import hugging_face

    zoo = hugging_face()
    gpt2 = find_units(zoo["gpt2"]()[0], kinds=("hidden", "attention"))
    assert gpt2[0].weight_in == (Place("transformer.h.0.attn.c_attn.weight", 1, 32),)  # (in, out): units on dimension 1
    assert gpt2[1].weight_in == (Place("transformer.h.0.mlp.c_fc.weight", 1),)
    assert gpt2[1].weight_out == (Place("transformer.h.0.mlp.c_proj.weight", 0),)
    llama = find_units(zoo["llama 2"]()[0], kinds=("hidden", "attention"))
    assert llama[0].weight_out == (Place("model.layers.0.self_attn.o_proj.weight", 1, None, 2, 4),)  # two query heads
    assert llama.sizes == (8, 24, 8, 24)
    assert layers(find_units(zoo["vit"]()[0])) == ["vit.layers.0.mlp.fc1", "vit.layers.1.mlp.fc1"]


def test_repr() -> None:
    """It says what was found, what was left out and why; layers that differ in numbers alone share a line."""
    net = nn.Sequential(*(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(2)))
    assert repr(find_units(net)) == (
        "16 units in 2 layers\n"
        "  8 Units(0.0.weight -> 0.2.weight, h: output of 0.1)\n"
        "  8 Units(1.0.weight -> 1.2.weight, h: output of 1.1)\n"
        "  left out:\n"
        "    0.2: no activation between it and '1.0'\n"
        "    1.2: its output leaves the model"
    )
    text = repr(find_units(build("vit")))
    assert "blocks.*.mlp.fc2 (2 layers)" in text.replace("fc*", "fc2") and text.startswith("32 units in 2 layers\n")


# Forwards that are hard to follow.


def test_parts_of_an_untraceable_model() -> None:
    found = find_units(Untraceable())
    assert layers(found) == ["mlp.0"]
    reason = (
        "the forward of the model could not be followed: TraceError: symbolically traced variables cannot be used as "
        "inputs to control flow"
    )
    assert found.left_out == {
        "first": reason, "last": reason, "mlp.2": "no activation between it and the end of 'mlp'",
    }  # fmt: skip


def test_an_example_shows_that_a_part_is_not_called() -> None:
    model = Untraceable(call=False)
    assert layers(find_units(model)) == ["mlp.0"]  # what the part by itself would be
    with pytest.raises(ValueError, match=r"mlp\.\* \(2 layers\): the example does not call 'mlp'"):
        find_units(model, torch.randn(2, 4))


def test_a_model_around_an_untraceable_part() -> None:
    found = find_units(Around())
    assert layers(found) == ["fc1", "part.mlp.0", "fc2"]
    assert found.left_out["back"] == "read by 'part' (Untraceable), unknown here"
    assert layers(find_units(Around(), torch.randn(2, 4))) == layers(found)


def test_the_batch_size_may_come_from_the_input() -> None:
    class Sized(LeNet):
        def forward(self, x: Tensor) -> Tensor:
            b, *_ = x.shape[0], 1
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.avg_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc2(F.relu(self.fc1(x.reshape(b, -1))))

    class Folded(Sized):  # two images of each example are worked on as two examples
        def forward(self, x: Tensor) -> Tensor:
            b = x.shape[0]
            x = F.relu(self.conv1(x.view(-1, 1, 14, 14)))
            x = F.avg_pool2d(F.relu(self.conv2(F.max_pool2d(x, 2))), (4, 2))
            return self.fc2(F.relu(self.fc1(x.reshape(b, -1))))

    assert find_units(Sized())[1].positions == 4
    assert layers(find_units(Folded())) == ["conv1", "fc1"]
    assert layers(find_units(Folded(), torch.randn(3, 2, 14, 14))) == ["conv1", "fc1"]


@pytest.mark.parametrize("sizes", [False, True])
def test_long_chains_of_additions(sizes: bool) -> None:
    """As of an Euler solver's steps; sizes double here, so that each looked at by itself would take 2^1000 looks."""

    def forward(m: Net, x: Tensor) -> Tensor:
        h, n, y = m.a(x), x.size(-1), x
        for _ in range(1000):
            n, y = (n + n, y) if sizes else (n, y + x)
        return m.c(F.relu(m.b(F.relu(n * h) if sizes else F.relu(y + h))))

    found = find_units(Net(forward))
    assert layers(found) == (["a", "b"] if sizes else ["b"])
    assert sizes or found.left_out["a"] == "added to another tensor, as in a residual stream"


def test_an_example_settles_dimensions() -> None:
    net = Net(lambda m, x: m.v(F.relu(m.a(x)).transpose(1, 2).flatten(1)), v=nn.Linear(18, 2))
    with pytest.raises(ValueError, match="give an example_input"):
        find_units(net)
    assert find_units(net, torch.randn(2, 3, 6))[0].weight_out == (Place("v.weight", 1, None, 3),)
    tokens = Net(lambda m, x: m.b(F.relu(m.a(x)).mean(1)))
    assert layers(find_units(tokens, {"x": torch.randn(2, 3, 6)})) == ["a"]
    units = Net(lambda m, x: m.v(F.relu(m.a(x)).mean(1, keepdim=True)), v=nn.Linear(1, 2))
    with pytest.raises(ValueError, match="a: reduced over its units"):
        find_units(units, (torch.randn(3, 6),))


def test_an_unused_activation_is_noticed() -> None:
    """A part that the example does not reach is not believed."""
    net = Net(lambda m, x: m.d(F.relu(m.a(x))))
    net.b = nn.TransformerEncoderLayer(6, 2, 8)  # type: ignore[assignment]
    assert layers(find_units(net)) == ["a", "b.linear1"]
    found = find_units(net, torch.randn(2, 6))
    assert layers(found) == ["a"] and found.left_out["b.linear1"] == "its activation is not seen in the example"


# No mark is left, and wrappers make no difference.


class Marked(nn.Module):
    """Keeps what it saw, counts its forwards, draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.bn = nn.Linear(4, 6), nn.Linear(6, 2), nn.BatchNorm1d(6)
        self.seen, self.last = 0, None
        self.register_buffer("noise", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        self.last = h = self.bn(F.relu(self.a(x)))
        torch.rand(3)
        return self.b(F.dropout(h, 0.5, True))


def test_no_mark_is_left() -> None:
    for example in (None, torch.randn(3, 4)):
        net = Marked()
        net.b.eval()
        modes = [m.training for m in net.modules()]
        state, rng = copy.deepcopy(net.state_dict()), torch.get_rng_state()
        keys = {name: set(m.__dict__) for name, m in net.named_modules()}
        assert layers(find_units(net, example)) == ["a"]
        assert torch.equal(rng, torch.get_rng_state())
        assert all(torch.equal(v, net.state_dict()[k]) for k, v in state.items())
        assert modes == [m.training for m in net.modules()]
        assert keys == {name: set(m.__dict__) for name, m in net.named_modules()}
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
        if example is None:
            assert net.seen == 0 and net.last is None
        copy.deepcopy(net), pickle.dumps(net.state_dict())


def test_hooks_are_not_run_without_an_example() -> None:
    net = LeNet()
    for module in net.modules():
        module.register_forward_hook(lambda *_: pytest.fail("hook was run"))
    assert len(find_units(net)) == 3


def test_wrappers_make_no_difference() -> None:
    net = ResNet()
    expected = find_units(net)
    part = copy.deepcopy(net)
    part.blocks = torch.compile(part.blocks)  # type: ignore[assignment]
    inner = copy.deepcopy(net)
    inner.blocks[0].compile()
    for wrapped in (torch.compile(net), nn.DataParallel(net), torch.compile(nn.DataParallel(net)), part, inner):
        assert find_units(wrapped) == expected
        assert find_units(wrapped).left_out == expected.left_out


def test_found_is_a_value() -> None:
    found = find_units(LeNet())
    for other in (copy.deepcopy(found), pickle.loads(pickle.dumps(found)), find_units(LeNet().eval())):
        assert other == found and repr(other) == repr(found) and other.sizes == (4, 6, 10)
    assert found == list(found)
