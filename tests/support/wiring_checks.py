"""The checks that make a unit a unit, shared by the tests of wiring; see test_wiring_exact.py for what they claim."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from regrow import ReparamLayerNorm
from regrow.wiring import Place, Reading, Tap, Units, locate

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
    readings = [units.reading(model)]
    seen: list[Tensor] = []
    if zero is None:
        tap = Tap(readings[0], lambda module, h: seen.append(readings[0].matrix(h).clone()))
        y = output(model, args)
        tap.remove()
        assert len(seen) == 1
        return seen[0], y
    if readings[0].kind in ("input", "formula"):  # it must be 0 for each layer that reads it
        readings = units.readings_by_position(model)

    def hook(reading: Reading, module: nn.Module, args: tuple, kwargs: dict[str, Any], result: Any = None) -> Any:
        h = reading.activation(args, kwargs, result).clone()
        seen.append(reading.matrix(h))
        at = h.dim() + reading.axis
        for place in reading.places or (Place("", at, None, h.shape[at] // reading.n),):
            whole = place.split(h, reading.n, at).movedim((at, at + 2), (0, 1))
            for i in zero.nonzero().flatten().tolist():
                whole[i // place.stride, i % place.stride] = 0
        return h if reading.kind == "output" else ((h, *args[1:]), kwargs)

    handles = []
    for r in readings:
        register = r.module.register_forward_pre_hook if r.kind == "input" else r.module.register_forward_hook
        handles.append(register(partial(hook, r), with_kwargs=True))
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


def check_units(model: nn.Module, units: Units, args: tuple[Tensor, ...], whole: bool = True) -> None:
    """The claims; those on how the units matter, and where h passes, only for a `whole` model in which they must."""
    n = units.count(model)
    for chosen in subsets(n):
        with restored(model):
            before, full = read(model, units, args)
            scramble(model, (*units.weight_in, *units.bias), chosen)
            after, changed = read(model, units, args)
            moved = (before != after).any(0)
            assert torch.equal(moved, moved & chosen), "h of another unit moved"
            matters = whole and bool(chosen.all())
            assert not matters or not torch.equal(full, changed), "the incoming weights do not matter"
        with restored(model):
            silence(model, units.weight_out, chosen)
            without = output(model, args)
            assert not matters or not torch.equal(full, without), "the outgoing weights do not matter"
            scramble(model, (*units.weight_in, *units.bias, *units.norm), chosen)
            assert torch.equal(output(model, args), without), "the units have another way out"
        if whole:
            with restored(model):
                check_contribution(model, units, args, chosen)


def check_contribution(model: nn.Module, units: Units, args: tuple[Tensor, ...], chosen: Tensor) -> None:
    """Without norms' shifts, h = 0 and outgoing weights = 0 are the same."""
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
