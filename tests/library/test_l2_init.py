"""L2-Init: the pull towards initial values is a term of the loss, and nothing but the optimizer's step sees it."""

import pytest
import torch
from models import backward, mlp, same, train, weights
from torch import nn

import regrow
from regrow.lab.data.mnist import Images
from regrow.lab.general import Lab, StackedModule
from regrow.lab.mlp.network import StackedMLP
from regrow.lab.mlp.trainer import Trainer
from regrow.lab.nets import MLP
from regrow.lab.problems.permuted import Course, PermutedImages
from regrow.lab.studies import Member, Setting, StackPlan
from regrow.lab.studies.systems import System
from regrow.methods import L2Init, StackedMethod

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "sgdw": lambda p: regrow.SGDW(p, lr=0.1, momentum=0.9, weight_decay=0.01),
}


def loss_of(model, step, strength=0.0, initial=()):
    x, y = batches(step)
    term = sum((p - i).square().sum() for p, i in zip(model.parameters(), initial))
    return nn.functional.cross_entropy(model(x), y) + strength / 2 * term


def batches(step):
    g = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=g), torch.randint(3, (8,), generator=g)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_pulls_back_where_the_optimizer_goes_up_the_gradient(make):
    """Of a flat loss nothing but the pull is left, so both optimizers take the same steps."""
    models = {maximize: mlp() for maximize in (False, True)}
    for maximize, model in models.items():
        opt = make(model.parameters(), lr=0.01, maximize=maximize)
        regrow.L2Init(model, strength=1.0).attach(opt)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1)
        for step in range(20):
            opt.zero_grad()
            (0 * model(batches(step)[0]).sum()).backward()
            opt.step()
    assert same(weights(models[False]), weights(models[True]))


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("micro", [1, 3])
def test_equals_the_term_in_the_loss(make, micro):
    """By autograd, in plain PyTorch; with gradients accumulated over several micro-batches, too."""
    ours, plain = mlp().double(), mlp().double()
    initial = [p.detach().clone() for p in plain.parameters()]
    opt, plain_opt = make(ours.parameters()), make(plain.parameters())
    regrow.L2Init(ours, strength=0.3).attach(opt)
    for step in range(6):
        for optimizer in (opt, plain_opt):
            optimizer.zero_grad()
        for part in range(micro):
            x, y = batches(10 * step + part)
            nn.functional.cross_entropy(ours(x.double()), y).backward()
            nn.functional.cross_entropy(plain(x.double()), y).backward()
        (0.15 * sum((p - i).square().sum() for p, i in zip(plain.parameters(), initial))).backward()
        opt.step()
        plain_opt.step()
    for a, b in zip(ours.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_a_line_search_sees_the_term():
    ours, plain = mlp().double(), mlp().double()
    initial = [p.detach().clone() for p in plain.parameters()]
    opt, plain_opt = (torch.optim.LBFGS(m.parameters(), line_search_fn="strong_wolfe") for m in (ours, plain))
    regrow.L2Init(ours, strength=0.1).attach(opt)
    x, y = batches(0)

    def closure(model, optimizer, strength):
        optimizer.zero_grad()
        term = sum((p - i).square().sum() for p, i in zip(model.parameters(), initial))
        loss = nn.functional.cross_entropy(model(x.double()), y) + strength / 2 * term
        loss.backward()
        return loss

    for _ in range(3):
        opt.step(lambda: closure(ours, opt, 0.0))
        plain_opt.step(lambda: closure(plain, plain_opt, 0.1))
    for a, b in zip(ours.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("first", ["l2-init", "swr"])
def test_what_renews_sees_the_gradient_of_the_loss_alone(first):
    """In either order of attaching; and after the step `.grad` is the object it was, bit for bit."""
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    made = {"l2-init": regrow.L2Init(model, strength=5.0), "swr": regrow.SWR(model, every=1, factor=0.0)}
    seen = []
    made["swr"]._after_update = lambda *_: seen.append([p.grad.clone() for p in model.parameters()])
    for name in sorted(made, key=lambda name: name != first):
        made[name].attach(opt)
    train(model, opt, range(2))
    backward(model, 2)
    before, objects = [p.grad.clone() for p in model.parameters()], [p.grad for p in model.parameters()]
    opt.step()
    assert all(torch.equal(a, b) for a, b in zip(seen[-1], before))
    assert all(p.grad is g and torch.equal(g, b) for p, g, b in zip(model.parameters(), objects, before))


def test_off_is_bit_identical_and_nothing_without_gradient_moves():
    plain, kept = mlp(), mlp()
    opts = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (plain, kept)]
    regrow.L2Init(kept, strength=0.0).attach(opts[1])
    for model, opt in zip((plain, kept), opts):
        train(model, opt, range(4))
    assert same(weights(plain), weights(kept))
    idle = nn.Linear(2, 2)
    opt = torch.optim.SGD(idle.parameters(), lr=0.1)
    regrow.L2Init(idle, strength=1.0).attach(opt)
    idle.weight.data.add_(1.0)
    before = weights(idle)
    opt.step()
    assert same(before, weights(idle))


@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_scaler_changes_nothing(fused):
    """Fused optimizers unscale inside their step; a step that is skipped adds nothing and leaves gradients alone."""
    ours, plain = mlp(), mlp()
    initial = [p.detach().clone() for p in plain.parameters()]
    opts = [torch.optim.AdamW(m.parameters(), lr=0.01, fused=fused) for m in (ours, plain)]
    scalers = [torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10**6) for _ in range(2)]
    regrow.L2Init(ours, strength=0.3).attach(opts[0])
    for step in range(5):
        for model, opt, scaler, strength in zip((ours, plain), opts, scalers, (0.0, 0.3)):
            opt.zero_grad()
            scaler.scale(loss_of(model, step, strength, initial)).backward()
            if step == 2:
                next(model.parameters()).grad[0, 0] = torch.inf
            loss_gradient, scale = [p.grad.clone() for p in model.parameters()], scaler.get_scale()
            scaler.step(opt)
            scaler.update()
            if model is ours and step != 2:
                for p, g in zip(model.parameters(), loss_gradient):
                    torch.testing.assert_close(p.grad, g / scale)
    for a, b in zip(ours.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_resampled_references_are_new_at_every_update_and_of_the_law():
    model = nn.Linear(64, 64)
    opt = torch.optim.SGD(model.parameters(), lr=1.0)
    regrow.L2Init(model, strength=1.0, reference="resample", only="weight", seed=0).attach(opt)
    drawn = []
    for _ in range(2):  # theta <- theta - (theta - draw) where the loss has no gradient
        model.weight.grad = torch.zeros_like(model.weight)
        opt.step()
        drawn.append(model.weight.detach().clone())
    assert not drawn[0].allclose(drawn[1]) and drawn[0].abs().max() <= 1 / 8 + 1e-6
    assert drawn[0].std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)


def test_the_initial_values_are_stored():
    def run(steps, state=None):
        model = mlp()
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        pull = regrow.L2Init(model, strength=0.5).attach(opt)
        if state:
            model.load_state_dict(state["model"])
            pull.load_state_dict(state["pull"])
        train(model, opt, steps)
        return model, {"model": model.state_dict(), "pull": pull.state_dict()}

    whole, _ = run(range(6))
    _, half = run(range(3))
    resumed, _ = run(range(3, 6), half)
    assert same(weights(whole), weights(resumed))
    other = regrow.L2Init(nn.Linear(3, 3), strength=0.5)
    with pytest.raises(ValueError, match="state_dict is of another network: it holds '0.weight'"):
        other.load_state_dict(half["pull"])


def test_step_by_hand_comes_too_late():
    with pytest.raises(RuntimeError, match="L2Init adds to the gradient before the optimizer's step.*attach"):
        regrow.L2Init(mlp(), strength=0.1).step()


@pytest.mark.parametrize("optimizer", ["sgd", "sgdw", "adamw"])
def test_a_stack_equals_single_runs(optimizer):
    steps = {"sgd": {}, "sgdw": {"momentum": 0.9}, "adamw": {"beta1": 0.9, "beta2": 0.99}}[optimizer]
    strengths, lr = (0.0, 0.1, 0.7), 0.01
    members = [Member("l2-init", {"step_size": lr, "strength": s} | steps, seed=0) for s in strengths]
    stack = StackedModule([mlp().double() for _ in members])
    lab = Lab(stack, members, nn.functional.cross_entropy, optimizer=optimizer, shared=True)
    for step in range(5):
        x, y = batches(step)
        lab.update(x.double(), y)
    make = {
        "sgd": lambda p: torch.optim.SGD(p, lr=lr), "sgdw": lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9),
        "adamw": lambda p: torch.optim.AdamW(p, lr=lr, betas=(0.9, 0.99), weight_decay=0.0),
    }[optimizer]  # fmt: skip
    for i, strength in enumerate(strengths):
        alone = mlp().double()
        opt = make(alone.parameters())
        regrow.L2Init(alone, strength=strength).attach(opt)
        for step in range(5):
            x, y = batches(step)
            opt.zero_grad()
            nn.functional.cross_entropy(alone(x.double()), y).backward()
            opt.step()
        for name, p in alone.named_parameters():
            torch.testing.assert_close(stack.parameters[name][i], p.detach(), rtol=1e-9, atol=1e-9)


def test_references_follow_the_pixels_and_spare_norms():
    net = StackedMLP(MLP(hidden=4, layer_norm=True, inputs=6), 2)
    net.scale = torch.tensor([-1.0, -1.0])
    fixed = System.of("l2-init").fixed
    pull = StackedMethod([L2Init(strength=1.0, **fixed)] * 2, [0, 1], [0, 0], net)
    initial = {name: w.clone() for name, w in net.parameters.items()}
    shuffle = torch.randperm(6)
    net.permute(shuffle)
    pull.permute("fc1.weight", shuffle)
    for w in net.parameters.values():
        w.add_(1.0)
    pull.before(1, net)  # strength 1 at step size 1: what is pulled is where it began
    net.add_penalties()
    for name, w in net.parameters.items():
        expected = initial[name][:, :, shuffle] if name == "fc1.weight" else initial[name]
        torch.testing.assert_close(w, expected + 1.0 if name.startswith("norm") else expected)


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("optimizer", ["sgd", "sgdw"])
def test_a_stack_that_decays_adds_the_pull_to_the_gradient_as_single_runs_do(optimizer, decay):
    """theta <- (1 - decay) theta - lr (g + strength (theta - theta_0)), the pull of the weights before they decay."""
    lr, strength = 0.1, 0.7
    config = {"step_size": lr, "momentum": 0.0, "strength": strength, "decay": decay, "noise_variance": 0.0}
    plan = StackPlan("l2", Setting("tiny", 6, False, optimizer), 0, (Member("l2-init", config, 0),))
    images = Images(torch.randint(256, (40, 9), dtype=torch.uint8), torch.arange(40) % 3, 255)
    trainer = Trainer(plan, images, course=Course(images=32, batch=8), dtype=torch.float64)
    names = list(trainer.net.parameters)
    alone = {name: w[0].clone().requires_grad_() for name, w in trainer.net.parameters.items()}
    start = None
    problem = PermutedImages(images, Course(images=32, batch=8))
    task = problem.task(0, 0)
    with torch.no_grad():
        alone["fc1.weight"].copy_(alone["fc1.weight"][:, task.shuffle])
    start = {name: w.detach().clone() for name, w in alone.items()}
    for order, labels in zip(task.order, task.labels):
        h = problem.inputs(order, problem.pixels).double()
        for layer in ("fc1", "fc2", "fc3"):
            h = (h @ alone[f"{layer}.weight"].T + alone[f"{layer}.bias"]).relu()
        loss = nn.functional.cross_entropy(h @ alone["out.weight"].T + alone["out.bias"], labels)
        gradients = torch.autograd.grad(loss, list(alone.values()))
        with torch.no_grad():
            for (name, w), g in zip(alone.items(), gradients):
                pull = strength * (w - start[name])
                w.mul_(1 - decay).sub_(lr * (g + pull))
    trainer.run_task()
    for name in names:
        torch.testing.assert_close(trainer.net.parameters[name][0], alone[name].detach(), rtol=1e-6, atol=1e-8)
