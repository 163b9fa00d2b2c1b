"""Updates are counted right, whatever stands between the loss and the optimizer's step."""

import gc
import itertools
import weakref

import pytest
import torch
from models import backward, batch, mlp, same, train, weights
from torch import nn
from torch.amp import GradScaler

import regrow
from regrow.maintain.step_counter import StepCounter


def make(model, every=2, **more):
    return regrow.SWR(model, every=every, factor=0.3, seed=0, **more)


def test_gradient_accumulation_counts_optimizer_steps():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swr = make(model).attach(optimizer)
    for step in range(12):
        x, y = batch(step)
        (nn.functional.cross_entropy(model(x), y) / 3).backward()
        if step % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
    assert swr.report()["steps"] == 4 and swr.report()["renewals"] == 2


@pytest.mark.parametrize("schedule", [
    lambda o: torch.optim.lr_scheduler.StepLR(o, 2),
    lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=20),
    lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
])  # fmt: skip
@pytest.mark.parametrize("attach_first", [True, False])
def test_schedulers_wrap_the_step_and_change_nothing(schedule, attach_first):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    swr = make(model)
    if attach_first:
        swr.attach(optimizer)
    scheduler = schedule(optimizer)
    if not attach_first:
        swr.attach(optimizer)
    train(model, optimizer, range(6), scheduler.step)
    assert swr.report()["steps"] == 6 and swr.report()["renewals"] == 3


def test_closures():
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    swr = make(model).attach(optimizer)

    def closure():
        backward(model, 0)
        return torch.tensor(1.0)

    for _ in range(4):
        optimizer.step(closure)
    assert swr.report()["steps"] == 4 and swr.report()["renewals"] == 2


@pytest.mark.parametrize("fused", [True, False])
def test_steps_that_a_grad_scaler_skips_are_not_counted(fused):
    """An infinite gradient makes the scaler skip: the run equals one that never had those batches."""

    def run(overflows):
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
        scaler = GradScaler("cpu", init_scale=4.0, growth_interval=10_000, backoff_factor=0.9999999)
        swr = make(model, every=3).attach(optimizer)
        noise = regrow.ShrinkPerturb(model, shrink=0.01, seed=0).attach(optimizer)
        steps = itertools.count()
        for overflow in overflows:
            optimizer.zero_grad()
            x, y = batch(0 if overflow else next(steps))
            loss = nn.functional.cross_entropy(model(x), y)
            scaler.scale(loss * torch.inf if overflow else loss).backward()
            scaler.step(optimizer)
            scaler.update(4.0)
        return weights(model), swr.report(), noise.report()

    with_skips, report, noise = run([True, False, False, True, True, False, True, False, False, True, False])
    without, plain_report, plain_noise = run([False] * 6)
    assert report["steps"] == noise["steps"] == 6
    assert report == plain_report and noise["steps"] == plain_noise["steps"]
    assert same(with_skips, without)


def test_the_clock_reads_the_device_only_when_something_may_be_due():
    class Counted(torch.Tensor):
        reads = 0

        def __int__(self):
            Counted.reads += 1
            return int(self.as_subclass(torch.Tensor))

    clock = StepCounter()
    fired = []
    for attempt in range(100):
        clock.tick(torch.tensor(float(attempt in (5, 6, 50))).as_subclass(Counted))
        fired.append(clock.due(20))
    assert [i for i, due in enumerate(fired) if due] == [21, 41, 62, 82]
    assert clock.steps == 97
    assert Counted.reads <= 4 + 3 + 1  # a read a firing, one more for each skip at most, and ours


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_the_clock_equals_a_count_that_always_reads(every):
    for seed in range(20):
        skips = (torch.rand(60, generator=torch.Generator().manual_seed(seed)) < 0.3).tolist()
        clock, steps = StepCounter(), 0
        for skip in skips:
            clock.tick(torch.tensor(float(skip)))
            steps += not skip
            assert clock.due(every) == (not skip and steps % every == 0)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_model_and_step(backend):
    plain, compiled = mlp(), mlp()
    opts = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (plain, compiled)]
    one, two = make(plain).attach(opts[0]), make(torch.compile(compiled, backend=backend)).attach(opts[1])
    fast = torch.compile(compiled, backend=backend)

    @torch.compile(backend=backend)
    def step():
        opts[1].step()

    train(plain, opts[0], range(7))
    for i in range(7):
        x, y = batch(i)
        opts[1].zero_grad()
        nn.functional.cross_entropy(fast(x), y).backward()
        step()
    assert one.report() == two.report() and one.report()["renewals"] == 3
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(plain).values(), weights(compiled).values()))


def test_stepped_inside_a_compiled_function():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swr = make(model, optimizer=optimizer)

    @torch.compile(backend="eager")
    def update(x, y):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        swr.step()

    for i in range(6):
        update(*batch(i))
    twin = mlp()
    twin_opt = torch.optim.SGD(twin.parameters(), lr=0.1)
    other = make(twin, optimizer=twin_opt)
    train(twin, twin_opt, range(6), other.step)
    assert swr.report() == other.report() and swr.report()["renewals"] == 3


def test_moved_to_another_type_and_back():
    model = mlp()
    swr = make(model)
    model.to(torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, range(2), swr.step)
    assert swr.report()["renewals"] == 1 and model[0].weight.dtype == torch.float64
    model.to("meta")  # another device, where nothing can be read
    model.to_empty(device="cpu")
    assert {e.parameter.device.type for e in swr._loop.entries()} == {"cpu"}


def test_parameter_groups_added_later():
    model = mlp()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    swr = make(model, every=1)
    with pytest.warns(
        UserWarning, match=r"SWR ignores parameters that the SGD does not hold: 2\.weight, 2\.bias, 3\.weight"
    ):
        swr.attach(optimizer)
    before = weights(model)
    train(model, optimizer, range(1))
    assert torch.equal(model[3].weight, before["3.weight"]) and not torch.equal(model[0].weight, before["0.weight"])
    optimizer.add_param_group({"params": model[3].parameters()})
    train(model, optimizer, range(1))
    assert set(swr.preview()) == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_several_optimizers_over_parts_of_one_model():
    model = nn.ModuleDict({"actor": mlp(0), "critic": mlp(1)})
    opts = {name: torch.optim.Adam(net.parameters(), lr=0.01) for name, net in model.items()}
    swrs = {name: make(model, only=name).attach(opts[name]) for name in model}
    for step in range(6):
        train(model["critic"], opts["critic"], range(step, step + 1))
        if step % 3 == 0:
            train(model["actor"], opts["actor"], range(step, step + 1))
    assert swrs["actor"].report()["steps"] == 2 and swrs["critic"].report()["steps"] == 6
    assert swrs["actor"].report()["renewals"] == 1 and swrs["critic"].report()["renewals"] == 3


def test_renewers_run_before_noise_and_each_in_attach_order():
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    calls = []
    made = {
        "noise": regrow.ShrinkPerturb(model, noise_variance=1.0),
        "one": make(model, every=1, only="weight"),
        "two": make(model, every=1, only="bias"),
    }
    for name, maintainer in made.items():
        maintainer._after_update = lambda *args, name=name: calls.append(name)
        maintainer.attach(optimizer)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert calls == ["one", "two", "noise"]
    made["one"].detach()
    calls.clear()
    optimizer.step()
    assert calls == ["two", "noise"]
    made["two"].detach()
    made["noise"].detach()
    calls.clear()
    optimizer.step()
    assert calls == [] and not optimizer._optimizer_step_post_hooks and not optimizer._optimizer_step_pre_hooks


def test_an_optimizer_and_its_maintainers_are_freed_together():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gone = weakref.ref(make(model).attach(optimizer))
    assert gone() is not None, "the optimizer keeps it"
    del optimizer
    gc.collect()
    assert gone() is None


def test_an_optimizers_state_is_stored_without_its_maintainers():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    make(model).attach(optimizer)
    assert set(optimizer.state_dict()) == {"state", "param_groups"}
