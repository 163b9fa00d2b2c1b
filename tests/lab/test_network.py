"""The laws of a stack: it is its members, and they do not know of each other."""

import io
import math

import pytest
import torch
from lab_twins import SEED, SETTINGS, SYSTEMS, config_of, plan_of, trainer
from torch.nn import functional as F

from regrow.diagnose.ranks import rank99, stable_rank
from regrow.lab import kernels
from regrow.lab.data.mnist import load_digits_images
from regrow.lab.mlp import measures
from regrow.lab.mlp.loss import CrossEntropy
from regrow.lab.mlp.network import StackedMLP
from regrow.lab.mlp.online_metrics import Online
from regrow.lab.mlp.trainer import Trainer, course_for
from regrow.lab.nets import MLP
from regrow.lab.problems.permuted import Course, PermutedImages
from regrow.lab.studies import Member, StackPlan
from regrow.methods import ContinualBackprop, StackedMethod, from_config

SHORT = Course(images=480, batch=16)  # 30 updates a task


def short(plan, **options):
    return Trainer(plan, load_digits_images(), course=SHORT, **options)


def run(trainer_, tasks=2):
    return [trainer_.run_task() for _ in range(tasks)]


@pytest.mark.parametrize("name", list(SETTINGS))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-3)])
def test_a_stack_is_its_members(name, dtype, tolerance):
    """Ten updates: after more, rounding has grown."""
    setting = SETTINGS[name]
    systems = [s for s in SYSTEMS if s not in ("l2", "shrink-perturb") or setting.optimizer != "adamw"]
    options = {"course": Course(images=160, batch=16), "dtype": dtype}
    together = Trainer(plan_of(setting, systems), load_digits_images(), **options)
    run(together, 1)
    for i, system in enumerate(systems):
        alone = Trainer(plan_of(setting, [system]), load_digits_images(), **options)
        run(alone, 1)
        for key, value in alone.net.parameters.items():
            torch.testing.assert_close(together.net.parameters[key][i], value[0], rtol=tolerance, atol=tolerance)


def test_standardized_pixels():
    images = load_digits_images()
    raw, standard = (PermutedImages(images, SHORT, standardized=of) for of in (False, True))
    one, other = raw.task(0, 1), standard.task(0, 1)
    assert torch.equal(one.order, other.order) and torch.equal(one.shuffle, other.shuffle)
    assert set(other.active_pixels) == {64} and min(one.active_pixels) < 64
    x = standard.inputs(one.order[0], 64)
    torch.testing.assert_close(x, (raw.inputs(one.order[0], 64) - 0.1307) / 0.3081)
    assert (x != 0).all() and (standard.probe(0, 0) != 0).all()
    with pytest.raises(ValueError, match="pixels of a plan and of its images must be alike"):
        Trainer(plan_of(SETTINGS["wide"], ["base"]), standard)


@pytest.mark.parametrize("name", ["wide", "wide-ln", "narrow", "narrow-ln", "wide-sgdw", "wide-adamw"])
def test_a_member_does_not_know_its_neighbours(name):
    """What the others are, and even that one of them explodes, changes no bit of a member."""
    setting, tasks = SETTINGS[name], 2
    calm = plan_of(setting, ["base", "swr-gradient-threshold-resample", "cbp", "redo", "base"])
    wild = Member("base", config_of(setting, "base") | {"step_size": 1e30}, SEED)
    members = (wild, *calm.members[1:4], Member("l2", config_of(setting, "base") | {"decay": 0.5}, SEED))
    first, second = short(calm), short(StackPlan("stack", setting, SEED, members))
    rows, others = run(first, tasks), run(second, tasks)
    for key, value in first.net.parameters.items():
        assert value[1:4].equal(second.net.parameters[key][1:4]), key
    for a, b in zip(rows, others):
        assert repr(a[1:4]) == repr(b[1:4])
        assert [row["diverged"] for row in b] == [True, False, False, False, False]
    assert not math.isfinite(others[1][0]["loss"]) and not math.isfinite(others[1][0]["weight_magnitude"])


@pytest.mark.parametrize("by_loops", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_forward_and_backward_are_autograds(wide, by_loops, monkeypatch):
    if not by_loops:
        monkeypatch.setattr(kernels, "supports", lambda x: False)
    for layer_norm, position in ((False, "after"), (True, "after"), (True, "before")):
        make = {"hidden": 36 if wide else 7, "layer_norm": layer_norm, "ln_position": position, "inputs": 50}
        nets = [MLP(**make, generator=torch.Generator().manual_seed(s)).double() for s in range(3)]
        stack = StackedMLP(nets[0], 3, dtype=torch.float64)
        for i, net in enumerate(nets):
            for p in net.parameters():
                p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
            stack.fill(i, net)
        x, y = torch.rand(30, 50, dtype=torch.float64), torch.arange(30) % 10
        x[:, 40:] = 0  # pixels that need not be shown
        scale = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        (loss, right), grad = CrossEntropy(scale)(stack.forward(x[:, :40]), y)
        stack.backward(grad)
        gradients = {name: g.clone() for name, g in stack.gradients().items()}
        before = {name: w.clone() for name, w in stack.parameters.items()}
        stack.descend()
        for i, net in enumerate(nets):
            logits = net(x)
            own = F.cross_entropy(logits, y)
            torch.testing.assert_close(loss[i], own)
            assert right[i] == (logits.argmax(1) == y).sum()
            own.backward()
            for name, p in net.named_parameters():
                torch.testing.assert_close(gradients[name][i], p.grad * scale[i])
                torch.testing.assert_close(stack.parameters[name][i], before[name][i] + p.grad * scale[i])


def test_permuting_columns_is_permuting_pixels():
    """A plain network that sees every task's pixels permuted learns what the laboratory's does on fixed pixels."""
    plan = plan_of(SETTINGS["wide"], ["base"])
    lab = trainer(plan)
    problem, net = lab.problem, MLP(40, inputs=64, generator=torch.Generator()).double()
    net.load_state_dict({name: w[0] for name, w in lab.net.parameters.items()})
    optimizer, column = torch.optim.SGD(net.parameters(), 0.05), torch.arange(64)
    for number in range(3):
        row = lab.run_task()[0]
        task, right = problem.task(SEED, number), 0
        column = column[task.shuffle]  # of the weights that each pixel meets
        for order, y in zip(task.order, task.labels):
            x = problem.inputs(order, 64)
            logits = net(x.double()[:, column.argsort()])
            right += int((logits.argmax(1) == y).sum())
            optimizer.zero_grad()
            F.cross_entropy(logits, y).backward()
            optimizer.step()
        assert row["online_accuracy"] == pytest.approx(right / task.order.numel(), abs=1e-12)


def test_a_task_shows_each_image_once_and_depends_on_seed_and_number_alone():
    images = load_digits_images()
    problem, again = PermutedImages(images, SHORT), PermutedImages(images, SHORT)
    tasks = [problem.task(3, number) for number in (0, 1)]
    for number, task in enumerate(tasks):
        assert task.order.unique().numel() == task.order.numel() == 480
        assert task.shuffle.sort().values.equal(torch.arange(64))
        same = again.task(3, number)
        assert (
            same.order.equal(task.order)
            and same.shuffle.equal(task.shuffle)
            and same.active_pixels == task.active_pixels
        )
    assert not tasks[0].order.equal(tasks[1].order) and not tasks[0].shuffle.equal(tasks[1].shuffle)
    assert not problem.task(4, 0).order.equal(tasks[0].order)


def test_pixels_beyond_the_reach_are_dark():
    problem = PermutedImages(load_digits_images(), SHORT)
    task, cut = problem.task(0, 0), 0
    for order, active_pixels in zip(task.order, task.active_pixels):
        whole, shown = problem.inputs(order, 64), problem.inputs(order, active_pixels)
        assert whole[:, :active_pixels].equal(shown) and not whole[:, active_pixels:].any()
        cut += active_pixels < 64
    assert cut  # or there is nothing to test
    pixels = problem.inputs(torch.arange(1797), 64)
    assert pixels.sum(1).allclose(load_digits_images().scaled().sum(1))
    assert problem.task(0, 0).labels.equal(load_digits_images().labels[problem.task(0, 0).order])


def test_a_pass_larger_than_the_set_is_refused():
    with pytest.raises(ValueError, match="a pass shows 1,800 images; there are only 1,797"):
        PermutedImages(load_digits_images(), Course(images=1800, batch=30))


def test_online_accuracy_and_loss_are_of_before_the_update():
    """One batch in all: those of the untrained network."""
    course = Course(images=500, batch=500)
    lab = Trainer(plan_of(SETTINGS["wide"], ["base"]), load_digits_images(), course=course)
    net = MLP(40, inputs=64, generator=torch.Generator())
    net.load_state_dict({name: w[0].clone() for name, w in lab.net.parameters.items()})
    task = lab.problem.task(SEED, 0)
    net.fc1.weight.data = net.fc1.weight[:, task.shuffle]
    x, y = lab.problem.inputs(task.order[0], 64), task.labels[0]
    row = lab.run_task()[0]
    assert row["online_accuracy"] == pytest.approx((net(x).argmax(1) == y).double().mean().item())
    assert row["loss"] == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["wide", "narrow", "narrow-ln"])
def test_measuring_changes_nothing(name):
    plan = plan_of(SETTINGS[name], list(SYSTEMS))
    often, seldom = short(plan, measure_every=1), short(plan, measure_every=1000)
    a, b = run(often), run(seldom)
    for key, value in often.net.parameters.items():
        assert value.equal(seldom.net.parameters[key])
    for row, other in zip(a[1], b[1]):
        assert row["gradient_magnitude"] != other["gradient_magnitude"]
        assert row["online_accuracy"] == other["online_accuracy"]


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_stored_stack_goes_on_bit_for_bit(name):
    plan = plan_of(SETTINGS[name], list(SYSTEMS))
    one, other = short(plan), short(plan)
    run(one, 3)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.task == 3
    assert [repr(row) for row in one.run_task()] == [repr(row) for row in other.run_task()]
    for key, value in one.net.parameters.items():
        assert value.equal(other.net.parameters[key])


def test_a_state_is_a_copy():
    lab = short(plan_of(SETTINGS["wide-adamw"], ["base", "swr-gradient-threshold-resample", "cbp"]))
    run(lab)
    state, stored = lab.state_dict(), io.BytesIO()
    torch.save(state, stored)
    run(lab)
    later = io.BytesIO()
    torch.save(state, later)
    assert stored.getvalue() == later.getvalue()


def test_rare_replacements_come_too():
    """Ten units at a rate of 1e-5 are replaced every 10,000 updates, which is as far as a schedule looks ahead."""
    config = config_of(SETTINGS["narrow"], "cbp") | {"replacement_rate": 1e-5, "maturity": 1}
    cbp = StackedMethod([from_config(ContinualBackprop, config)], [0], [0], StackedMLP(MLP(10, inputs=6), 1))
    owed, expected = 0.0, []
    for step in range(1, 35_000):
        owed += 1e-5 * 10 * (step > 1)
        if owed >= 1:
            expected.append(step)
            owed -= 1
    found = [step for step in range(1, 35_000) if cbp.due(step)]
    assert len(found) == 3 and all(abs(a - b) <= 3 for a, b in zip(found, expected))  # the new unit is young for one


def test_scratch_starts_every_task_anew():
    lab = short(plan_of(SETTINGS["wide"], ["scratch", "base"]))
    first = lab.run_task()
    assert first[0]["online_accuracy"] == first[1]["online_accuracy"]
    lab._begin_task()
    fresh, trained = (lab.net.parameters["fc2.weight"][i] for i in range(2))
    assert fresh.std().item() == pytest.approx(math.sqrt(2 / 40), rel=0.1) and not fresh.allclose(trained)


@pytest.mark.parametrize("name", ["wide", "wide-ln", "narrow", "wide-adamw"])
def test_an_update_of_fixed_shapes_is_the_update(name, monkeypatch):
    """What is captured on a CUDA device, tried on the CPU, by torch's operations."""
    plan = plan_of(SETTINGS[name], ["base", "base"])
    usual = short(plan, dtype=torch.float64)
    task = usual._begin_task()
    for u in range(20):
        usual._update(task, u)
    monkeypatch.setattr(kernels, "supports", lambda x: False)
    fixed = short(plan, dtype=torch.float64)
    other, told = fixed._begin_task(), []
    for u in range(20):
        told.append(fixed.plain_update(other.order[u], other.labels[u], u + 1).float())
    torch.testing.assert_close(torch.stack(told), usual._online._metrics[:20])
    for key, value in usual.net.parameters.items():
        torch.testing.assert_close(value, fixed.net.parameters[key])


def test_activations_are_measured_as_defined():
    stack, x = StackedMLP(MLP(12, inputs=20), 2), torch.rand(50, 20)
    stack.parameters["fc2.bias"][1, :4] = -1e3  # four of 36 units die
    found = measures.activations(stack, x)
    for i in range(2):
        h = x
        alive = []
        for name in ("fc1", "fc2", "fc3"):
            h = F.relu(h @ stack.parameters[f"{name}.weight"][i].T + stack.parameters[f"{name}.bias"][i])
            alive.append((h != 0).any(0))
        singular = torch.linalg.svdvals(h.double())
        assert found["dead_units"][i] == pytest.approx(1 - torch.cat(alive).double().mean().item())
        assert found["stable_rank"][i] == pytest.approx(stable_rank(singular).item(), rel=1e-6)
        assert found["rank99"][i] == rank99(singular)
    assert found["dead_units"][1] >= 4 / 36


def test_a_dead_network_has_rank_0():
    stack = StackedMLP(MLP(12, inputs=20), 1)
    for w in stack.parameters.values():
        w.zero_()
    found = measures.activations(stack, torch.rand(50, 20))
    assert (found["dead_units"], found["stable_rank"], found["rank99"]) == (1, 0, 0)


def test_the_loss_jump_is_the_mean_change_after_a_renewal():
    online = Online(2, 5, 1, "cpu")
    online.begin()
    losses = torch.tensor([[1.0, 1.0], [2.0, 1.5], [4.0, 1.0], [3.0, 0.5], [2.5, 0.0]])
    for u, loss in enumerate(losses):
        online.add(u, torch.stack([loss, torch.zeros(2)]))
        online.fire(u, [0, 1], torch.tensor([u in (0, 1, 4), False]))
    results = online.results(torch.ones(2))
    assert results["loss_jump"][0] == pytest.approx(1.5)  # 2 - 1 and 4 - 2; after the last update nothing is known
    assert results["loss_jump"][1].isnan() and results["renewals"].tolist() == [3, 0]


def test_the_paper_s_course_needs_its_images():
    assert course_for(load_digits_images()).updates_a_task == 224


def test_what_a_method_adds_to_a_gradient_is_gone_with_the_next_batch():
    """Also at pixels that no batch shows."""
    stack, x = StackedMLP(MLP(6, inputs=20), 2), torch.rand(8, 20)
    for shown in (15, 10, 12):
        _, grad = CrossEntropy(torch.ones(2))(stack.forward(x[:, :shown]), torch.arange(8) % 10)
        stack.backward(grad)
        w = stack.gradients()["fc1.weight"]
        assert not w[:, :, shown:].any() and w[:, :, :shown].any()
        stack.add_to_gradient("fc1.weight", [0, 1], torch.ones(2, 6, 20))
