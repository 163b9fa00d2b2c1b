"""Claim: a unit that is found is exactly that, in every model: no more of the model, and no less, belongs to it.

For each layer of units and random subsets of its units:
- with their outgoing weights at 0, their incoming weights, biases and norm entries may be anything: the model's output
  does not change by a bit (so the outgoing weights are their only way out, and the norm entries are theirs alone);
- setting their outgoing weights to 0 changes the output bit for bit as setting their activation to 0 does, where
  `reading` says it is (so h is where it is said to be, and the columns are those of the same units);
- their incoming weights and biases move h of these units and of no other.
Norms that couple units through their statistics (layer, group and RMS norms over units) make any unit matter to its
neighbours: in these tests their statistics are held constant, so that the claims are about the wiring alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from wiring_zoo import ATTENTION, ZOO, hugging_face

from regrow import ReparamLayerNorm
from regrow.wiring import Place, Units, find_units, locate

Case = tuple[nn.Module, tuple[Tensor, ...]]


def prepared(case: Callable[[], Case]) -> Case:
    """The model in evaluation mode, every parameter and statistic away from the values that hide mistakes."""
    torch.manual_seed(1)
    model, args = case()
    for tensor in [*model.parameters(), *(b for n, b in model.named_buffers() if "running" in n)]:
        tensor.data.copy_(0.5 * torch.randn(tensor.shape))
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.abs_().add_(0.5)
    return model.eval(), args


def output(model: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        y = model(*args)
    y = getattr(y, "logits", y)
    return torch.cat([t.flatten() for t in y]) if isinstance(y, tuple) else y.flatten()


def tensor(model: nn.Module, place: Place) -> Tensor:
    module, attribute = locate(model, place.name)
    return getattr(module, attribute).data


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    state = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        yield
    finally:
        model.load_state_dict(state)


def hold_statistics(model: nn.Module, found: list[Units]) -> None:
    """Let the coupling norms on the way of units scale and shift, and no more."""

    def held(module: nn.Module) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            weight, bias = module.weight, getattr(module, "bias", None)
            if isinstance(module, nn.GroupNorm):
                weight, bias = (p.view(-1, *[1] * (x.dim() - 2)) for p in (weight, bias))
            weight = 1 + weight if isinstance(module, ReparamLayerNorm) else weight
            return x * weight + (0 if bias is None else bias)

        return forward

    for module in {locate(model, place.name)[0] for units in found for place in units.norm}:
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)):
            module.forward = held(module)  # type: ignore[method-assign]


def scramble(model: nn.Module, places: tuple[Place, ...], chosen: Tensor) -> None:
    for place in places:
        w = tensor(model, place)
        noise = torch.rand(w.shape) + 0.5 if place.name.endswith("running_var") else torch.randn(w.shape)
        w.copy_(torch.where(place.mask(w, chosen), noise, w))


def silence(model: nn.Module, places: tuple[Place, ...], chosen: Tensor) -> None:
    for place in places:
        w = tensor(model, place)
        w[place.mask(w, chosen)] = 0


def read(model: nn.Module, units: Units, args: tuple[Tensor, ...], zero: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(h as a matrix, output); with `zero`, h of these units is 0 on its way on."""
    reading = units.reading(model)
    seen = []

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any], result: Any = None) -> Any:
        h = reading.activation(args, kwargs, result)
        seen.append(reading.matrix(h).clone())
        if zero is None:
            return None
        h = h.clone()
        at = h.dim() + reading.axis
        for place in reading.places or (Place("", at, None, h.shape[at] // reading.n),):
            whole = place.split(h, reading.n, at).movedim((at, at + 2), (0, 1))
            for i in zero.nonzero().flatten().tolist():
                whole[i // place.stride, i % place.stride] = 0
        return h if reading.kind == "output" else ((h, *args[1:]), kwargs)

    readers = {locate(model, place.name)[0] for place in units.weight_out}
    if reading.kind != "input":
        handles = [reading.module.register_forward_hook(hook, with_kwargs=True)]
    else:  # all readers receive h, if it is one that shows it
        hooked = readers if reading.module in readers and zero is not None else {reading.module}
        handles = [module.register_forward_pre_hook(hook, with_kwargs=True) for module in hooked]
    y = output(model, args)
    for handle in handles:
        handle.remove()
    assert len(seen) == len(handles)
    return seen[0], y


def subsets(n: int) -> list[Tensor]:
    """All units, a third of them, and a single one."""
    order = torch.randperm(n)
    chosen = [order, order[: max(1, n // 3)], order[-1:]]
    return [torch.zeros(n, dtype=torch.bool).index_fill_(0, some, True) for some in chosen]


def check_units(model: nn.Module, units: Units, args: tuple[Tensor, ...]) -> None:
    n = units.count(model)
    for chosen in subsets(n):
        with restored(model):
            before, full = read(model, units, args)
            scramble(model, (*units.weight_in, *units.bias), chosen)
            after, changed = read(model, units, args)
            moved = (before != after).any(0)
            assert torch.equal(moved, moved & chosen), "h of another unit moved"
            assert not chosen.all() or not torch.equal(full, changed), "the incoming weights do not matter"
        with restored(model):
            silence(model, units.weight_out, chosen)
            without = output(model, args)
            assert not chosen.all() or not torch.equal(full, without), "the outgoing weights do not matter"
            scramble(model, (*units.weight_in, *units.bias, *units.norm), chosen)
            assert torch.equal(output(model, args), without), "the units have another way out"
        with restored(model):
            shifts = tuple(p for p in units.norm if p.name.endswith(("bias", "running_mean")))
            silence(model, shifts, torch.ones_like(chosen))
            if units.activation.startswith("values of "):  # h cannot be changed, but made 0
                silence(model, (*units.weight_in, *units.bias), chosen)
                zeroed = output(model, args)
            else:
                zeroed = read(model, units, args, zero=chosen)[1]
            silence(model, units.weight_out, chosen)
            assert torch.equal(output(model, args), zeroed), "h and the outgoing weights are of different units"


def check_apart(model: nn.Module, found: list[Units]) -> None:
    """No entry belongs to two units, as incoming, norm or outgoing."""
    for role in ("weight_in", "bias", "norm", "weight_out"):
        owned: dict[str, list[int]] = {}
        for units in found:
            for place in getattr(units, role):
                assert place.dim < tensor(model, place).dim()
                owned.setdefault(place.name, []).extend(place.entries(units.count(model)).flatten().tolist())
        assert all(len(entries) == len(set(entries)) for entries in owned.values())


def check_model(case: Callable[[], Case], kinds: tuple[str, ...]) -> None:
    model, args = prepared(case)
    found = find_units(model, kinds=kinds)
    assert find_units(model, args, kinds) == found
    hold_statistics(model, found)
    check_apart(model, found)
    for units in found:
        check_units(model, units, args)


@pytest.mark.parametrize("name", ZOO)
def test_hidden_units(name: str) -> None:
    check_model(ZOO[name], ("hidden",))


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_units(name: str) -> None:
    check_model(ATTENTION[name], ("attention",))


@pytest.mark.parametrize("name", ["gpt2", "vit", "llama 4", "llama 2", "llama 1", "mistral 2", "qwen2 2"])
def test_hugging_face(name: str) -> None:
    pytest.importorskip("transformers")
    check_model(hugging_face()[name], ("hidden", "attention"))


def test_needs_an_example() -> None:
    """A view with a batch of -1 is believed once an example has shown that it keeps the batch."""
    from wiring_zoo import LeNet

    model, args = prepared(lambda: (LeNet("-1"), (torch.randn(3, 1, 14, 14),)))
    assert [units.layer for units in find_units(model)] == ["conv1", "fc1"]
    found = find_units(model, args)
    assert [units.layer for units in found] == ["conv1", "conv2", "fc1"]
    for units in found:
        check_units(model, units, args)


def test_the_checks_notice() -> None:
    """Wirings that are wrong in one respect each fail the checks above."""
    model, args = prepared(ZOO["lenet flatten"])
    first, second, third = find_units(model)
    for wrong in (
        Units(third.weight_in, ("fc2.bias", 0, 0), None, third.weight_out, third.activation),
        Units(third.weight_in, third.bias, None, ("fc1.weight", 0), third.activation),
        Units(first.weight_in, first.bias, None, ("conv2.weight", 1, 0), "input of fc1"),
        Units(second.weight_in, second.bias, None, Place("fc1.weight", 1, None, 4, 6), second.activation),
        Units(second.weight_in, None, ("conv1.bias", 0, 0), second.weight_out, second.activation, axis=-1),
    ):
        with pytest.raises((AssertionError, ValueError)):
            check_units(model, wrong, args)
