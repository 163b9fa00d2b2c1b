"""Weights of silent inputs are renewed, in library and stack, as a loop does that remembers which inputs were 0."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import regrow
from regrow.core import random
from regrow.lab.general import Lab, StackedModule
from regrow.lab.studies import Member
from regrow.methods.silent_input import along_inputs

EVERY, UPDATES = 3, 10


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4, 8), nn.ReLU(), nn.Linear(8, 3)
    ).double()
    with torch.no_grad():
        model[3].bias[:4] = -9.0  # units that are always 0
    return model


def batches(seed: int = 1, members: int | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images whose channel 1 is black, whose channel 3 is so in some batches, and whose channel 2 is in some images."""
    generator = torch.Generator().manual_seed(seed)
    lead = () if members is None else (members,)
    data = []
    for u in range(UPDATES):
        x = torch.randn(*lead, 5, 4, 4, 4, generator=generator, dtype=torch.float64)
        x[..., 1, :, :] = 0
        x[..., 0, 2, :, :] = 0
        if u % 2 or u < EVERY:
            x[..., 3, :, :] = 0
        data.append((x, torch.randint(3, (*lead, 5), generator=generator)))
    return data


def by_loop(model: nn.Sequential, seed: int, data) -> list[int]:
    """Entry by entry, with plain SGD; returns how many entries each renewal took."""
    laws = regrow.init_laws(model, "modules")
    layers = {"0": model[0], "3": model[3], "5": model[5]}
    silent: dict[str, list[bool]] = {}
    renewed = []
    for step, (x, y) in enumerate(data, 1):
        inputs = {"0": x, "3": F.relu(model[0](x)).flatten(1)}
        inputs["5"] = F.relu(model[3](inputs["3"]))
        model.zero_grad()
        F.cross_entropy(model[5](inputs["5"]), y).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
            count = 0
            for name, layer in layers.items():
                n = inputs[name].shape[1]
                silent.setdefault(name, [True] * n)
                silent[name] = [was and not bool(inputs[name][:, i].any()) for i, was in enumerate(silent[name])]
                if step % EVERY:
                    continue
                key = random.key(seed, "swr-silent-input", 0, step, f"{name}.weight", "value")
                w = layer.weight
                new = laws[f"{name}.weight"].draw(random.bits(key, torch.arange(w.numel()))).view_as(w)
                groups = getattr(layer, "groups", 1)
                for o in range(w.shape[0]):
                    for i in range(w.shape[1]):
                        if silent[name][o // (w.shape[0] // groups) * w.shape[1] + i]:
                            w[o, i] = new[o, i]
                            count += w[o, i].numel()
                silent[name] = [True] * n
            renewed += [count] if step % EVERY == 0 else []
    return renewed


def test_the_library_equals_the_loop() -> None:
    model, twin = net(), net()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    silent = regrow.SilentInput(model, every=EVERY, laws="modules", seed=5).attach(opt)
    for x, y in batches():
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
    renewed = by_loop(twin, 5, batches())
    assert renewed[0] > renewed[1] > 0, "channel 3 was black up to the first renewal only"
    assert silent.report()["renewed_total"] == sum(renewed) and silent.report()["renewals"] == UPDATES // EVERY
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_a_stack_equals_the_loop() -> None:
    seeds = (0, 3)
    stack = StackedModule([net(seed) for seed in seeds], laws="modules")
    members = [Member("swr-silent-input", {"step_size": 0.1, "every": EVERY}, seed) for seed in seeds]
    data = batches(members=2)
    Lab(stack, members, F.cross_entropy).run(data)
    for i, seed in enumerate(seeds):
        twin = net(seed)
        assert sum(by_loop(twin, seed, [(x[i], y[i]) for x, y in data]))
        for p, q in zip(stack.member(i).parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_a_layer_that_is_not_called_is_left_alone() -> None:
    """As the output projection of attention, whose weight torch uses without calling the layer."""
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    silent = regrow.SilentInput(model, every=1).attach(opt)
    x = torch.randn(3, 5, 8)
    for _ in range(2):
        before = model.self_attn.out_proj.weight.detach().clone()
        model(x).square().mean().backward()
        step = 0.1 * model.self_attn.out_proj.weight.grad
        opt.step()
        torch.testing.assert_close(model.self_attn.out_proj.weight, before - step)
        opt.zero_grad()
    assert silent.report()["renewals"] == 2 and silent.report()["renewed_total"] == 0


def test_micro_batches_count_together_and_a_resumed_one_goes_on() -> None:
    model = nn.Linear(3, 2, bias=False)
    opt = torch.optim.SGD(model.parameters(), lr=0.0001)
    silent = regrow.SilentInput(model, every=2, seed=0).attach(opt)
    for column in (0, 1):
        model(torch.eye(3)[column : column + 1]).sum().backward()
    opt.step()  # both columns were active in this update
    model.zero_grad()
    other, again = copy.deepcopy((model, silent))
    state = silent.state_dict()
    fresh = regrow.SilentInput(other, every=2, seed=0)
    fresh.load_state_dict(state)
    assert not bool(again.preview()["weight"][:, :2].any()) and bool(again.preview()["weight"][:, 2].all())
    for m, s in ((model, None), (other, fresh.attach(torch.optim.SGD(other.parameters(), lr=0.0001)))):
        before = m.weight.detach().clone()
        m(torch.eye(3)[:1]).sum().backward()
        (opt if s is None else s._attachment.followed).step()
        changed = (m.weight - before).abs() > 0.001
        assert changed.tolist() == [[False, False, True]] * 2
    assert torch.equal(model.weight, other.weight)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="SilentInput renews weights of nn.Linear and nn.Conv layers; there is none"):
        regrow.SilentInput(nn.LayerNorm(4), every=1)


def test_groups_read_channels_of_their_own() -> None:
    mask = along_inputs(torch.tensor([[True, False, False, True]]), (1, 4, 2, 3))
    assert mask[0, :, :, 0].tolist() == [[True, False], [True, False], [False, True], [False, True]]
