"""The paper's networks: what is claimed.

They have the paper's parameter counts; every parameter's law is the one in the paper's table and its initial values
follow it; they compute what loops written from the description compute, dropout included; a generator decides the
initial weights and leaves torch's own alone; torch can trace, compile and stack them; bad sizes are refused.
"""

import copy

import pytest
import torch
import torch.fx
from scipy import stats
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from regrow import reparametrize_layer_norms
from regrow.lab.nets import MLP, ViT
from regrow.laws import Constant, Normal, Uniform

TINY = {"image_size": 8, "patch_size": 4, "width": 12, "depth": 2, "heads": 3, "mlp": 10, "classes": 7}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scattered(net, seed=0):
    """The net with every parameter drawn at random, so that none hides behind a 0 or a 1."""
    generator = seeded(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.3)
    return net


def follows(values, law):
    """True where the values pass for draws from the law: Kolmogorov-Smirnov, mean and standard deviation."""
    values = values.detach().flatten().double()
    if isinstance(law, Constant):
        return bool((values == law.value).all())
    n = len(values)
    centred = abs(float(values.mean()) - law.mean) < 4.5 * law.std / n**0.5
    spread = abs(float(values.std()) / law.std - 1) < 4.5 / (2 * n) ** 0.5
    some = values[:: -(-n // 20_000)].numpy()
    return centred and spread and stats.kstest(some, lambda x: law.cdf(torch.from_numpy(x)).numpy()).pvalue > 1e-5


# MLP


@pytest.mark.parametrize(
    "hidden, layer_norm, count", ((100, False, 99_710), (100, True, 100_310), (10, False, 8_180), (10, True, 8_240))
)
def test_mlp_has_the_papers_parameter_count(hidden, layer_norm, count):
    assert sum(p.numel() for p in MLP(hidden, layer_norm).parameters()) == count


@pytest.mark.parametrize("layer_norm", (False, True))
def test_mlp_laws(layer_norm):
    expected = {"out.bias": Constant(0.0), "out.weight": Normal(0.0, (2 / 100) ** 0.5)}
    for layer, fan_in in ((1, 784), (2, 100), (3, 100)):
        expected[f"fc{layer}.weight"] = Normal(0.0, (2 / fan_in) ** 0.5)
        expected[f"fc{layer}.bias"] = Constant(0.0)
        if layer_norm:
            expected |= {f"norm{layer}.weight": Constant(1.0), f"norm{layer}.bias": Constant(0.0)}
    net = MLP(layer_norm=layer_norm, generator=seeded())
    assert net.init_laws() == expected
    for name, parameter in net.named_parameters():
        assert follows(parameter, expected[name]), name


@pytest.mark.parametrize("position", (None, "after", "before"))
def test_mlp_loop_twin(position):
    options = {"layer_norm": True, "ln_position": position} if position else {}
    net = scattered(MLP(4, inputs=6, outputs=3, **options)).double()
    images = torch.randn(5, 6, generator=seeded(1), dtype=torch.float64)
    p = {name: value.detach() for name, value in net.named_parameters()}

    def norm(h, layer):
        mean = sum(h) / len(h)
        var = sum((value - mean) ** 2 for value in h) / len(h)
        pairs = zip(h, p[f"norm{layer}.weight"], p[f"norm{layer}.bias"], strict=True)
        return [(value - mean) / (var + 1e-5) ** 0.5 * w + b for value, w, b in pairs]

    for image, output in zip(images, net(images), strict=True):
        h = list(image)
        for layer in (1, 2, 3):
            rows = zip(p[f"fc{layer}.weight"], p[f"fc{layer}.bias"], strict=True)
            h = [sum(w * x for w, x in zip(row, h, strict=True)) + b for row, b in rows]
            h = norm(h, layer) if position == "before" else h
            h = [max(value, 0 * value) for value in h]
            h = norm(h, layer) if position == "after" else h
        y = torch.stack(h) @ p["out.weight"].T + p["out.bias"]
        torch.testing.assert_close(output.detach(), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options, text",
    (
        ({"hidden": 0}, "`hidden` must be at least 1; got 0"),
        ({"inputs": -3}, "`inputs` must be at least 1; got -3"),
        ({"outputs": 0}, "`outputs` must be at least 1; got 0"),
        ({"ln_position": "middle"}, "`ln_position` must be 'after' or 'before' (the activation); got 'middle'"),
    ),
)
def test_mlp_refuses(options, text):
    with pytest.raises(ValueError) as caught:
        MLP(**options)
    assert str(caught.value) == text


# ViT


@pytest.fixture(scope="module")
def full():
    return {norm: ViT(norm=norm, generator=seeded(5)) for norm in ("standard", "reparam")}


@pytest.mark.parametrize("norm", ("standard", "reparam"))
def test_vit_has_the_papers_parameter_count(full, norm):
    parameters = list(full[norm].parameters())
    assert sum(p.numel() for p in parameters) == 14_279_140 and len(parameters) == 104
    assert full[norm].position.shape == (1, 65, 384) and full[norm].class_token.shape == (1, 1, 384)
    assert full[norm].blocks[0].attention.qkv.weight.shape == (1152, 384)
    norms = [m for m in full[norm].modules() if isinstance(m, nn.LayerNorm)]
    assert {m.eps for m in norms} == {1e-5 if norm == "standard" else 1e-6} and len(norms) == 17


def table(name, scale):
    """The table of initial values, with its numbers as printed."""
    bounds = {"attention.qkv": 0.0625, "attention.out": 0.05103, "mlp.fc1": 0.05103, "mlp.fc2": 0.02552}
    module, _, part = name.rpartition(".")
    if name == "patch.weight":
        return Normal(0.0, 0.1443)
    if name == "position":
        return Normal(0.0, 0.02)
    for layer, bound in bounds.items():
        if module.endswith(layer) and (part == "weight" or layer.startswith("mlp")):
            return Uniform(-bound, bound)
    return Constant(scale if "norm" in module and part == "weight" else 0.0)


@pytest.mark.parametrize("norm, scale", (("standard", 1.0), ("reparam", 0.0)))
def test_vit_laws_are_the_papers_and_its_initial_values_follow_them(full, norm, scale):
    declared = full[norm].init_laws()
    assert list(declared) == [name for name, _ in full[norm].named_parameters()]
    for name, parameter in full[norm].named_parameters():
        expected, law = table(name, scale), declared[name]
        assert type(law) is type(expected), name
        assert (law.mean, law.std) == pytest.approx((expected.mean, expected.std), rel=4e-4), name
        assert follows(parameter, law), name


def test_laws_follow_a_conversion():
    for net in (MLP(4, layer_norm=True), ViT(**TINY)):
        before = net.init_laws()
        reparametrize_layer_norms(net)
        for name, law in net.init_laws().items():
            assert law == (Constant(0.0) if "norm" in name else before[name])


def twin_vit(net, images, drop=lambda x: x):
    """The forward pass from the description, head by head; `drop` stands at each of the listed places."""
    p = dict(net.named_parameters())
    heads, scale = TINY["heads"], 1.0 if type(net.norm) is not nn.LayerNorm else 0.0
    size, (batch, _, side, _) = TINY["patch_size"], images.shape

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        x_hat = centred / (centred.square().mean(-1, keepdim=True) + net.norm.eps) ** 0.5
        return x_hat * (scale + p[f"{name}.weight"]) + p[f"{name}.bias"]

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    corners = [(i, j) for i in range(0, side, size) for j in range(0, side, size)]
    patches = torch.stack([images[:, :, i : i + size, j : j + size].reshape(batch, -1) for i, j in corners], 1)
    tokens = patches @ p["patch.weight"].flatten(1).T + p["patch.bias"]
    x = drop(torch.cat([p["class_token"].repeat(batch, 1, 1), tokens], 1) + p["position"])
    for i in range(TINY["depth"]):
        q, k, v = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attention.qkv").chunk(3, -1)
        q, k, v = (torch.stack(part.chunk(heads, -1), 1) for part in (q, k, v))  # (B, H, T, C / H)
        weights = drop((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1))
        mixed = torch.cat((weights @ v).unbind(1), -1)
        x = x + drop(linear(mixed, f"blocks.{i}.attention.out"))
        h = linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")
        h = drop(h * (1 + torch.erf(h / 2**0.5)) / 2)
        x = x + drop(linear(h, f"blocks.{i}.mlp.fc2"))
    return linear(norm(x, "norm")[:, 0], "head")


@pytest.mark.parametrize("norm", ("standard", "reparam"))
def test_vit_twin(norm):
    net = scattered(ViT(norm=norm, **TINY)).double().eval()
    images = torch.randn(3, 3, 8, 8, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(net(images), twin_vit(net, images), rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(net(images).square().sum(), tuple(net.parameters()))
    expected = torch.autograd.grad(twin_vit(net, images).square().sum(), tuple(net.parameters()))
    for got, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)


def test_vit_drops_out_where_the_paper_does():
    """In training the twin draws the same dropout masks in the same order, so nothing else may draw any."""
    net = scattered(ViT(dropout=0.3, **TINY)).double().train()
    images = torch.randn(3, 3, 8, 8, generator=seeded(1), dtype=torch.float64)
    torch.manual_seed(3)
    ours = net(images)
    torch.manual_seed(3)
    expected = twin_vit(net, images, lambda x: F.dropout(x, 0.3))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(ours, net.eval()(images))


def test_vit_at_first_knows_nothing(full):
    """The head is 0, so every class has the same logit."""
    with torch.no_grad():
        assert not full["standard"].eval()(torch.rand(2, 3, 32, 32)).any()


@pytest.mark.parametrize(
    "options, text",
    (
        ({"norm": "batch"}, "`norm` must be 'standard' or 'reparam'; got 'batch'"),
        ({"dropout": 1.5}, "`dropout` must be in [0, 1], a share of the entries; got 1.5"),
        ({"depth": 0}, "`depth` must be at least 1; got 0"),
        ({"width": 50}, "`width` must be a multiple of `heads`; got 50 and 12"),
        ({"image_size": 30}, "`image_size` must be a multiple of `patch_size`; got 30 and 4"),
    ),
)
def test_vit_refuses(options, text):
    with pytest.raises(ValueError) as caught:
        ViT(**options)
    assert str(caught.value) == text
    with pytest.raises(TypeError):
        ViT("standard")  # keyword only


# Both

NETS = {
    "mlp": (lambda **options: MLP(8, layer_norm=True, inputs=12, **options), (12,)),
    "vit": (lambda **options: ViT(**TINY, **options), (3, 8, 8)),
}
both = pytest.mark.parametrize("build, shape", NETS.values(), ids=NETS)


@both
def test_the_generator_decides_the_initial_weights(build, shape):
    state = torch.get_rng_state()
    a, b, c = (build(generator=seeded(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)  # torch's own generator is left alone
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)
    torch.manual_seed(1)
    assert all(torch.equal(a[name], value) for name, value in build().state_dict().items())


@both
def test_reset_parameters_makes_it_new(build, shape):
    net = scattered(build())
    net.reset_parameters(seeded(1))
    fresh = build(generator=seeded(1)).state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in net.state_dict().items())


@both
def test_torch_traces_and_compiles_them(build, shape):
    torch._dynamo.reset()
    net, x = scattered(build()).eval(), torch.randn(4, *shape, generator=seeded())
    for other in (torch.fx.symbolic_trace(net), torch.compile(net, backend="eager", fullgraph=True)):
        torch.testing.assert_close(other(x), net(x))


@both
def test_a_stack_of_them_equals_single_runs(build, shape):
    nets = [scattered(build(), seed).double().eval() for seed in range(3)]
    x = torch.randn(4, *shape, generator=seeded(), dtype=torch.float64)
    parameters, buffers = stack_module_state(nets)
    base = copy.deepcopy(nets[0]).to("meta")
    with sdpa_kernel(SDPBackend.MATH):  # vmap has no rule for the CPU's fused attention
        outputs = vmap(lambda p, b: functional_call(base, (p, b), (x,)))(parameters, buffers)
    torch.testing.assert_close(outputs, torch.stack([net(x) for net in nets]), rtol=1e-12, atol=1e-12)
