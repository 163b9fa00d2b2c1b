"""Claim: only forward passes of an update are watched: what merely looks at a forward leaves nothing in the sums."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

import regrow
from regrow.maintain.activation_sums import NO_FORWARD, ActivationSums
from regrow.names import walk


class Net(nn.Module):
    """One layer is read at a module, one by a formula, one at the input of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.act = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()
        self.fc1, self.fc2 = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.act(self.conv2(x)).flatten(1)
        return self.fc2(F.silu(self.fc1(x)))


X = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def fake(net: nn.Module) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        net(mode.from_tensor(X))


def meta(net: nn.Module) -> None:
    parameters = {name: p.detach().to("meta") for name, p in net.named_parameters()}
    torch.func.functional_call(net, parameters, (X.to("meta"),))


LOOKS: dict[str, Callable[[nn.Module], object]] = {
    "export": lambda net: torch.export.export(net, (X,), strict=False),
    "strict export": lambda net: torch.export.export(net, (X,), strict=True),
    "fake": fake,
    "meta": meta,
    "symbolic trace": fx.symbolic_trace,
    "script trace": lambda net: torch.jit.trace(net, X, check_trace=False),
    "evaluation": lambda net: net.eval()(X),
    "no gradients": torch.no_grad()(lambda net: net(X)),
    "vmap": lambda net: torch.vmap(net)(X.unsqueeze(1)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", LOOKS)
def test_a_look_at_the_forward_is_no_pass_of_an_update(name: str, when: str) -> None:
    seen = []
    for look in (False, True):
        torch.manual_seed(0)
        net = Net()
        homes = {entry.name: entry for entry in walk(net)}
        watches = [ActivationSums(u.reading(net), homes[u.weight_in[0].name]) for u in regrow.find_units(net)]
        for watch in watches:
            watch.begin_update(True)
        for at in ("before", "after"):
            if look and at == when:
                LOOKS[name](net)
                net.train()
            if at == "before":
                net(X).square().sum().backward()
        if look and name == "strict export" and torch.__version__ < (2, 7):
            with pytest.raises(RuntimeError, match="export with strict=False, or between detach"):
                watches[0].sums()
            return
        seen.append([part for watch in watches for part in watch.sums() or ()])
    assert len(seen[0]) == 6 and all(map(torch.equal, *seen))
    assert all(type(part) is Tensor and part.device.type == "cpu" for part in seen[1])


def test_a_traced_graph_holds_no_watching() -> None:
    net = Net()
    plain = [str(n) for n in fx.symbolic_trace(net).graph.nodes]
    regrow.ContinualBackprop(net, replacement_rate=0.5, maturity=0, seed=0)
    assert [str(n) for n in fx.symbolic_trace(net).graph.nodes] == plain


def test_a_second_model_of_a_compiled_class() -> None:
    """The code that was compiled for the first one is used again, without the hooks: the message says what helps."""
    torch._dynamo.reset()
    first = torch.compile(Net(), backend="eager")
    first(X).sum().backward()
    net = Net()
    redo = regrow.ReDo(net, every=1, threshold=0.1, seed=0)
    second = torch.compile(net, backend="eager")
    second(X).sum().backward()
    with pytest.raises(RuntimeError, match="has seen no forward pass of 'conv1', 'conv2', 'fc1'"):
        redo.step()
    torch._dynamo.reset()
    second(X).sum().backward()
    redo.step()
    assert "torch._dynamo.reset()" in NO_FORWARD.format(name="ReDo", layers="'conv1'")


@pytest.mark.parametrize("utility", ["contribution", "contribution-by-position"])
def test_passes_with_other_tensors_in_place_of_the_parameters(utility: str) -> None:
    """Detached ones (a target network, an old policy) take no part in an update; what follows from them does."""
    torch.manual_seed(0)
    nets = [Net() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    kept = [regrow.ReDo(net, every=1, threshold=0.8, utility=utility, seed=0) for net in nets]
    opts = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
    for step in range(4):
        for i, (net, redo, opt) in enumerate(zip(nets, kept, opts, strict=True)):
            if i:
                detached = {name: 2 * p.detach() for name, p in net.named_parameters()}
                torch.func.functional_call(net, detached, (10 * X,))
            opt.zero_grad()
            net(X + step).square().mean().backward()
            opt.step()
            redo.step()
    assert kept[0].report() == kept[1].report() and kept[0].report()["renewed_total"] > 0
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(a, b)
    net, redo = nets[0], kept[0]
    net.zero_grad()
    fast = {name: p - 0.1 * p.detach() for name, p in net.named_parameters()}  # as of an inner step
    torch.func.functional_call(net, fast, (X,)).square().mean().backward()
    redo.step()
    assert redo.report()["renewals"] == 5


# Frozen layers.


def learner() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


@pytest.mark.parametrize("utility", ["activation", "contribution"])
def test_passes_through_a_frozen_network_are_not_its_own(utility: str) -> None:
    """A generator learns through a frozen discriminator, whose units are then renewed as if it had not."""
    renewed = []
    for with_generator in (False, True):
        d, g = learner(), nn.Linear(4, 4)
        d_opt, g_opt = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (d, g))
        regrow.ReDo(d, every=2, threshold=0.9, utility=utility, seed=0).attach(d_opt)
        for step in range(6):
            x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
            if with_generator:
                d.requires_grad_(False)
                g_opt.zero_grad()
                d(100 * g(x)).mean().backward()
                g_opt.step()
                d.requires_grad_(True)
            d_opt.zero_grad()
            d(x).square().mean().backward()
            d_opt.step()
        renewed.append([p.detach().clone() for p in d.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*renewed, strict=True))


FREEZABLE = {
    "redo": lambda net: regrow.ReDo(net, every=2, threshold=0.9, seed=0),
    "cbp": lambda net: regrow.ContinualBackprop(net, replacement_rate=0.5, maturity=0, seed=0),
    "silent-input": lambda net: regrow.SilentInput(net, every=2, seed=0),
}


@pytest.mark.parametrize("make", FREEZABLE.values(), ids=FREEZABLE)
@pytest.mark.parametrize("first", [0, 3])
def test_a_layer_may_be_frozen_from_the_start_or_later_and_is_renewed_again_once_it_learns(
    make: Callable[[nn.Module], regrow.Maintainer], first: int
) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    net[0].requires_grad_(first > 0)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    maintainer = make(net).attach(opt)
    totals = {}
    for step in range(20):
        net[0].requires_grad_(not first <= step < 10)
        before = net[0].weight.detach().clone()
        opt.zero_grad()
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        x[:, 0] = 0
        net(x).square().mean().backward()
        opt.step()
        assert net[0].weight.requires_grad or torch.equal(net[0].weight, before)
        totals[step] = maintainer.report()["renewed_total"]
    assert totals[19] > totals[10]
