"""Every module of torch.nn that has parameters starts them from the law that `regrow.laws` says it does.

A torch release that adds a module, or changes how one starts, fails here.
"""

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from regrow.laws import Constant, Law, Normal, Uniform, init_laws
from regrow.laws.fit import p_value
from regrow.laws.torch_defaults import module_law
from regrow.names import walk

TINY = 1e-4  # seeded: a p-value under this would be a defect, not bad luck
FRESH = 12  # instances pooled

MAKERS: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(40, 30),
    lambda: nn.Linear(3, 1),
    lambda: nn.modules.linear.NonDynamicallyQuantizableLinear(40, 30),
    lambda: nn.Bilinear(6, 9, 20),
    lambda: nn.Conv1d(6, 8, 5),
    lambda: nn.Conv2d(6, 8, (3, 2)),
    lambda: nn.Conv2d(12, 24, 3, groups=4),
    lambda: nn.Conv3d(3, 8, 3),
    lambda: nn.ConvTranspose1d(6, 10, 5),
    lambda: nn.ConvTranspose2d(6, 10, 3),
    lambda: nn.ConvTranspose2d(12, 24, 3, groups=3),
    lambda: nn.ConvTranspose3d(4, 6, 3),
    lambda: nn.Embedding(60, 20),
    lambda: nn.Embedding(30, 20, padding_idx=4),
    lambda: nn.EmbeddingBag(60, 20),
    lambda: nn.EmbeddingBag(30, 20, padding_idx=-1),
    lambda: nn.LayerNorm((4, 5)),
    lambda: nn.GroupNorm(2, 8),
    lambda: nn.RMSNorm(8),
    lambda: nn.BatchNorm1d(8),
    lambda: nn.BatchNorm2d(8),
    lambda: nn.BatchNorm3d(8),
    lambda: nn.SyncBatchNorm(8),
    lambda: nn.InstanceNorm1d(8, affine=True),
    lambda: nn.InstanceNorm2d(8, affine=True),
    lambda: nn.InstanceNorm3d(8, affine=True),
    lambda: nn.RNN(7, 12, num_layers=2),
    lambda: nn.LSTM(7, 12, bidirectional=True, proj_size=5),
    lambda: nn.GRU(7, 12, bias=False),
    lambda: nn.RNNCell(7, 12),
    lambda: nn.LSTMCell(7, 12),
    lambda: nn.GRUCell(7, 12),
    lambda: nn.PReLU(5, init=0.1),
    lambda: nn.MultiheadAttention(24, 3),
    lambda: nn.MultiheadAttention(24, 3, bias=False),
    lambda: nn.MultiheadAttention(24, 3, kdim=10, vdim=6, add_bias_kv=True),
    lambda: nn.TransformerEncoderLayer(16, 2, 30),
    lambda: nn.TransformerDecoderLayer(16, 2, 30),
    lambda: nn.Transformer(16, 2, 1, 1, 30, batch_first=True),
    lambda: nn.AdaptiveLogSoftmaxWithLoss(20, 60, [10, 30], head_bias=True),
]

# Nothing of their own to start, or no shape yet.
BASES = {"Module", "RNNBase", "RNNCellBase", "ParameterList", "ParameterDict"}


def with_parameters() -> set[type[nn.Module]]:
    """The classes of torch.nn.modules that start parameters."""
    found = set()
    for info in pkgutil.walk_packages(nn.modules.__path__, nn.modules.__name__ + "."):
        module = importlib.import_module(info.name)
        for kind in vars(module).values():
            if inspect.isclass(kind) and issubclass(kind, nn.Module) and kind.__module__ == info.name:
                resets = hasattr(kind, "reset_parameters") or hasattr(kind, "_reset_parameters")
                if resets or "Parameter(" in inspect.getsource(kind):
                    found.add(kind)
    return {
        kind for kind in found if kind.__name__ not in BASES and "Lazy" not in kind.__name__ and kind.__name__[0] != "_"
    }


def make(maker: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of nested tensors
        return maker()


def test_every_module_is_covered() -> None:
    kinds = with_parameters()
    assert {nn.Linear, nn.LSTM, nn.MultiheadAttention, nn.PReLU} < kinds and len(kinds) > 30
    assert kinds - {type(make(maker)) for maker in MAKERS} == set()


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: repr(make(maker)).split("\n")[0])
def test_fresh_modules_follow_their_laws(maker: Callable[[], nn.Module]) -> None:
    models = [make(maker) for _ in range(FRESH)]
    laws = {entry.name: module_law(entry) for entry in walk(models[0])}
    assert list(laws) == [name for name, _ in models[0].named_parameters()]
    for name, law in laws.items():
        assert isinstance(law, Law), name
        values = torch.stack([started(model, name) for model in models]).flatten().double()
        if law.continuous:
            assert p_value(law, values) > TINY, (name, law)
        else:
            assert (values == torch.tensor(law.mean).double()).all(), (name, law)
        if isinstance(law, Uniform):
            # Of n values the largest is below bound * (1 - 12 / n) with probability exp(-12).
            assert law.high * (1 - 12 / len(values)) < values.abs().max() <= law.high * (1 + 1e-6), (name, law)


def started(model: nn.Module, name: str) -> torch.Tensor:
    """The values of a parameter, without the row of padding_idx."""
    values = model.get_parameter(name).detach()
    if isinstance(model, (nn.Embedding, nn.EmbeddingBag)) and model.padding_idx is not None:
        assert not values[model.padding_idx].any()
        return torch.cat([values[: model.padding_idx], values[model.padding_idx :][1:]])
    return values


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: repr(make(maker)).split("\n")[0])
def test_auto_believes_fresh_modules(maker: Callable[[], nn.Module]) -> None:
    """In every type: the values of a fresh module never contradict its laws, so nothing is fitted and no one warned."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        model = make(maker).to(dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert init_laws(model) == init_laws(model, "modules"), dtype


def test_large_tensors_in_half_precision_are_believed() -> None:
    """A million values rounded to 8 bits are visibly no continuous law; they must still pass for one."""
    model = nn.Sequential(nn.Linear(1024, 1024), nn.Embedding(2000, 500), nn.Linear(8, 200_000)).bfloat16()
    assert init_laws(model) == init_laws(model, "modules")


def test_many_fresh_networks_are_believed() -> None:
    """p < 1e-6 is rare: 400 small networks, 2,400 tests, no false alarm."""
    for _ in range(400):
        init_laws(nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 4), nn.Conv2d(2, 3, 3)))


def test_values_of_the_laws_that_have_a_formula() -> None:
    laws = init_laws(nn.MultiheadAttention(24, 3, kdim=10, vdim=6, add_bias_kv=True))
    assert laws["q_proj_weight"].support == pytest.approx((-((6 / 48) ** 0.5), (6 / 48) ** 0.5))
    assert laws["k_proj_weight"].support == pytest.approx((-((6 / 34) ** 0.5), (6 / 34) ** 0.5))
    assert laws["bias_k"] == laws["bias_v"] == Normal(0, laws["bias_k"].std)
    assert laws["bias_k"].std == pytest.approx((1 / 24) ** 0.5)
    assert laws["in_proj_bias"] == laws["out_proj.bias"] == Constant(0)
    assert laws["out_proj.weight"].support == pytest.approx((-(24**-0.5), 24**-0.5))
    # Transposed: torch takes the first dimension, in channels, for the outputs.
    assert init_laws(nn.ConvTranspose2d(12, 24, 3, groups=3))["bias"].support == pytest.approx((-(72**-0.5), 72**-0.5))


def test_a_transformer_starts_what_is_in_it() -> None:
    model = make(lambda: nn.Transformer(16, 2, 1, 1, 30, batch_first=True))
    laws = init_laws(model)
    bound = (6 / (16 + 30)) ** 0.5
    assert laws["encoder.layers.0.linear1.weight"] == laws["decoder.layers.0.linear2.weight"]
    assert laws["encoder.layers.0.linear1.weight"].support == pytest.approx((-bound, bound))
    assert laws["encoder.layers.0.linear1.bias"] == Uniform(-0.25, 0.25)
    inside = init_laws(nn.ModuleDict({"core": model, "head": nn.Linear(16, 3)}))
    assert {name.removeprefix("core."): law for name, law in inside.items() if name.startswith("core")} == laws
    assert inside["head.weight"] == Uniform(-0.25, 0.25)


def test_lazy_modules_must_see_data_first() -> None:
    lazy = [kind for name, kind in vars(nn).items() if name.startswith("Lazy") and inspect.isclass(kind)]
    assert len(lazy) > 8
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyBatchNorm1d())
    assert is_lazy(model[0].weight)
    with pytest.raises(
        ValueError, match="^no law for '0.weight' .*, no shape yet, .*: run one batch through the model"
    ):
        init_laws(model)
    model(torch.zeros(2, 9))
    assert init_laws(model)["0.weight"] == Uniform(-1 / 3, 1 / 3)


def test_subclasses_and_their_own_parameters() -> None:
    """A subclass has the laws of its base for what the base started, and none for what it adds."""

    class Scaled(nn.LSTM):
        def __init__(self) -> None:
            super().__init__(4, 25)
            self.h0 = nn.Parameter(torch.zeros(25))

    laws = {entry.name: module_law(entry) for entry in walk(Scaled())}
    assert laws.pop("h0") is None
    assert set(laws.values()) == {Uniform(-0.2, 0.2)}


def test_parametrised_modules_keep_the_laws_that_still_hold() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(25, 8))
    laws = {entry.name: module_law(entry) for entry in walk(model)}
    assert laws["bias"] == Uniform(-0.2, 0.2)
    assert laws["parametrizations.weight.original0"] is None
