"""`diagnose` leaves no trace on model, training or torch; it looks through wrappers and refuses what it cannot use."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from twins_diagnose import energy, without_units

from regrow import ContinualBackprop, ReDo, ReparamLayerNorm
from regrow.diagnose import diagnose
from regrow.lab.nets import MLP


class Wrapped(nn.Module):
    """The shape of a wrapper such as DistributedDataParallel; nobody may call it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


# No trace.


class Busy(nn.Module):
    """Everything that might be left changed: dropout, batch norm, a norm with a hook of its own, mixed modes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8), ReparamLayerNorm(8),
            nn.ReLU(), nn.Linear(8, 2),
        )  # fmt: skip
        self.body[1].eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(F.dropout(x, 0.1, training=True))  # draws in evaluation mode too


def trace(model: nn.Module) -> dict[str, Any]:
    """All that could tell of a call."""
    modules = list(model.modules())
    hooks = {
        f"{i}.{table}": dict(m.__dict__[table])
        for i, m in enumerate(modules)
        for table in m.__dict__
        if "hooks" in table and isinstance(m.__dict__[table], dict)
    }
    return {
        "modes": [m.training for m in modules],
        "hooks": hooks,
        "attributes": [sorted(m.__dict__) for m in modules],
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "grads": [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        "leaves": [dict(p.__dict__) for p in model.parameters()],
        "generator": torch.get_rng_state(),
        "gradients": torch.is_grad_enabled(),
    }


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def _raises(out: Tensor) -> Tensor:
    raise ArithmeticError("in the loss")


@pytest.mark.parametrize("loss", [None, energy, _raises])
@pytest.mark.parametrize("grads", [False, True])
def test_no_trace(loss: Callable | None, grads: bool) -> None:
    model, x = Busy(), torch.randn(20, 5)
    if grads:
        energy(model(x)).backward()
    rung = []
    model.body[0].weight.register_post_accumulate_grad_hook(rung.append)
    before = trace(model)
    assert before["modes"].count(False) == 1 and any(before["hooks"].values())
    try:
        diagnose(model, x, loss=loss)
        assert loss is not _raises
    except ArithmeticError:
        assert loss is _raises
    after = trace(model)
    assert [key for key in before if not equal(before[key], after[key])] == []
    assert not rung


def test_no_trace_where_activation_modules_are_measured_or_nothing_is() -> None:
    model, x = without_units(Busy()), torch.randn(20, 5)
    before = trace(model)
    assert diagnose(model, x)["rank99/body.4"] > 0
    assert equal(trace(model), before)
    with pytest.raises(ValueError, match="no hidden layer"):
        diagnose(nn.Sequential(model.body[0]), x)
    assert equal(trace(model), before)


@pytest.mark.parametrize("on", [False, True])
def test_switches_of_torch_stay(on: bool) -> None:
    before = torch.backends.mha.get_fastpath_enabled(), torch.is_autocast_cache_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(on)
        torch.set_autocast_cache_enabled(on)
        diagnose(MLP(10, inputs=6), torch.rand(5, 6))
        assert (torch.backends.mha.get_fastpath_enabled(), torch.is_autocast_cache_enabled()) == (on, on)
    finally:
        torch.backends.mha.set_fastpath_enabled(before[0])
        torch.set_autocast_cache_enabled(before[1])


def test_training_goes_on_as_if_never_measured() -> None:
    """Bit for bit, with dropout, momentum, and two maintainers that sum activations of the pass before."""

    def train(measure: bool) -> dict[str, Tensor]:
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)
        )
        opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        cbp = ContinualBackprop(net, replacement_rate=0.02, maturity=3, seed=0).attach(opt)
        redo = ReDo(net, every=4, threshold=0.5, seed=1).attach(opt)
        for _ in range(24):
            x, y = torch.randn(16, 6), torch.randint(3, (16,))
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            if measure:
                diagnose(net, 3 * x, loss=energy)
            loss.backward()
            if measure:
                diagnose(net, x + 1)
            opt.step()
        assert min(m.report()["renewed_total"] for m in (cbp, redo)) > 3
        return net.state_dict()

    plain, measured = train(False), train(True)
    assert all(torch.equal(plain[name], measured[name]) for name in plain)


def test_same_when_called_twice_with_a_loss_or_not_and_in_either_mode() -> None:
    model, x = Busy(), torch.randn(20, 5)
    model.forward = model.body.forward  # without the dropout that never rests
    first = diagnose(model, x)
    assert diagnose(model, x) == first
    assert diagnose(model.eval(), x) == first
    with_loss = diagnose(model, x, loss=energy)
    assert {key: with_loss[key] for key in first} == first


# Models in coats, inputs in every form, and what is refused.


def test_wrapped_models_are_what_they_wrap() -> None:
    net, x = MLP(10, inputs=6), torch.rand(30, 6)
    assert diagnose(Wrapped(net), x, loss=energy) == diagnose(net, x, loss=energy)


@pytest.mark.parametrize("part", ["model", "submodule", "in place"])
def test_compiled_models_are_measured_without_compiling(part: str) -> None:
    def backend(graph: Any, examples: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    compiled: list[Any] = []
    net: Any = nn.Sequential(MLP(10, inputs=6, outputs=4), nn.Linear(4, 2))
    x = torch.rand(30, 6)
    plain = diagnose(net, x, loss=energy)
    if part == "model":
        net = torch.compile(net, backend=backend)
    elif part == "submodule":
        net[0] = torch.compile(net[0], backend=backend)
    else:
        net.compile(backend=backend)
    net.train()(x)
    graphs = len(compiled)
    assert graphs >= 1
    assert diagnose(net, x, loss=energy) == plain
    net(x)
    assert len(compiled) == graphs


def test_inputs_may_be_a_tensor_arguments_or_named_ones() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

        def forward(self, x: Tensor, shift: float = 0.0) -> dict[str, Tensor]:
            return {"y": self.net(x + shift)}

    net, x = Two(), torch.randn(20, 4)
    assert diagnose(net, x) == diagnose(net, (x,)) == diagnose(net, {"x": x})
    shifted = diagnose(net, (x, 0.5), loss=lambda out: energy(out["y"]))
    assert shifted == diagnose(net, [x, 0.5], loss=lambda out: energy(out["y"]))
    assert shifted == diagnose(net, {"shift": 0.5, "x": x}, loss=lambda out: energy(out["y"]))
    assert shifted["stable_rank"] != diagnose(net, x)["stable_rank"]


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda net, x: diagnose("net", x), TypeError, "`model` must be a torch.nn.Module; got str"),
        (lambda net, x: diagnose(net, x.numpy()), TypeError, "`inputs` must be a tensor, a tuple .* got ndarray"),
        (lambda net, x: diagnose(net, x, dormant=-0.1), ValueError, r"`dormant` must be in \[0, 1\] .* got -0.1"),
        (lambda net, x: diagnose(net, x, dormant="a"), TypeError, "`dormant` must be a number"),
        (lambda net, x: diagnose(net, x[:0]), ValueError, "`inputs` must hold at least one example"),
        (lambda net, x: diagnose(net, x, loss=3), TypeError, "`loss` must be a function .* got int"),
        (lambda net, x: diagnose(net, x, loss=lambda y: y), ValueError, r"one number.* got shape \(5, 10\): end it"),
        (lambda net, x: diagnose(net, x, loss=lambda y: 1.0), ValueError, "one number.* got float"),
        (lambda net, x: diagnose(net, x, loss=lambda y: y.detach().sum()), ValueError, "on a trainable parameter"),
        (lambda net, x: diagnose(nn.Linear(6, 2), x), ValueError, "no hidden layer to measure in Linear: .*nn.ReLU"),
        (
            lambda net, x: diagnose(nn.Sequential(nn.Linear(6, 4), nn.Softmax(-1), nn.Linear(4, 2)), x),
            ValueError,
            r"to measure in Sequential: no units are found in it \(0: read by '1' \(Softmax\), unknown here; 2: its",
        ),
    ],
)
def test_refused_in_one_line(call: Callable, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        call(MLP(10, inputs=6), torch.rand(5, 6))
    assert "\n" not in str(caught.value)
