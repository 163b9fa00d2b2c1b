"""Laws of models that were not born here: those of a fresh twin, of Hugging Face, of PEFT; and of tensors that grew."""

import copy
import math
import types
import warnings

import pytest
import torch
from torch import nn

import regrow
from regrow.laws import (
    Constant,
    Empirical,
    Law,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    grown_law,
    grown_laws,
    init_laws,
    look_up_laws,
    resolve_laws,
)
from regrow.names import walk


def make() -> nn.Sequential:
    """Laws of every kind, of which a trained copy keeps no trace."""
    net = nn.Sequential(nn.Embedding(200, 16), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.LayerNorm(32))
    nn.init.normal_(net[0].weight, std=0.02)
    nn.init.orthogonal_(net[3].weight)
    net.token = nn.Parameter(torch.zeros(300).normal_(0, 0.5))
    return net


def trained(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape).pow(3) + 5)
    return net


@pytest.fixture(autouse=True)
def _quiet() -> object:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning, message="laws")
        yield


# A fresh module.


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, torch.compile])
def test_the_laws_of_a_fresh_twin(wrap) -> None:  # type: ignore[no-untyped-def]
    fresh = make()
    laws = resolve_laws(walk(wrap(trained(make()))), fresh)
    assert laws == resolve_laws(walk(trained(make())), wrap(fresh))
    assert laws["0.weight"] == Normal(0, 0.02) and laws["1.weight"] == Uniform(-0.25, 0.25)
    assert (
        laws["3.weight"] == Orthogonal(1.0, 64) and laws["4.weight"] == Constant(1) and laws["token"] == Normal(0, 0.5)
    )
    assert list(laws) == [entry.name for entry in walk(fresh)]


def test_a_maintainer_takes_a_fresh_module() -> None:
    net = trained(make())
    swr = regrow.SWR(net, every=1, factor=1e9, laws=make(), seed=0)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    swr.step()
    assert net[0].weight.std().item() == pytest.approx(0.02, rel=0.1) and net[1].weight.abs().max() <= 0.25


def test_a_fresh_module_among_rules() -> None:
    net = trained(make())
    laws = resolve_laws(walk(net), {"token": Constant(3), "*": make()})
    assert laws["token"] == Constant(3) and laws["0.weight"] == Normal(0, 0.02)
    net.extra = nn.Linear(4, 4)
    with pytest.raises(
        ValueError, match=r"^no law for 'extra.weight' \(1 more: 'extra.bias'\), for the Sequential given"
    ):
        resolve_laws(walk(net), make())
    assert resolve_laws(walk(net), {"extra": "modules", "*": make()})["extra.bias"] == Uniform(-0.5, 0.5)


def test_what_is_frozen_in_the_twin_has_its_law_too() -> None:
    fresh = make().requires_grad_(False)
    assert resolve_laws(walk(trained(make())), fresh)["token"] == Normal(0, 0.5)


def test_the_model_itself_is_no_fresh_module() -> None:
    net = make()
    with pytest.raises(ValueError, match="^`laws` must be a fresh module, made as the model was; got the model itself"):
        resolve_laws(walk(net), net)


def test_tied_parameters_and_another_vocabulary() -> None:
    class Tied(nn.Module):
        def __init__(self, words: int, tie: bool) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(words, 8), nn.Linear(8, words, bias=False)
            nn.init.normal_(self.embed.weight, std=0.02)
            if tie:
                self.head.weight = self.embed.weight

    laws = resolve_laws(walk(trained(Tied(120, True))), Tied(100, True))
    assert laws == {"embed.weight": Normal(0, 0.02)}


# What cannot be told yet.


def test_failures_wait_for_those_who_can() -> None:
    net = make().to("meta")
    net.lazy = nn.LazyLinear(3)
    resolved = look_up_laws(walk(net))
    assert set(resolved.problems) == {"token", "lazy.weight", "lazy.bias"} and not resolved.guesses
    assert resolved.laws["1.weight"] == Uniform(-0.25, 0.25)
    with pytest.raises(
        ValueError, match=r"^no law for 'token' \(2 more: 'lazy.weight', 'lazy.bias'\), shape \(300,\): its"
    ):
        resolved.settle()
    known = resolved.without({"token", "lazy.weight", "lazy.bias"})
    assert known.settle() == resolved.laws


def test_warnings_wait_with_them() -> None:
    resolved = look_up_laws(walk(make()))
    assert set(resolved.guesses) == {"0.weight", "3.weight", "token"} and not resolved.problems
    assert resolved.without(resolved.guesses).settle().keys() == resolved.laws.keys() - resolved.guesses.keys()
    with pytest.warns(UserWarning, match="^laws read off the values") as caught:
        resolved.settle()
    assert caught[0].filename == __file__


def test_what_the_user_gave_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="matches no parameter"):
        look_up_laws(walk(make()), {"nothing": Normal()})
    with pytest.raises(ValueError, match="cannot have this law"):
        look_up_laws(walk(make()), {"1.bias": Orthogonal()})


# Tensors that grow.

LINEAR = (torch.Size([8, 16]), torch.Size([8, 64]))


@pytest.mark.parametrize(
    ("law", "then"),
    [
        (
            Uniform(-1 / math.sqrt(16), 1 / math.sqrt(16)),
            Uniform(-1 / 8, 1 / 8),
        ),  # plain 0.25 as well, but for its module
        (Normal(0, math.sqrt(2 / 16)), Normal(0, math.sqrt(2 / 64))),  # kaiming
        (Normal(0, math.sqrt(2 / 24)), Normal(0, math.sqrt(2 / 72))),  # xavier
        (Uniform(-math.sqrt(6 / 24), math.sqrt(6 / 24)), Uniform(-0.5, 0.5)),  # 0.5: a plain number
        (Uniform(-math.sqrt(6 / 16), math.sqrt(6 / 16)), Uniform(-math.sqrt(6 / 64), math.sqrt(6 / 64))),
        (Normal(0, 0.02), Normal(0, 0.02)),
        (TruncatedNormal(0, 0.02, -0.04, 0.04), TruncatedNormal(0, 0.02, -0.04, 0.04)),
        (Normal(1, 0.25), Normal(1, 0.25)),
        (Constant(0), Constant(0)),
        (Orthogonal(2.0, 16), Orthogonal(2.0, 64)),
        (Empirical(torch.ones(3)), Empirical(torch.ones(3))),
        (Uniform(0, 1), Uniform(0, 1)),
    ],
)
def test_another_fan_in(law: Law, then: Law) -> None:
    usual = init_laws(nn.Linear(64, 8))["weight"]
    found = grown_law(law, *LINEAR, usual)
    assert type(found) is type(then) and found.std == pytest.approx(then.std, rel=1e-6)
    assert found.mean == then.mean and found.support == pytest.approx(then.support, rel=1e-6)


def test_the_same_fan_in_keeps_the_law() -> None:
    for law in (Normal(0, math.sqrt(2 / 24)), Uniform(-0.25, 0.25), Normal(0, 0.02)):
        assert grown_law(law, torch.Size([8, 16]), torch.Size([30, 16])) == law
        assert grown_law(law, torch.Size([8]), torch.Size([30])) == law
    assert grown_law(Orthogonal(1.0, 16), torch.Size([8, 16]), torch.Size([30, 16])) == Orthogonal(1.0, 30)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (nn.Linear(16, 4), nn.Linear(16, 9)),
        (nn.Linear(16, 4), nn.Linear(25, 4)),
        (nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)),
        (nn.Conv1d(2, 4, 3), nn.Conv1d(2, 6, 5)),
        (nn.Embedding(10, 4), nn.Embedding(20, 4)),
        (nn.LayerNorm(4), nn.LayerNorm(6)),
        (
            nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)),
            nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7)),
        ),
    ],
)
def test_modules_grow_into_the_laws_of_larger_modules(before: nn.Module, after: nn.Module) -> None:
    shapes = {name: p.shape for name, p in before.named_parameters()}
    found, want = grown_laws(walk(trained(after)), init_laws(before), shapes), init_laws(after, "modules")
    assert {n: (type(law), pytest.approx(law.std), law.mean) for n, law in want.items()} == {
        n: (type(law), law.std, law.mean) for n, law in found.items()
    }


def test_new_names_are_left_to_be_asked_for() -> None:
    before, after = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    shapes = {name: p.shape for name, p in before.named_parameters()}
    assert list(grown_laws(walk(after), init_laws(before), shapes)) == ["0.weight", "0.bias"]


# Hugging Face.


def hugging_face(name: str) -> nn.Module:
    hf = pytest.importorskip("transformers")
    config, model = getattr(hf, f"{name}Config"), getattr(hf, f"{name}Model")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if name == "GPT2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16}
    ids = {} if name == "ViT" else {"vocab_size": 99, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    extra = {"image_size": 16, "patch_size": 4} if name == "ViT" else {}
    return model(config(initializer_range=0.05, **sizes, **ids, **extra))


@pytest.mark.parametrize("name", ["Bert", "GPT2", "Llama", "Mistral", "Qwen2", "ViT", "Roberta"])
def test_the_common_initialisation_of_hugging_face(name: str) -> None:
    """By name as by the values of a fresh model, which the laws that its modules give are compared with."""
    model = hugging_face(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auto = init_laws(model)
    known = look_up_laws(walk(model), "modules")
    bare = {e.name for e in walk(model) if not isinstance(e.module, (nn.Linear, nn.Embedding, nn.Conv2d, nn.LayerNorm))}
    assert set(known.problems) <= bare
    assert known.laws == {n: law for n, law in auto.items() if n in known.laws}
    laws = {str(known.laws[e.name]) for e in walk(model) if isinstance(e.module, (nn.Linear, nn.Embedding))}
    assert laws <= {"Normal(mean=0, std=0.05)", "Constant(value=0)"} and "Normal(mean=0, std=0.05)" in laws
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7.0)
    assert resolve_laws(walk(model), hugging_face(name)).keys() == auto.keys()
    if name == "GPT2":
        assert known.laws["h.1.mlp.c_proj.weight"] == Normal(0, 0.05 / 2) and len(known.problems) == 0


def test_what_a_model_draws_in_its_own_way_is_not_guessed() -> None:
    pytest.importorskip("transformers")
    from transformers import BertConfig, BertModel

    class Own(BertModel):
        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.3)

    config = BertConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=99)
    own = Own(config)
    resolved = look_up_laws(walk(own), "modules")
    assert "encoder.layer.0.output.dense.weight" in resolved.problems and "laws=type(model)" in min(
        resolved.problems.values()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert init_laws(own)["encoder.layer.0.output.dense.weight"].std == pytest.approx(0.3, rel=0.1)


# PEFT.


def lora(how: object = True) -> nn.Module:
    """A layer with an adapter, built as PEFT builds it, of classes that go by the same names."""
    base = type("LoraLayer", (nn.Module,), {"__module__": "peft.tuners.lora.layer"})
    layer = type("Linear", (base,), {"__module__": "peft.tuners.lora.layer"})()
    layer.base_layer, layer.r = nn.Linear(100, 20), {"default": 8}
    layer.lora_A = nn.ModuleDict({"default": nn.Linear(100, 8, bias=False)})
    layer.lora_B = nn.ModuleDict({"default": nn.Linear(8, 20, bias=False)})
    layer.lora_embedding_A = nn.ParameterDict({"default": nn.Parameter(torch.zeros(8, 50))})
    layer.lora_embedding_B = nn.ParameterDict({"default": nn.Parameter(torch.randn(60, 8))})
    if how is not False:
        nn.init.zeros_(layer.lora_B["default"].weight)
    if how == "gaussian":
        nn.init.normal_(layer.lora_A["default"].weight, std=1 / 8)
    outer = nn.Sequential(layer)
    outer.peft_config = {"default": types.SimpleNamespace(init_lora_weights=how)}
    return outer


@pytest.mark.parametrize("values", ["fresh", "trained"])
def test_lora_begins_with_nothing(values: str) -> None:
    model = lora() if values == "fresh" else trained(lora())
    laws = init_laws(model, "auto" if values == "fresh" else "modules")
    assert laws["0.lora_A.default.weight"] == laws["0.base_layer.weight"] == Uniform(-0.1, 0.1)
    assert laws["0.lora_B.default.weight"] == laws["0.lora_embedding_A.default"] == Constant(0)
    assert laws["0.lora_embedding_B.default"] == Normal()


def test_other_starts_of_lora() -> None:
    assert init_laws(lora("gaussian"), "modules")["0.lora_A.default.weight"] == Normal(0, 1 / 8)
    torchs = look_up_laws(walk(lora(False)), "modules").laws
    assert torchs["0.lora_B.default.weight"].std == pytest.approx(1 / math.sqrt(3 * 8))
    assert "0.lora_A.default.weight" in look_up_laws(walk(lora("pissa")), "modules").problems


def test_peft() -> None:
    peft = pytest.importorskip("peft")
    model = hugging_face("Bert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(target_modules=["query", "value"], r=4))
    laws = init_laws(trained(adapted), "modules")
    assert {n.split(".")[-3]: str(law) for n, law in laws.items() if "lora" in n} == {
        "lora_A": str(Uniform(-1 / math.sqrt(32), 1 / math.sqrt(32))), "lora_B": "Constant(value=0)",
    }  # fmt: skip
    assert laws["base_model.model.encoder.layer.0.attention.self.query.base_layer.weight"] == Normal(0, 0.05)
