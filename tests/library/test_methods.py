"""What methods do to a network of members: one of one's own, and regrow's, in the library and in stacks alike."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import regrow
from regrow import methods
from regrow.lab.general import Lab, StackedModule
from regrow.lab.studies import Member
from regrow.methods import SWR, Counters, Method, ShrinkPerturb, StackedMethod

MSE = nn.functional.mse_loss


@dataclass(frozen=True, kw_only=True)
class Clip(Method):
    """Entries larger than `limit` are drawn anew, the others shrink."""

    name = "clip"
    every: int = methods.whole(1, "updates between")
    limit: float = methods.number(0, math.inf, "largest size", 0.3)
    shrink: float = methods.number(0, 1, "lost by all", 0.1)
    power: float = 1.0  # not a knob

    def act(self, members):
        for name in members.parameters:
            w = members.weights(name)
            members.write(name, w * (1 - methods.per_member(self.shrink, w)) ** self.power)
            members.renew(name, members.weights(name).abs() > methods.per_member(self.limit, w))


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double()


def batches(count, members=None):
    g = torch.Generator().manual_seed(0)
    lead = () if members is None else (members,)
    return [tuple(torch.randn(*lead, 16, n, generator=g, dtype=torch.float64) for n in (4, 2)) for _ in range(count)]


def library(model, maintainer, data, lr=0.1):
    opt = torch.optim.SGD(model.parameters(), lr=lr)
    maintainer.attach(opt)
    for x, y in data:
        opt.zero_grad()
        MSE(model(x), y).backward()
        opt.step()
    return model


def largest_difference(a, b):
    return max((p - q).abs().max().item() for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_own_method_does_the_same_in_library_and_stack():
    knobs = [{"every": 2, "limit": 0.3}, {"every": 3, "limit": 0.2, "shrink": 0.01}, {"every": 2, "limit": 0.5}]
    stack = StackedModule([net(i) for i in range(3)])
    members = [Member("clip", {"step_size": 0.1, **knob}, seed) for seed, knob in enumerate(knobs)]
    data = batches(12, 3)
    Lab(stack, members, MSE, own={"clip": Clip}).run(data)
    for i, knob in enumerate(knobs):
        model = net(i)
        alone = library(model, regrow.Maintainer(model, Clip(**knob), seed=i), [(x[i], y[i]) for x, y in data])
        assert largest_difference(alone, stack.member(i)) < 1e-12


def test_fields_that_are_no_knobs_count_in_stacks():
    stack = StackedModule([net(0), net(0)])
    both = [Clip(every=1, limit=9.0, shrink=0.1, power=2.0), Clip(every=1, limit=9.0, shrink=0.2, power=2.0)]
    before = stack.parameters["0.weight"].clone()
    StackedMethod(both, [0, 1], [0, 1], stack).act(1, stack, None, [0, 1])
    expected = torch.stack([before[0] * 0.9**2, before[1] * 0.8**2])
    torch.testing.assert_close(stack.parameters["0.weight"], expected)


def test_writing_another_view_of_the_weights_is_no_change_in_place():
    @dataclass(frozen=True, kw_only=True)
    class Transpose(Method):
        draws = renews = False

        def act(self, members):
            for name in members.parameters:
                members.write(name, members.weights(name).mT)

    model = nn.Linear(3, 3, bias=False)
    before = model.weight.detach().clone()
    maintainer = regrow.Maintainer(model, Transpose())
    maintainer.step()
    assert torch.equal(model.weight, before.T)
    assert maintainer.state_dict()["method"] == "transpose"  # named after its class


def test_wrong_use_is_named():
    class Bare(Method):
        rate: float = methods.number(0, 1, "a rate", 0.5)

        def act(self, members):
            pass

    with pytest.raises(TypeError, match="Bare has the knob 'rate' but is no dataclass"):
        Bare()

    @dataclass(frozen=True, kw_only=True)
    class Lawless(Method):
        draws = False

        def act(self, members):
            for name in members.parameters:
                members.renew(name, members.weights(name) > 0)

    maintainer = regrow.Maintainer(nn.Linear(2, 2), Lawless())
    with pytest.raises(ValueError, match="Lawless needs the law of 'weight'"):
        maintainer.step()

    @dataclass(frozen=True, kw_only=True)
    class Decays(Lawless):
        decay: float = methods.number(0, 1, "which the optimizer of the stack has, too", 0.5)

    with pytest.raises(ValueError, match="must have other names in a config than the optimizer's; got decay"):
        Lab(StackedModule([net(0)]), [Member("own", {"step_size": 0.1}, 0)], MSE, own={"own": Decays})
    with pytest.raises(ValueError, match="of 'clip' must hold some of .*; got 'limt': leave it out"):
        config = {"step_size": 0.1, "every": 2, "limt": 0.5}
        Lab(StackedModule([net(0)]), [Member("clip", config, 0)], MSE, own={"clip": Clip})
    with pytest.raises(ValueError, match="`members` must be places in ascending order"):
        StackedMethod([SWR(every=2, factor=0.5)] * 2, [1, 0], [0, 0])


# What members of a stack share with single networks.


def test_averages_of_continual_backpropagation_are_kept_in_stacks():
    knobs = [(0.1, 2, 0.9), (0.05, 4, 0.5), (0.1, 0, 0.0), (0.2, 1, 0.9)]
    names = "replacement_rate", "maturity", "utility_decay"
    members = [Member("cbp", {"step_size": 0.1, **dict(zip(names, own))}, seed) for seed, own in enumerate(knobs)]
    stack = StackedModule([net(i) for i in range(4)])
    data = batches(30, 4)
    Lab(stack, members, MSE).run(data)
    for i, (rate, maturity, decay) in enumerate(knobs):
        model = net(i)
        cbp = regrow.ContinualBackprop(model, replacement_rate=rate, maturity=maturity, decay=decay, seed=i)
        assert largest_difference(library(model, cbp, [(x[i], y[i]) for x, y in data]), stack.member(i)) < 1e-12


@pytest.mark.parametrize("prune", ["threshold", "proportional"])
def test_absent_and_padding_rows_are_kept_in_stacks(prune):
    def embedding(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Embedding(10, 4, padding_idx=0), nn.Flatten(), nn.Linear(8, 2))

    x, y = torch.tensor([[[1, 2], [3, 1]], [[4, 0], [5, 6]]]), torch.randn(2, 2, 2)
    configs = [{"step_size": 0.1, "every": 1, "factor": factor, "prune": prune} for factor in (0.3, 0.5)]
    stack = StackedModule([embedding(i) for i in range(2)])
    Lab(stack, [Member("swr", config, i) for i, config in enumerate(configs)], MSE).update(x, y)
    for i, config in enumerate(configs):
        model = embedding(i)
        swr = regrow.SWR(model, every=1, factor=config["factor"], prune=prune, seed=i)
        assert largest_difference(library(model, swr, [(x[i], y[i])]), stack.member(i)) < 1e-6


class Scaled(nn.Module):
    """With a parameter of no dimension."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 2), nn.Parameter(torch.tensor(1.0))

    def init_laws(self):
        return {"scale": regrow.laws.Normal(1.0, 0.1)}

    def forward(self, x):
        return self.scale * self.linear(x)


def test_scalars_in_stacks_and_in_penalties():
    stack = StackedModule([Scaled(), Scaled()])
    members = [Member("swr", {"step_size": 0.1, "every": 1, "factor": factor}, 0) for factor in (0.5, 1.5)]
    record = Lab(stack, members, MSE, shared=True).update(torch.randn(3, 4), torch.randn(3, 2))
    assert bool(record["renewed"].all())

    model = Scaled()
    opt = torch.optim.LBFGS(model.parameters(), lr=0.1)
    regrow.L2Init(model, strength=0.1).attach(opt)

    def closure():
        opt.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        return loss

    opt.step(closure)


def test_counters_go_on_after_a_task_on_a_device():
    counters = Counters(2, track_overlap=False)
    mask = torch.ones(2, 3, dtype=torch.bool, device="meta")  # stands for any device that is not the host
    for _ in range(2):
        counters.begin()
        counters.add([0, 1], "w", mask, None, None)
        counters._last()
        counters.reset()
    counters.begin()
    assert counters.renewals == 3


class Seen(methods.Dates):
    """How many updates of each member were observed, and the sum of a gradient's magnitudes."""

    def __init__(self, every):
        super().__init__(every)
        self.updates, self.sums = [0] * len(every), [0.0] * len(every)


@dataclass(frozen=True, kw_only=True)
class Observer(Method):
    """Sets the bias to the mean magnitude of the weight's gradient since the beginning."""

    draws = renews = False
    every: int = methods.whole(1, "updates between")

    @property
    def observes(self):
        return True

    @property
    def needs_gradient(self):
        return True

    @classmethod
    def dates(cls, methods):
        return Seen([method.every for method in methods])

    def observe(self, members):
        g = members.gradient("weight")
        for row, i in enumerate(members.which):
            members.memory.updates[i] += 1
            members.memory.sums[i] += float(g[row].abs().mean())

    def act(self, members):
        w = members.weights("bias").clone()
        for row, i in enumerate(members.which):
            w[row] = members.memory.sums[i] / members.memory.updates[i]
        members.write("bias", w)


def test_a_method_that_observes_needs_no_units():
    """In the library and in a stack alike."""
    model, x = nn.Linear(3, 2).double(), torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    stack = StackedModule([model, model])
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    regrow.Maintainer(model, Observer(every=3)).attach(opt)
    total, biases = 0.0, []
    lab = Lab(
        stack, [Member("observer", {"step_size": 0.1, "every": n}, 0) for n in (3, 2)],
        lambda p, y: (p - y).square().mean(), own={"observer": Observer}, shared=True,
    )  # fmt: skip
    for step, batch in enumerate(x, 1):
        opt.zero_grad()
        model(batch).square().mean().backward()
        opt.step()
        total += float(model.weight.grad.abs().mean())
        lab.update(batch, torch.zeros(4, 2).double())
        if step % 3 == 0:
            assert torch.allclose(model.bias, torch.full((2,), total / step).double())
            biases.append(model.bias.detach().clone())
        torch.testing.assert_close(stack.parameters["bias"][0], model.bias.detach())
    assert len(biases) == 2


@dataclass(frozen=True, kw_only=True)
class Always(Method):
    """Draws negative entries anew at every step of the optimizer."""

    at_every_attempt = True

    def act(self, members):
        for name in members.parameters:
            members.renew(name, members.weights(name) < 0)


def test_what_acts_always_and_renews_is_counted_and_forgotten():
    model = nn.Linear(8, 4)
    opt = torch.optim.Adam(model.parameters())
    kept = regrow.Maintainer(model, Always(), clear_moments="zero", seed=0).attach(opt)
    renewed = []
    for _ in range(3):
        opt.zero_grad()
        model(torch.ones(2, 8)).square().mean().backward()
        opt.step()
        renewed.append(sum(int((opt.state[p]["exp_avg"] == 0).sum()) for p in model.parameters()))
    report = kept.report()
    assert report["renewals"] == 3 and report["renewed_last"] == renewed[-1] > 0
    assert report["renewed_total"] == sum(renewed)


def test_noise_is_one_firing_an_update_in_the_library_and_in_a_stack():
    model = nn.Linear(3, 2)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = regrow.ShrinkPerturb(model, noise_variance=1e-4).attach(opt)
    stack = StackedModule([model])
    method = StackedMethod([ShrinkPerturb(noise_variance=1e-4)], [0], [0], stack)
    for step in (1, 2):
        model(torch.ones(1, 3)).sum().backward()
        opt.step()
        method.act(step, stack, None, [0])
    assert kept.report()["renewals"] == method.counters.renewals == 2


def test_unit_methods_do_not_act_at_every_attempt():
    with pytest.raises(TypeError, match="Both is by_unit and acts at_every_attempt, .*: leave one of the two False"):

        class Both(Method):
            by_unit = at_every_attempt = True

            def act(self, members): ...


@pytest.mark.parametrize("make", [
    lambda model: regrow.SWR(model, every=1, factor=0.1),
    lambda model: regrow.ShrinkPerturb(model, noise_variance=1e-6),
])  # fmt: skip
def test_a_parameter_without_entries_is_not_one_without_a_gradient(make):
    model = nn.Linear(3, 2)
    model.none = nn.Parameter(torch.zeros(0, 3))
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = make(model).attach(opt)
    model(torch.ones(1, 3)).sum().backward()
    opt.step()
    assert kept.report()["skipped_no_grad"] == 0 and kept.report()["steps"] == 1
