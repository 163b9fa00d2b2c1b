"""Schedule and optimizer do to the bit what the authors' calls of torch do; what that does when a task begins."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from regrow.lab.studies import VIT_SETTINGS
from regrow.lab.vit.optimizer import Authors, AuthorsCleared, Clean, Descent, guard_
from regrow.lab.vit.schedule import one_cycle

CONFIG = {"step_size": 0.01, "decay": 6e-6}
TASKS = (4, 10, 25)  # updates


class Net(nn.Module):
    """A matrix and a vector, whose gradients are given."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(3, 4, generator=generator, dtype=dtype))
        self.vector = nn.Parameter(torch.randn(5, generator=generator, dtype=dtype))

    def set_gradients(self, step: int) -> None:
        generator = torch.Generator().manual_seed(step)
        for p in self.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


def same(net: nn.Module, twin: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters()))


# ---- the schedule


@pytest.mark.parametrize("updates", [1, 2, 3, 4, 7, 10, 25, 250, 2500])
def test_the_schedule_is_torchs_to_the_bit(updates: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=0.01, anneal_strategy="linear", total_steps=updates)
    optimizer.step()
    for update in range(updates):
        group = optimizer.param_groups[0]
        assert one_cycle(update, updates, 0.01) == (group["lr"], group["momentum"])
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] < 0 or updates == 1  # torch's extra step, which the tasks never take


def test_the_schedule_is_the_papers() -> None:
    """Appendix D: 4e-4 at first, 1e-2 after 30 %, 4e-8 at last; the momentum goes the other way."""
    for updates in (2_500, 50_000):
        first, turn, last = (one_cycle(u, updates, 0.01) for u in (0, 3 * updates // 10 - 1, updates - 1))
        assert first == pytest.approx((4e-4, 0.95)) and turn == pytest.approx((1e-2, 0.85))
        assert last == pytest.approx((4e-8, 0.95), rel=1e-9)


@pytest.mark.parametrize("update", [-1, 10])
def test_an_update_that_the_task_has_not_is_refused(update: int) -> None:
    with pytest.raises(ValueError, match=rf"^`update` must be from 0 to 9, one of the task's; got {update}$"):
        one_cycle(update, 10, 0.01)


# ---- the authors' way


def test_the_cleared_way_is_the_authors_with_a_new_optimizer_at_each_task() -> None:
    net, other, step = Net(), Net(), 0
    descent = AuthorsCleared(net, VIT_SETTINGS["vit"], CONFIG)
    for updates in TASKS:
        descent.begin_task(updates)
        fresh = Authors(other, VIT_SETTINGS["vit"], CONFIG)
        fresh.begin_task(updates)
        for update in range(updates):
            step += 1
            net.set_gradients(step)
            other.set_gradients(step)
            descent.step(update)
            fresh.step(update)
            assert same(net, other), (updates, update)


class AuthorsTwin:
    """Their calls, one after the other: a scheduler for each task, and the decay set again after each of its steps."""

    def __init__(self, net: Net, scaled: bool, spares_vectors: bool) -> None:
        parts = [[net.matrix], [net.vector]] if spares_vectors else [[net.matrix, net.vector]]
        groups = [{"params": part, "weight_decay": 0.0 if i else 6e-6} for i, part in enumerate(parts)]
        self.optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
        self.scaled = scaled

    def begin_task(self, updates: int) -> None:
        self.scheduler = OneCycleLR(self.optimizer, max_lr=0.01, anneal_strategy="linear", total_steps=updates)
        self.rescale()

    def rescale(self) -> None:
        rate = self.scheduler.get_last_lr()[0]
        if not self.scaled and rate > 0:
            self.optimizer.param_groups[0]["weight_decay"] = 6e-6 / rate

    def step(self) -> None:
        self.optimizer.step()
        self.scheduler.step()
        self.rescale()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", VIT_SETTINGS)
def test_the_authors_way_is_their_calls_to_the_bit(name: str, dtype: torch.dtype) -> None:
    setting = VIT_SETTINGS[name]
    net, other, step = Net(dtype), Net(dtype), 0
    descent, twin = Authors(net, setting, CONFIG), AuthorsTwin(other, setting.scaled, setting.spares_vectors)
    for updates in TASKS:
        descent.begin_task(updates)
        twin.begin_task(updates)
        for update in range(updates):
            step += 1
            net.set_gradients(step)
            other.set_gradients(step)
            descent.step(update)
            twin.step()
            assert same(net, other), (updates, update)


class Weights(nn.Module):
    """One weight that decays, one vector that may be spared."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
        self.bias = nn.Parameter(torch.ones(1, dtype=torch.float64))


def boundary(way: type[Descent], setting: str, decay: float, task: int) -> Tensor:
    """What the first 300 updates of a task multiply weights with, where the loss has no gradient: weight and bias."""
    net = Weights()
    descent = way(net, VIT_SETTINGS[setting], {"step_size": 0.01, "decay": decay})
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    updates = 2_500 * task
    descent.begin_task(updates)
    for update in range(updates - 300, updates):  # the momentum remembers no more than this
        descent.step(update)
    before = torch.cat([p.detach().flatten().clone() for p in net.parameters()])
    descent.begin_task(updates + 2_500)
    for update in range(300):
        descent.step(update)
    return torch.cat([p.detach().flatten() for p in net.parameters()]) / before


@pytest.mark.parametrize("task", [1, 2, 8, 19])
@pytest.mark.parametrize(("decay", "low", "high"), [(6e-6, -0.60, -0.36), (2e-6, 0.45, 0.54)])
def test_the_authors_way_shrinks_or_flips_weights_at_a_tasks_beginning(
    task: int, decay: float, low: float, high: float
) -> None:
    weight, bias = boundary(Authors, "vit", decay, task).tolist()
    assert low < weight < high and bias == weight


def test_what_does_not_shrink_weights_at_a_tasks_beginning() -> None:
    """300 updates of decay alone take a percent or two."""
    for way, setting, decay in ((Clean, "vit", 6e-6), (Authors, "vit-scaled", 6e-4), (Clean, "vit-scaled", 6e-4)):
        assert 0.96 < boundary(way, setting, decay, 2).min() <= boundary(way, setting, decay, 2).max() < 1
    weight, bias = boundary(Authors, "vit-nodecay", 6e-6, 2).tolist()
    assert weight < -0.36 and bias == 1.0


def test_short_tasks_make_it_worse() -> None:
    """At a tenth of the paper's updates the weights come out twice as large, and flipped."""
    net = Weights()
    descent = Authors(net, VIT_SETTINGS["vit"], CONFIG)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    descent.begin_task(250)
    for update in range(250):
        descent.step(update)
    before = net.weight.item()
    descent.begin_task(500)
    for update in range(300):
        descent.step(update)
    assert -2.2 < net.weight.item() / before < -1.9


# ---- the clean way


@pytest.mark.parametrize("name", ["vit", "vit-scaled", "vit-nodecay"])
def test_the_clean_way_is_what_it_says(name: str) -> None:
    setting, net, other, step = VIT_SETTINGS[name], Net(torch.float64), Net(torch.float64), 0
    descent = Clean(net, setting, CONFIG)
    for updates in TASKS:
        descent.begin_task(updates)
        buffers = [torch.zeros_like(p) for p in other.parameters()]  # empty at every task's beginning
        for update in range(updates):
            step += 1
            net.set_gradients(step)
            other.set_gradients(step)
            descent.step(update)
            rate = one_cycle(update, updates, 0.01).step_size
            for p, b in zip(other.parameters(), buffers):
                lost = 6e-6 * (rate if setting.scaled else 1) * (p.dim() == 2 or not setting.spares_vectors)
                b.mul_(0.9).add_(p.grad)
                p.data = (1 - lost) * p.data - rate * b
        for p, q in zip(net.parameters(), other.parameters()):
            torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-13)


def test_the_clean_way_loses_the_decay_itself() -> None:
    net = Weights()
    net.weight.grad = torch.zeros_like(net.weight)
    descent = Clean(net, VIT_SETTINGS["vit"], CONFIG)
    descent.begin_task(50)
    for update in range(50):
        descent.step(update)
    assert net.weight.item() == pytest.approx((1 - 6e-6) ** 50, rel=1e-12)


# ---- both


@pytest.mark.parametrize("way", [Authors, Clean])
def test_a_descent_goes_on_bit_for_bit(way: type[Descent], tmp_path) -> None:
    nets = [Net(), Net()]
    first, second = (way(net, VIT_SETTINGS["vit"], CONFIG) for net in nets)
    first.begin_task(10)
    for update in range(6):
        nets[0].set_gradients(update)
        first.step(update)
    torch.save([first.state_dict(), nets[0].state_dict()], tmp_path / "state")
    state, weights = torch.load(tmp_path / "state", weights_only=True)
    second.load_state_dict(state)
    nets[1].load_state_dict(weights)
    for update in range(6, 10):
        for net, descent in zip(nets, (first, second)):
            net.set_gradients(update)
            descent.step(update)
    assert same(*nets)


def test_guards() -> None:
    w = torch.tensor([0.0, 1e-30, -1e-21, 1e-19, -3.0, 5.0, math.nan, -math.inf])
    guard_([w], flush_below=1e-20, clip_at=4.0)
    assert torch.equal(w[:6], torch.tensor([0.0, 0.0, 0.0, 1e-19, -3.0, 4.0])) and w[6].isnan() and w[7] == -4
    same_as_before = torch.tensor([1e-40, 1e30])
    guard_([w := same_as_before.clone()], flush_below=0.0, clip_at=math.inf)
    assert torch.equal(w, same_as_before)
