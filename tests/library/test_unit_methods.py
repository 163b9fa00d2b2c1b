"""Continual backpropagation and ReDo against slow loop twins written from the paper, decision by decision."""

import math

import pytest
import torch
from models import backward, mlp, same, train, weights
from torch import nn

import regrow
from regrow.core import random
from regrow.methods.cbp_schedule import Schedule


class LoopUnits:
    """Units of an MLP of Linear, ReLU and LayerNorm, one by one, in Python numbers.

    It shares with the library the random numbers of an entry, which are a function of what they are for, and the laws.
    """

    def __init__(self, model, method, seed, utility):
        self.model, self.method, self.seed, self.utility = model, method, seed, utility
        self.laws = regrow.init_laws(model)
        layers = list(model.named_children())
        linears = [i for i, (_, m) in enumerate(layers) if isinstance(m, nn.Linear)]
        self.layers = []
        for i, j in zip(linears, linears[1:]):
            norm = next((layers[k] for k in range(i, j) if isinstance(layers[k][1], nn.LayerNorm)), None)
            act = next(layers[k][1] for k in range(i, j) if isinstance(layers[k][1], nn.ReLU))
            self.layers.append({"in": layers[i], "out": layers[j], "norm": norm, "n": layers[i][1].out_features})
            act.register_forward_hook(lambda m, a, h, layer=self.layers[-1]: layer.update(h=h.detach().tolist()))
        self.step_count = 0

    def utilities(self, layer):
        out, g = layer["out"][1].weight.tolist(), layer["out"][1].weight.grad.tolist()
        result = []
        for i in range(layer["n"]):
            activation = sum(abs(row[i]) for row in layer["h"]) / len(layer["h"])
            magnitude = sum(abs(row[i]) for row in out) / len(out)
            gradient = abs(sum(row[i] * grow[i] for row, grow in zip(out, g)))
            named = {"activation": activation, "magnitude": magnitude, "gradient": gradient}
            result.append(named.get(self.utility, activation * magnitude))
        return result

    def words(self, name, purpose, n):
        return random.bits(random.key(self.seed, self.method, 0, self.step_count, name, purpose), torch.arange(n))

    def renew_all(self, chosen):
        for layer, units in zip(self.layers, chosen):
            for unit in units:
                self.renew(layer, unit)
        for layer, units in zip(self.layers, chosen):
            for unit in units:
                for row in range(layer["out"][1].out_features):
                    with torch.no_grad():
                        layer["out"][1].weight[row, unit] = 0.0

    def renew(self, layer, unit):
        name, module = layer["in"]
        fresh = {
            key: self.laws[f"{name}.{key}"].draw(self.words(f"{name}.{key}", "value", getattr(module, key).numel()))
            for key in ("weight", "bias")
        }
        with torch.no_grad():
            for column in range(module.in_features):
                module.weight[unit, column] = fresh["weight"][unit * module.in_features + column]
            module.bias[unit] = fresh["bias"][unit]
            if layer["norm"] is not None:
                layer["norm"][1].weight[unit], layer["norm"][1].bias[unit] = 1.0, 0.0


class LoopCBP(LoopUnits):
    def __init__(self, model, rate, maturity, decay, seed, utility):
        super().__init__(model, "cbp", seed, utility)
        self.rate, self.maturity, self.decay = rate, maturity, decay
        for layer in self.layers:
            layer.update(ages=[0] * layer["n"], owed=0.0, average=[0.0] * layer["n"])

    def step(self):
        self.step_count += 1
        count = 0
        chosen = [self.choose(layer) for layer in self.layers]  # all are chosen before any is renewed
        for layer, units in zip(self.layers, chosen):
            for unit in units:
                layer["ages"][unit], layer["average"][unit] = 0, 0.0
            count += len(units)
        self.renew_all(chosen)
        return count

    def choose(self, layer):
        n = layer["n"]
        layer["ages"] = [age + 1 for age in layer["ages"]]
        u = self.utilities(layer)
        if self.decay:
            layer["average"] = [self.decay * a + (1 - self.decay) * b for a, b in zip(layer["average"], u)]
            u = [a / (1 - self.decay**age) for a, age in zip(layer["average"], layer["ages"])]
        eligible = [i for i in range(n) if layer["ages"][i] > self.maturity]
        layer["owed"] += self.rate * len(eligible)
        if layer["owed"] < 1:
            return []
        count = math.floor(layer["owed"])
        layer["owed"] -= count
        tie = random.order(self.words(layer["in"][0], "order", n)).tolist()
        return sorted(eligible, key=lambda i: (u[i], tie[i]))[:count]


class LoopReDo(LoopUnits):
    def __init__(self, model, every, threshold, seed, utility):
        super().__init__(model, "redo", seed, utility)
        self.every, self.threshold = every, threshold

    def step(self):
        self.step_count += 1
        if self.step_count % self.every:
            return 0
        chosen = []
        for layer in self.layers:
            u = self.utilities(layer)
            chosen.append([i for i in range(layer["n"]) if u[i] <= self.threshold * sum(u) / len(u)])
        self.renew_all(chosen)
        return sum(map(len, chosen))


def compare(method, twin, steps, build=mlp):
    """Train two equal networks in double precision, one kept by the library and one by the twin."""
    model, slow_model = build(dtype=torch.float64), build(dtype=torch.float64)
    opt, slow_opt = (torch.optim.SGD(m.parameters(), lr=0.05) for m in (model, slow_model))
    maintainer, slow = method(model), twin(slow_model)
    total = 0
    for step in range(steps):
        backward(model, step)
        opt.step()
        maintainer.step()
        backward(slow_model, step)
        slow_opt.step()
        total += slow.step()
        assert maintainer.report()["renewed_total"] == total, step
    assert same(weights(model), weights(slow_model))
    return total


@pytest.mark.parametrize("decay", [0.0, 0.99])
@pytest.mark.parametrize("utility", ["contribution", "activation", "gradient", "magnitude"])
def test_cbp_decides_what_its_twin_decides(utility, decay):
    total = compare(
        lambda m: regrow.ContinualBackprop(
            m, replacement_rate=0.013, maturity=20, utility=utility, decay=decay, seed=2
        ),
        lambda m: LoopCBP(m, 0.013, 20, decay, 2, utility),
        1000,
    )
    assert total > 100


@pytest.mark.parametrize("rate, maturity", [(1.0, 0), (1.0, 3), (0.3, 1), (1e-3, 500), (0.07, 0)])
def test_cbp_at_the_edges_of_its_knobs(rate, maturity):
    total = compare(
        lambda m: regrow.ContinualBackprop(m, replacement_rate=rate, maturity=maturity, seed=2),
        lambda m: LoopCBP(m, rate, maturity, 0.0, 2, "contribution"),
        150 if rate > 0.01 else 700,
    )
    assert total > 0


@pytest.mark.parametrize("utility", ["activation", "contribution", "gradient", "magnitude"])
def test_redo_decides_what_its_twin_decides(utility):
    total = compare(
        lambda m: regrow.ReDo(m, every=4, threshold=0.3, utility=utility, seed=2),
        lambda m: LoopReDo(m, 4, 0.3, 2, utility),
        1000,
    )
    assert total > 100


@pytest.mark.parametrize("rate, maturity, n", [(0.01, 5, 100), (1e-4, 500, 10), (1.0, 2, 7), (0.37, 0, 3)])
def test_the_schedule_equals_a_count_with_ages(rate, maturity, n):
    """The host's counts against units with ages, whichever of the eligible are replaced."""
    generator = torch.Generator().manual_seed(0)
    schedule, ages, owed = Schedule(n, rate, maturity), [0] * n, 0.0
    schedule.run_ahead()
    for step in range(1, 3000):
        ages = [age + 1 for age in ages]
        eligible = [i for i in range(n) if ages[i] > maturity]
        owed += rate * len(eligible)
        count = math.floor(owed)
        owed -= count
        assert (schedule.count if schedule.step == step else 0) == count
        for i in torch.randperm(len(eligible), generator=generator)[:count].tolist():
            ages[eligible[i]] = 0
        if schedule.step == step:
            schedule.run_ahead()


def test_a_schedule_with_nothing_due_goes_no_further_than_its_horizon():
    schedule = Schedule(10, 1e-12, 0)
    schedule.run_ahead()
    assert schedule.count == 0 and schedule.step == Schedule.HORIZON


def test_a_renewed_unit_is_as_new_and_silent():
    """Incoming row and bias from their laws, norm and statistics as at the start, outgoing weights and age 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.LayerNorm(12), nn.Linear(12, 3))
    redo = regrow.ReDo(model, every=30, threshold=1.0, seed=0)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, opt, range(29), redo.step)
    before = weights(model)
    statistics = {k: v.clone() for k, v in model.named_buffers()}
    train(model, opt, range(29, 30))
    chosen = redo.preview()["0.bias"]
    redo.step()
    assert 2 <= chosen.sum() <= 10
    new, kept = chosen, ~chosen
    assert (model[0].weight[new].abs() <= 1 / math.sqrt(6)).all()
    assert (model[0].weight[new] != before["0.weight"][new]).all()
    assert (model[1].weight[new] == 1).all() and (model[1].bias[new] == 0).all()
    assert (model[3].weight[new] == 1).all() and (model[3].bias[new] == 0).all()
    assert (model[1].running_mean[new] == 0).all() and (model[1].running_var[new] == 1).all()
    assert (model[4].weight[:, new] == 0).all() and (model[4].weight[:, kept] != 0).all()
    assert (model[1].running_mean[kept] != 0).all() and (model[3].weight[kept] != 1).any()
    assert model[1].num_batches_tracked == statistics["1.num_batches_tracked"] + 1


def test_conv_units_with_positions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 9, 5))
    redo = regrow.ReDo(model, every=1, threshold=0.9, seed=0)
    h = {}
    model[1].register_forward_hook(lambda m, a, out: h.update(out=out.detach()))
    loss = nn.functional.cross_entropy(model(torch.randn(4, 1, 8, 8)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    u = h["out"].abs().mean((0, 2, 3))
    chosen = u <= 0.9 * u.mean()
    redo.step()
    assert 0 < chosen.sum() < 6
    columns = model[4].weight.view(5, 6, 9)
    assert (columns[:, chosen] == 0).all() and (columns[:, ~chosen] != 0).all()


def test_moments_of_what_changed_are_cleared():
    model = mlp()
    opt = torch.optim.Adam(model.parameters(), lr=0.01)
    redo = regrow.ReDo(model, every=5, threshold=0.9, seed=0).attach(opt)
    train(model, opt, range(4))
    backward(model, 4)
    masks = {}
    act = redo._loop._act
    redo._loop._act = lambda step: (masks.update(redo.preview()), act(step))
    opt.step()
    for name in ("0.weight", "0.bias", "3.weight"):
        state = opt.state[dict(model.named_parameters())[name]]
        mask = masks[name]
        assert mask.any() and not mask.all() and (state["exp_avg"][mask] == 0).all()
        assert (state["exp_avg_sq"][mask] == 0).all() and (state["exp_avg_sq"][~mask] > 0).any()


def test_ages_and_maturity_in_the_report():
    model = mlp()
    cbp = regrow.ContinualBackprop(model, replacement_rate=0.25, maturity=3, seed=0)
    mature = []
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, opt, range(8), lambda: (cbp.step(), mature.append(cbp.report()["mature_units"])))
    assert mature == [0, 0, 0, 18, 14, 10, 8, 10]  # of 24 units; at update 4 a quarter is replaced


def test_state_is_of_the_order_of_units():
    model = nn.Sequential(nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 100))
    cbp = regrow.ContinualBackprop(model, replacement_rate=0.01, maturity=1, decay=0.9)

    def entries(value):
        if isinstance(value, torch.Tensor):
            return value.numel()
        return sum(map(entries, value.values())) if isinstance(value, dict) else 0

    train_on = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        model(torch.randn(4, 100)).square().mean().backward()
        train_on.step()
        cbp.step()
    assert entries(cbp.state_dict()) < 5 * 200


@pytest.mark.parametrize("method", ["cbp", "redo"])
def test_a_layer_that_is_replaced_is_maintained_from_then_on(method):
    """A head that grows at a task boundary: no update in between fails, and its column is among the outgoing ones."""
    model = mlp()
    if method == "cbp":
        kept = regrow.ContinualBackprop(model, replacement_rate=0.2, maturity=0, seed=0)
    else:
        kept = regrow.ReDo(model, every=1, threshold=0.9, seed=0)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), range(3), kept.step)
    torch.manual_seed(1)
    model[5] = nn.Linear(12, 30)
    opt = torch.optim.SGD(model.parameters(), lr=0.0)
    train(model, opt, range(1), kept.step)
    before = model[5].weight.detach().clone()
    train(model, opt, range(3), kept.step)
    changed = (model[5].weight != before).all(0)
    assert changed.any() and (model[5].weight[:, changed] == 0).all()


def test_units_given_by_hand():
    """Statistics of a norm go with its scale, names that are not there are refused, skipped tensors protected."""
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
    given = regrow.Units(("0.weight", 0), ("0.bias", 0), [("1.weight", 0), ("1.bias", 0)], ("3.weight", 1), "2")
    redo = regrow.ReDo(model, every=1, threshold=100.0, units=given, seed=0)
    backward(model, 0)
    redo.step()
    assert (model[1].running_mean == 0).all() and (model[1].running_var == 1).all()
    wrong = regrow.Units(("22.weight", 0), ("2.bias", 0), None, ("4.weight", 1), "3")
    with pytest.raises(ValueError, match="'22.weight' is no parameter or buffer of the model"):
        regrow.ReDo(model, every=1, threshold=0.1, units=[given, wrong])
    with pytest.raises(TypeError, match="`units` must be a list of regrow.Units, or None"):
        regrow.ReDo(model, every=1, threshold=0.1, units=[])
    with pytest.raises(ValueError, match="a layer is left out with any of its tensors that `skip` names"):
        regrow.ReDo(model, every=1, threshold=0.1, skip="3.weight")
