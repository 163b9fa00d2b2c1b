"""The general path: a stack of any modules is as many plain PyTorch loops with the library's own maintainers."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import regrow
from regrow.core import random
from regrow.lab.general import Lab, StackedModule, train
from regrow.lab.general.dropout import KeyedDropout
from regrow.lab.nets import ViT
from regrow.lab.optimizers import OPTIMIZERS
from regrow.lab.studies import Member
from regrow.methods.cbp_schedule import Schedule

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_problem.py"
UPDATES, BATCH, CLASSES = 10, 6, 3
SYSTEMS = {
    "base": {},
    "l2": {"decay": 1e-2},
    "shrink-perturb": {"decay": 1e-3, "noise_variance": 1e-4},
    "swr": {"every": 4, "factor": 0.3},
    "cbp": {"replacement_rate": 0.05, "maturity": 3},
    "redo": {"every": 4, "threshold": 0.6},
}
SWR = [
    {"utility": "magnitude", "prune": "proportional", "every": 4, "factor": 0.2},
    {"utility": "random", "reinit": "mean", "every": 7, "factor": 0.1},
]
STEPS = {
    "sgd": {"step_size": 0.05},
    "sgdw": {"step_size": 0.02, "momentum": 0.9},
    "adamw": {"step_size": 1e-3, "beta1": 0.9, "beta2": 0.99},
}


def conv_net():
    """No bias before the batch norm: its gradient is rounding error alone, and SWR would choose by it."""
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, CLASSES),
    )  # fmt: skip


def normed_mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 9, bias=False), nn.BatchNorm1d(9), nn.ReLU(),
        nn.Linear(9, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, CLASSES),
    )  # fmt: skip


def vit(dropout=0.0):
    return ViT(image_size=8, patch_size=4, width=8, depth=2, heads=2, mlp=12, classes=CLASSES, dropout=dropout)


class Branches(nn.Module):
    """Units that two layers read."""

    def __init__(self):
        super().__init__()
        self.fc, self.a, self.b = nn.Linear(64, 9), nn.Linear(9, CLASSES), nn.Linear(9, CLASSES)

    def forward(self, x):
        h = self.fc(x.flatten(1)).relu()
        return self.a(h) + self.b(h)


NETS = {"conv": conv_net, "mlp": normed_mlp, "vit": vit, "branches": Branches}


def made(net, seed):
    torch.manual_seed(seed)
    return NETS[net]().double() if isinstance(net, str) else net().double()


def stream(net, seed, updates=UPDATES):
    """Batches of a seed: (updates, B, ...)."""
    generator = torch.Generator().manual_seed(100 + seed)
    channels = 3 if net in ("vit", vit) or callable(net) else 1
    x = torch.randn(updates, BATCH, channels, 8, 8, dtype=torch.float64, generator=generator)
    return x, torch.randint(CLASSES, (updates, BATCH), generator=generator)


def side_by_side(net, members, updates=UPDATES):
    """A batch for each member: (M, B, ...), update by update."""
    streams = [stream(net, member.seed, updates) for member in members]
    return zip(torch.stack([x for x, _ in streams], 1), torch.stack([y for _, y in streams], 1))


def trained(net, members, optimizer="sgd", updates=UPDATES, **options):
    stack = StackedModule([made(net, member.seed) for member in members])
    lab = Lab(stack, members, F.cross_entropy, optimizer=optimizer, **options)
    return stack, lab.run(side_by_side(net, members, updates))


def plain_maintainers(net, member):
    config, common = member.config, {"clear_moments": False, "seed": member.seed}
    knobs = {k: v for k, v in config.items() if k not in STEPS["sgdw"] | STEPS["adamw"] | {"decay": 0}}
    if member.system in ("l2", "shrink-perturb"):
        variance = config.get("noise_variance", 0.0)
        return regrow.ShrinkPerturb(net, shrink=config["decay"], noise_variance=variance, seed=member.seed)
    maker = {"swr": regrow.SWR, "cbp": regrow.ContinualBackprop, "redo": regrow.ReDo}.get(member.system)
    return maker(net, **knobs, **common) if maker else None


def plain_loop(net, member, optimizer):
    """One network trained alone; returns it, its losses, and how many firings there were."""
    model, config = made(net, member.seed), member.config
    if optimizer == "adamw":
        betas = config["beta1"], config["beta2"]
        opt = torch.optim.AdamW(model.parameters(), config["step_size"], betas, weight_decay=0.0)
    else:
        opt = torch.optim.SGD(model.parameters(), config["step_size"], momentum=config.get("momentum", 0.0))
    maintainer = plain_maintainers(model, member)
    if maintainer:
        maintainer.attach(opt)
    losses = []
    for update, (x, y) in enumerate(zip(*stream(net, member.seed)), 1):
        with KeyedDropout(random.key(member.seed, "dropout", 0, update)):
            loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return model, losses, maintainer.report()["renewals"] if maintainer else 0


def members_of(optimizer, systems=tuple(SYSTEMS)):
    """Every system, SWR with other selections as well; seeds and step sizes differ."""
    configs = [(system, SYSTEMS[system]) for system in systems] + [("swr", config) for config in SWR]
    return [
        Member(system, STEPS[optimizer] | {"step_size": STEPS[optimizer]["step_size"] * (1 + 0.1 * i)} | config, i % 3)
        for i, (system, config) in enumerate(configs)
    ]


def check_equal(net, members, optimizer):
    stack, history = trained(net, members, optimizer)
    for i, member in enumerate(members):
        model, losses, renewals = plain_loop(net, member, optimizer)
        torch.testing.assert_close(
            history["loss"][:, i], torch.tensor(losses, dtype=torch.float64), rtol=1e-9, atol=1e-9
        )
        own = stack.member(i).state_dict()
        for name, value in model.state_dict().items():
            torch.testing.assert_close(
                own[name], value, rtol=1e-9, atol=1e-9, msg=lambda m, at=f"{member}, {name}": f"{at}: {m}"
            )
        fired = int(history["renewed"][:, i].sum())
        if member.system in ("swr", "cbp", "redo"):
            assert 0 < fired <= renewals, member
        else:
            assert fired == 0, member


@pytest.mark.parametrize("net", NETS)
def test_a_stack_is_as_many_plain_loops(net):
    check_equal(net, members_of("sgd"), "sgd")


@pytest.mark.parametrize("optimizer", ["sgdw", "adamw"])
def test_a_stack_is_as_many_plain_loops_with_other_optimizers(optimizer):
    check_equal("mlp", members_of(optimizer, ("base", "cbp", "swr")), optimizer)


def test_dropout_belongs_to_the_member():
    """Masks are keyed by seed and update, so the plain loop under the same key draws them as well."""
    check_equal(lambda: vit(0.3), members_of("sgd", ("base", "cbp")), "sgd")


def test_batch_norms_begin_anew_with_their_units():
    """The plain loops above have no running statistics of 0 and 1 at their end; here every unit is renewed last."""
    member = Member("redo", STEPS["sgd"] | {"every": UPDATES, "threshold": 1e9}, 0)
    stack, _ = trained("conv", [member])
    assert torch.equal(stack.buffers["1.running_mean"], torch.zeros(1, 5).double())
    assert torch.equal(stack.buffers["1.running_var"], torch.ones(1, 5).double())
    assert not stack.parameters["4.weight"].any() and not stack.parameters["9.weight"].any()


# Neighbours.


@pytest.mark.parametrize("net", NETS)
def test_a_member_that_diverges_leaves_the_others_as_they_are(net):
    members = members_of("sgd")
    lost = [Member("base", {"step_size": 1e200}, 5), *members]
    kept = [Member("base", {"step_size": 1e-3}, 5), *members]
    (one, history), (other, _) = trained(net, lost), trained(net, kept)
    assert not history["loss"][-1, 0].isfinite()
    assert history["loss"][:, 1:].isfinite().all()
    for name, w in {**one.parameters, **one.buffers}.items():
        assert torch.equal(w[1:], {**other.parameters, **other.buffers}[name][1:]), name


@pytest.mark.parametrize("net", NETS)
def test_a_member_does_not_depend_on_its_neighbours(net):
    ours = [Member(system, STEPS["sgd"] | config, 7) for system, config in SYSTEMS.items()]
    few = [*ours, Member("base", STEPS["sgd"], 0)]
    others = [*ours, Member("cbp", STEPS["sgd"] | {"replacement_rate": 0.3, "maturity": 1}, 3)]
    (one, _), (other, _) = trained(net, few), trained(net, others)
    for name, w in one.parameters.items():
        assert torch.equal(w[: len(ours)], other.parameters[name][: len(ours)]), name


def test_the_size_of_the_stack_counts_for_rounding_only():
    members = members_of("sgd")
    whole, _ = trained("mlp", members)
    for i in (0, 3, len(members) - 1):
        alone, _ = trained("mlp", [members[i]])
        for name, w in alone.parameters.items():
            torch.testing.assert_close(w[0], whole.parameters[name][i], rtol=1e-9, atol=1e-9)


# Other uses.


def test_one_batch_for_all_is_that_batch_for_each():
    members = members_of("sgd")
    x, y = stream("conv", 0)
    same = StackedModule([made("conv", 0) for _ in members]), StackedModule([made("conv", 0) for _ in members])
    shared = Lab(same[0], members, F.cross_entropy, shared=True).run(zip(x, y))
    each = Lab(same[1], members, F.cross_entropy).run(
        (a.expand(len(members), *a.shape), b.expand(len(members), *b.shape)) for a, b in zip(x, y)
    )
    torch.testing.assert_close(shared["loss"], each["loss"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seeds", [(2,), (0, 1)])
def test_networks_and_data_by_seed(seeds):
    """Members of one seed have one network and one stream; where all have, a batch is shown to all at once."""
    members = [Member(system, STEPS["sgd"] | SYSTEMS[system], seed) for seed in seeds for system in ("swr", "redo")]
    net, history = train(
        lambda seed: made("mlp", seed), members, lambda seed: zip(*stream("mlp", seed)), F.cross_entropy
    )
    stack, expected = trained("mlp", members)
    torch.testing.assert_close(history["loss"], expected["loss"], rtol=1e-9, atol=1e-9)
    for name, w in net.parameters.items():
        torch.testing.assert_close(w, stack.parameters[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("net", ["conv", "branches"])
def test_contribution_by_position_equals_single_runs_beside_other_utilities(net):
    """A flattened feature map, two readers; in one stack with members that go by other utilities."""
    utilities = ("contribution-by-position", "contribution-by-position", "contribution", "gradient")
    configs = [STEPS["sgd"] | SYSTEMS["cbp"] | {"utility": utility} for utility in utilities]
    check_equal(net, [Member("cbp", config, seed) for seed, config in enumerate(configs)], "sgd")


@pytest.mark.parametrize("utility", ["contribution", "activation", "gradient", "magnitude"])
def test_units_of_several_readers_and_any_utility_equal_single_runs(utility):
    kinds = ("cbp", "redo")
    knobs = {"cbp": SYSTEMS["cbp"], "redo": {"every": 4, "threshold": 1.0}}
    configs = {kind: STEPS["sgd"] | knobs[kind] | {"utility": utility} for kind in kinds}
    check_equal("branches", [Member(kind, configs[kind], seed) for kind in kinds for seed in range(2)], "sgd")


def test_metrics_are_of_before_the_update():
    members = [Member("base", STEPS["sgd"], seed) for seed in range(3)]
    stack = StackedModule([made("mlp", member.seed) for member in members])
    lab = Lab(stack, members, F.cross_entropy, metrics={"right": lambda p, y: (p.argmax(1) == y).sum()})
    x, y = next(side_by_side("mlp", members))
    before = [stack.member(i) for i in range(3)]
    found = lab.update(x, y)["right"].tolist()
    assert found == [int((net(a).argmax(1) == b).sum()) for net, a, b in zip(before, x, y)]


def test_predictions_are_those_of_evaluation_mode_and_change_nothing():
    stack, _ = trained("conv", [Member("base", STEPS["sgd"], seed) for seed in range(2)])
    x = stream("conv", 9, 1)[0][0]
    before = {name: b.clone() for name, b in stack.buffers.items()}
    for i, prediction in enumerate(stack.predict(x, shared=True)):
        torch.testing.assert_close(prediction, stack.member(i).eval()(x), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(b, before[name]) for name, b in stack.buffers.items())


def test_frozen_and_tied_parameters():
    def net():
        model = nn.Sequential(nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        model[4].weight = model[2].weight
        model[0].weight.requires_grad_(False)
        return nn.Sequential(nn.Flatten(), *model)

    members = [Member("swr", STEPS["sgd"] | SYSTEMS["swr"], 0), Member("base", STEPS["sgd"], 0)]
    stack = StackedModule([made(net, 0) for _ in members])
    assert set(stack.parameters) == {"1.bias", "3.weight", "3.bias", "5.bias"}
    frozen = made(net, 0)[1].weight
    Lab(stack, members, F.cross_entropy).run(side_by_side("mlp", members))
    trained_net = stack.member(1)
    assert torch.equal(trained_net[1].weight, frozen)
    assert trained_net[5].weight is trained_net[3].weight


def test_torch_s_generator_is_left_alone():
    members = [Member("shrink-perturb", STEPS["sgd"] | SYSTEMS["shrink-perturb"], 0)]
    stack = StackedModule([made(lambda: vit(0.5), 0)])
    before = torch.get_rng_state()
    Lab(stack, members, F.cross_entropy).run(side_by_side(vit, members, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_continual_backpropagation_goes_on_past_its_horizon(monkeypatch):
    """At a rate so low that its schedule looks ahead as far as it does, and finds nothing."""
    monkeypatch.setattr(Schedule, "HORIZON", 5)
    member = Member("cbp", {"step_size": 0.1, "replacement_rate": 1 / 16, "maturity": 0}, 0)
    stack = StackedModule([nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))])
    history = Lab(stack, [member], F.mse_loss).run([(torch.ones(1, 4, 1), torch.ones(1, 4, 1))] * 20)
    assert history["renewed"].flatten().nonzero().flatten().tolist() == [7, 15]  # counted from 0


def test_every_descent_takes_a_stack_of_modules():
    stack = StackedModule([made("mlp", 0)])
    for kind in OPTIMIZERS.values():
        config = {"decay": 0.0, "noise_variance": 0.0} | STEPS["sgdw"] | STEPS["adamw"]
        descent = kind(stack, [config], [0])
        stack.scale = descent.scale()
        x, y = stream("mlp", 0, 1)
        before = stack.parameters["1.weight"].clone()
        descent.step(stack.losses_and_gradients(x, y, F.cross_entropy).gradients)
        assert not torch.equal(stack.parameters["1.weight"], before)


# What is refused.


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


def lab_of(system="base", config=None, net=normed_mlp, **options):
    members = [Member(system, {"step_size": 0.1} if config is None else config, 0)]
    return Lab(StackedModule([net()], **options.pop("stack", {})), members, F.cross_entropy, **options)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: StackedModule([]), "`modules` must be at least one nn.Module"),
        (lambda: StackedModule([nn.Linear(4, 2), nn.Linear(3, 2)]), r"one structure; member 1 differs from member 0"),
        (lambda: StackedModule([vit(0.1), vit(0.2)]), r"in '.*dropout.*': Dropout\(p=0.2.*build all"),
        (lambda: StackedModule([nn.DataParallel(nn.Linear(4, 2))]), "must not be wrapped"),
        (lambda: StackedModule([nn.ReLU()]), "must have parameters to train; got ReLU"),
        (lambda: lab_of("sqr"), r"`members\[0\].system` must be one of 'base', .*'swr', .*; got 'sqr'"),
        (lambda: lab_of(config={}), "must hold step_size; got none of step_size"),
        (lambda: lab_of(config={"step_size": -1.0}), r"`members\[0\].config\['step_size'\]` must be finite and at"),
        (lambda: lab_of("swr", {"step_size": 0.1, "every": 0, "factor": 1.0}), r"\['every'\]` must be at least 1"),
        (lambda: lab_of("swr", {"step_size": 0.1, "every": 2}), "must hold step_size, every, factor; got none of fac"),
        (lambda: lab_of("base", {"step_size": 0.1, "evry": 2}), "of 'base' must hold some of .*; got 'evry': leave"),
        (
            lambda: lab_of("redo", {"step_size": 0.1, "every": 2, "threshold": 1, "utility": "x"}),
            "one of 'contribution', 'contribution-by-position'",
        ),
        (lambda: lab_of(optimizer="adam"), "`optimizer` must be one of 'sgd', 'sgdw', 'adamw'; got 'adam'"),
        (lambda: Lab(StackedModule([nn.Linear(4, 2)]), [], F.mse_loss), "each of the 1 networks; got 0"),
        (
            lambda: lab_of("swr", {"step_size": 0.1, "every": 2, "factor": 5.0, "prune": "proportional"}),
            r"`members\[0\].config\['factor'\]` must be in \[0, 1\] \(share of the entries\); got 5.0",
        ),
        (
            lambda: lab_of("redo", {"step_size": 0.1, "every": 2, "threshold": 1}, lambda: nn.Linear(4, 2)),
            "no units found in Linear",
        ),
        (lambda: lab_of().update(torch.zeros(3, 8, 64), torch.zeros(3, 8).long()), r"`x` must be the 1 members; got"),
        (
            lambda: lab_of(net=lambda: Noisy(3, 2)).update(torch.zeros(1, 8, 3), torch.zeros(1, 8).long()),
            "must be nn.Dropout or",
        ),
        (
            lambda: StackedModule([vit(0.1)]).losses_and_gradients(
                torch.zeros(1, 2, 3, 8, 8), torch.zeros(1, 2).long(), F.cross_entropy
            ),
            r"`keys` must be given.*; got None and a dropout of 0.1",
        ),
        (lambda: StackedModule([normed_mlp()]).descend(), "set stack.scale = descent.scale"),
        (lambda: StackedModule([normed_mlp()]).activity(0, [0]), r"watch=True"),
    ],
)
def test_bad_input_is_refused(wrong, text):
    with pytest.raises(ValueError, match=text) as error:
        wrong()
    assert "\n" not in str(error.value)


# The example.


def test_the_example_is_short_and_shows_that_stacked_equals_single(capsys):
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) < 60
    short = source.replace("TASKS, STEP_SIZE = 8,", "TASKS, STEP_SIZE = 2,")
    assert short != source
    exec(compile(short, str(EXAMPLE), "exec"), {"__name__": "example"})
    *accuracies, last = capsys.readouterr().out.splitlines()
    assert len(accuracies) == 6 and float(last.split()[-1]) < 1e-9, last
