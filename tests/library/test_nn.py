"""ReparamLayerNorm and its conversion: what is claimed.

It computes x_hat * (1 + weight) + bias as a loop does, and decay pulls its scale to 1; in half precision a small weight
is not lost. Converting a model leaves its function, its Parameter objects, its hooks and its optimizer's path as they
were, under torch's fused inference path for transformer layers too, and after copying, pickling and compiling.
"""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

import regrow
from regrow import ReparamLayerNorm, laws, reparametrize_layer_norms

TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
DTYPES = tuple(TOLERANCE)


def spread(module, seed=0):
    """The module, its norms' parameters moved away from their initial values, scales within [0.5, 1.5]."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.LayerNorm):
                for p in norm.parameters():
                    p += torch.rand(p.shape, generator=generator).to(p.dtype) - 0.5
    return module


def normal(*shape, dtype=torch.float32, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# The module itself


def loop_norm(x, weight, bias, eps):
    """One row at a time, one number at a time."""
    rows = []
    for row in x.reshape(-1, weight.numel()).tolist():
        mean = sum(row) / len(row)
        var = sum((value - mean) ** 2 for value in row) / len(row)
        affine = zip(row, weight.flatten().tolist(), bias.flatten().tolist(), strict=True)
        rows.append([(value - mean) / (var + eps) ** 0.5 * (1 + w) + b for value, w, b in affine])
    return torch.tensor(rows, dtype=torch.float64).view(x.shape)


@pytest.mark.parametrize("shape", (5, [2, 3]), ids=str)
def test_loop_twin(shape):
    norm = spread(ReparamLayerNorm(shape, eps=1e-3, dtype=torch.float64))
    x = normal(4, *norm.normalized_shape, dtype=torch.float64)
    torch.testing.assert_close(norm(x).detach(), loop_norm(x, norm.weight, norm.bias, 1e-3), rtol=1e-12, atol=1e-12)


def test_it_starts_at_zero_and_goes_back_there():
    norm = ReparamLayerNorm(3)
    assert not norm.weight.any() and not norm.bias.any()
    spread(norm)
    norm.reset_parameters()
    assert not norm.weight.any() and not norm.bias.any()
    assert repr(norm) == f"Reparam{nn.LayerNorm(3)}"


def test_it_declares_its_laws():
    zero = laws.Constant(0.0)
    assert ReparamLayerNorm(3).init_laws() == {"weight": zero, "bias": zero}
    assert ReparamLayerNorm(3, bias=False).init_laws() == {"weight": zero}
    assert ReparamLayerNorm(3, elementwise_affine=False).init_laws() == {}
    assert regrow.init_laws(nn.Sequential(ReparamLayerNorm(3))) == {"0.weight": zero, "0.bias": zero}


def test_decay_pulls_the_scale_to_one_and_an_ordinary_one_to_zero():
    ordinary = spread(nn.LayerNorm(8))
    ours = copy.deepcopy(ordinary)
    reparametrize_layer_norms(ours)
    for norm in (ordinary, ours):
        opt = regrow.SGDW(norm.parameters(), 0.1, weight_decay=0.01, decay="constant")
        for _ in range(2000):
            norm.weight.grad = torch.zeros(8)
            opt.step()
    torch.testing.assert_close(1 + ours.weight.detach(), torch.ones(8), rtol=0, atol=1e-6)
    torch.testing.assert_close(ordinary.weight.detach(), torch.zeros(8), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_a_small_weight_counts_in_half_precision(dtype):
    small = torch.finfo(dtype).eps / 4  # in this type 1 + small is 1
    norm, x = ReparamLayerNorm(1000, dtype=dtype), normal(50, 1000, dtype=dtype)
    before = norm(x).detach().double().abs().mean()
    nn.init.constant_(norm.weight, small)
    assert float(norm(x).detach().double().abs().mean() / before - 1) == pytest.approx(small, rel=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_flow_in_every_type(dtype):
    norm = spread(ReparamLayerNorm(6, dtype=dtype))
    x = normal(4, 6, dtype=dtype).requires_grad_()
    norm(x).square().sum().backward()
    wide, y = spread(ReparamLayerNorm(6, dtype=torch.float64)), x.detach().double().requires_grad_()
    with torch.no_grad():
        for p, q in zip(wide.parameters(), norm.parameters(), strict=True):
            p.copy_(q)
    wide(y).square().sum().backward()
    for ours, exact in ((x, y), (norm.weight, wide.weight), (norm.bias, wide.bias)):
        assert ours.grad.dtype == dtype
        scale = float(exact.grad.abs().max())
        torch.testing.assert_close(ours.grad.double() / scale, exact.grad / scale, rtol=0, atol=2 * TOLERANCE[dtype])


def test_state_dict_round_trip():
    norm, other = spread(ReparamLayerNorm(4)), ReparamLayerNorm(4)
    other.load_state_dict(norm.state_dict())
    x = normal(3, 4)
    assert torch.equal(norm(x), other(x)) and list(norm.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_compiled(dtype):
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(4, 4, dtype=dtype), spread(nn.LayerNorm(4, dtype=dtype)))
    x = normal(3, 4, dtype=dtype)
    before = model(x)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(x)
    reparametrize_layer_norms(compiled)  # after compiling: it must notice
    torch.testing.assert_close(compiled(x), before)
    torch.testing.assert_close(compiled(x), model(x))


# Conversion


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", ({}, {"bias": False}, {"elementwise_affine": False}), ids=str)
def test_the_function_is_unchanged(dtype, options):
    model = spread(nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5, **options), nn.ReLU(), nn.LayerNorm([5])).to(dtype))
    x = normal(7, 6, dtype=dtype)
    before = model(x)
    assert reparametrize_layer_norms(model) == 2
    assert model(x).dtype == dtype
    torch.testing.assert_close(model(x), before, rtol=0, atol=TOLERANCE[dtype])


def test_scales_far_from_one_change_by_rounding_only():
    norm = nn.LayerNorm(4)
    scales = torch.tensor([1e-3, -2.0, 30.0, 0.0])
    with torch.no_grad():
        norm.weight.copy_(scales)
    reparametrize_layer_norms(norm)
    torch.testing.assert_close(1 + norm.weight.detach(), scales, rtol=1e-7, atol=6e-8)


def test_modules_parameters_and_hooks_stay_the_same_objects():
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))
    norm, weight, bias = model[0], model[0].weight, model[0].bias
    calls = []
    norm.register_forward_hook(lambda *args: calls.append(1))
    before = weight.detach().clone()
    assert reparametrize_layer_norms(model) == 1
    assert model[0] is norm and norm.weight is weight and norm.bias is bias
    assert type(norm) is ReparamLayerNorm and torch.equal(weight, before - 1) and weight.requires_grad
    model(normal(2, 4))
    assert calls == [1]


def test_a_second_call_converts_nothing():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    assert reparametrize_layer_norms(model) == 2
    before = copy.deepcopy(model.state_dict())
    hooks = len(model.norm1._forward_pre_hooks)
    assert reparametrize_layer_norms(model) == 0
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert len(model.norm1._forward_pre_hooks) == hooks == 1


def test_the_model_may_be_a_layer_norm_itself():
    norm = spread(nn.LayerNorm(4))
    before = norm(normal(2, 4))
    assert reparametrize_layer_norms(norm) == 1
    assert torch.equal(norm(normal(2, 4)), before)


def test_subclasses_and_other_norms_are_left_alone():
    class Own(nn.LayerNorm):
        pass

    model = nn.Sequential(Own(4), nn.GroupNorm(2, 4), ReparamLayerNorm(4), nn.BatchNorm1d(4))
    before = copy.deepcopy(model.state_dict())
    assert reparametrize_layer_norms(model) == 0
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_a_shared_scale_is_converted_once():
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.LayerNorm(4))
    model[2].weight = model[0].weight
    spread(model[:1])
    before = model(normal(2, 4))
    assert reparametrize_layer_norms(model) == 2
    assert model[0].weight is model[2].weight
    torch.testing.assert_close(model(normal(2, 4)), before)


def test_a_shared_module_is_converted_once():
    norm = spread(nn.LayerNorm(4))
    model = nn.Sequential(norm, nn.Linear(4, 4), norm)
    before = model(normal(2, 4))
    assert reparametrize_layer_norms(model) == 1
    torch.testing.assert_close(model(normal(2, 4)), before)


@pytest.mark.parametrize("other", (nn.RMSNorm(4), ReparamLayerNorm(4), nn.LayerNorm(4)), ids=lambda m: type(m).__name__)
def test_a_scale_shared_with_something_else_is_refused_and_nothing_changed(other):
    model = nn.Sequential(nn.LayerNorm(4), other)
    if type(other) is nn.LayerNorm:
        other.bias = model[0].weight
    else:
        other.weight = model[0].weight
    with pytest.raises(ValueError, match=r"must be its own .* '1\.(weight|bias)' \(.*Norm\) shares it: untie"):
        reparametrize_layer_norms(model)
    assert type(model[0]) is nn.LayerNorm and torch.equal(model[0].weight, torch.ones(4))


def test_frozen_scales_are_converted_too():
    norm = spread(nn.LayerNorm(4)).requires_grad_(False)
    before = norm(normal(2, 4))
    assert reparametrize_layer_norms(norm) == 1
    assert torch.equal(norm(normal(2, 4)), before) and not norm.weight.requires_grad


@pytest.mark.parametrize(
    "optimizer",
    (
        lambda p: torch.optim.SGD(p, 0.1, 0.9),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.0),
        lambda p: regrow.SGDW(p, 0.1, 0.9, nesterov=True),
    ),
    ids=("SGD", "AdamW", "SGDW"),
)
def test_an_existing_optimizer_stays_right(optimizer):
    """Converted in mid-training, without decay, the model takes the path it would have taken."""
    torch.manual_seed(0)
    converted = spread(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 1))).double()
    untouched = copy.deepcopy(converted)
    optimizers = [optimizer(model.parameters()) for model in (converted, untouched)]
    for step in range(20):
        x = normal(8, 4, dtype=torch.float64, seed=step)
        for model, opt in zip((converted, untouched), optimizers, strict=True):
            opt.zero_grad()
            model(x).square().mean().backward()
            opt.step()
        if step == 9:
            reparametrize_layer_norms(converted)
    assert isinstance(converted[1], ReparamLayerNorm)
    torch.testing.assert_close(1 + converted[1].weight, untouched[1].weight, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(converted(x), untouched(x), rtol=1e-10, atol=1e-10)


# Transformer layers: torch's fused inference kernel reads the norms' weights itself.


def through_a_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


CLONES = {
    "itself": lambda model: model,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "file": through_a_file,
}
PADDING = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]).bool()


def encoder(norm_first, dtype):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, 0.1, "gelu", batch_first=True, norm_first=norm_first)
    stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=not norm_first)
    return spread(stack).eval().to(dtype)


@pytest.mark.parametrize("clone", CLONES.values(), ids=CLONES)
@pytest.mark.parametrize("norm_first", (False, True), ids=("post", "pre"))
@pytest.mark.parametrize("padding", (None, PADDING), ids=("whole", "padded"))
@pytest.mark.parametrize("mode", (torch.no_grad, torch.inference_mode, torch.enable_grad))
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_transformer_encoder_in_eval(clone, norm_first, padding, mode):
    model = encoder(norm_first, torch.float32)
    x = normal(3, 5, 16)
    with mode():
        before = model(x, src_key_padding_mask=padding)
        assert reparametrize_layer_norms(model) == 5
        after = clone(model)(x, src_key_padding_mask=padding)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float64))
@pytest.mark.parametrize("padding", (None, PADDING), ids=("whole", "padded"))
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_transformer_encoder_in_other_types(dtype, padding):
    model = encoder(False, dtype)
    x = normal(3, 5, 16, dtype=dtype)
    with torch.no_grad():
        before = model(x, src_key_padding_mask=padding)
        reparametrize_layer_norms(model)
        after = model(x, src_key_padding_mask=padding)
    torch.testing.assert_close(after, before, rtol=0, atol=5 * TOLERANCE[dtype])


def test_constructed_norms_stand_in_a_transformer_layer():
    layer = encoder(False, torch.float32).layers[0]
    twin = copy.deepcopy(layer)
    for name in ("norm1", "norm2"):
        norm = ReparamLayerNorm(16)
        with torch.no_grad():
            norm.weight.copy_(getattr(layer, name).weight - 1)
            norm.bias.copy_(getattr(layer, name).bias)
        setattr(twin, name, norm.eval())
    x = normal(3, 5, 16)
    with torch.inference_mode():
        torch.testing.assert_close(twin(x), layer(x), rtol=1e-5, atol=1e-5)


def test_the_whole_transformer():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about nested tensors and batch_first
        model = spread(nn.Transformer(16, 4, 1, 1, 32)).eval()
    src, tgt = normal(5, 3, 16), normal(4, 3, 16, seed=2)
    with torch.no_grad():
        before = model(src, tgt)
        assert reparametrize_layer_norms(model) == 7
        torch.testing.assert_close(model(src, tgt), before, rtol=1e-5, atol=1e-5)
