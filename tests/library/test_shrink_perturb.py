"""Shrink and perturb against its formula, and the distribution of its noise."""

import warnings

import pytest
import torch
from models import backward, mlp, same, train, weights, with_gradients
from scipy import stats
from torch import nn

import regrow
from regrow.core import random
from regrow.core.noise import Normals
from regrow.lab.noise import ShrinkAndPerturb


def test_attached_shrink_is_the_papers_l2():
    """w <- (1 - lambda) w - alpha g, g taken before the shrink: compared with the formula at every step."""
    model, twin = mlp(), mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    regrow.ShrinkPerturb(model, shrink=0.01).attach(opt)
    for step in range(10):
        train(model, opt, range(step, step + 1))
        backward(twin, step)
        with torch.no_grad():
            for w in twin.parameters():
                w.copy_((1 - 0.01) * w - 0.1 * w.grad)
        assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(weights(model).values(), weights(twin).values()))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_attached_shrink_equals_sgdw_with_constant_decay(momentum):
    model, twin = mlp(), mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
    regrow.ShrinkPerturb(model, shrink=1e-3).attach(opt)
    train(model, opt, range(20))
    train(twin, regrow.SGDW(twin.parameters(), 0.1, momentum, 1e-3, decay="constant"), range(20))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(model).values(), weights(twin).values()))


def test_stepped_by_hand_the_shrink_comes_after_the_step():
    model = nn.Linear(3, 2)
    before = weights(model)
    regrow.ShrinkPerturb(with_gradients(model), shrink=0.25).step()
    assert all(torch.equal(w, 0.75 * before[name]) for name, w in model.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_normal_of_the_given_variance(dtype):
    model = nn.Linear(300, 300).to(dtype)
    with torch.no_grad():
        for w in model.parameters():
            w.zero_()
    maintainer = regrow.ShrinkPerturb(with_gradients(model), noise_variance=1e-4, seed=0)
    maintainer.step()
    first = model.weight.detach().clone()
    assert stats.kstest(first.flatten().numpy(), stats.norm(0, 0.01).cdf).pvalue > 1e-3
    maintainer.step()
    second = model.weight.detach() - first
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 4 / 300
    assert model.bias.abs().min() > 0, "every parameter gets it"


def test_noise_depends_on_seed_and_step_alone():
    """Not on torch's generator, nor on what was drawn before: any step can be drawn on its own."""
    runs = []
    for warm_up in (0, 5):
        torch.manual_seed(warm_up)
        model = nn.Linear(4, 4)
        with torch.no_grad():
            model.weight.zero_(), model.bias.zero_()
        maintainer = regrow.ShrinkPerturb(with_gradients(model), noise_variance=1.0, seed=3)
        state = maintainer.state_dict() | {"step": 7, "attempts": 7}
        maintainer.load_state_dict(state)
        torch.randn(warm_up)
        maintainer.step()
        runs.append(weights(model))
    assert same(*runs)


def test_another_default_device_changes_nothing():
    """The noise lies where the weights do."""
    model, twin = with_gradients(mlp()), with_gradients(mlp())
    regrow.ShrinkPerturb(twin, noise_variance=1e-4, seed=0).step()
    maintainer = regrow.ShrinkPerturb(model, noise_variance=1e-4, seed=0)
    with torch.device("meta"):
        maintainer.step()
    assert same(weights(model), weights(twin))


def test_both_together():
    model, quiet = with_gradients(mlp()), with_gradients(mlp())
    maintainer = regrow.ShrinkPerturb(model, shrink=0.1, noise_variance=1e-6, seed=0)
    maintainer.step()
    regrow.ShrinkPerturb(quiet, shrink=0.1).step()
    noise = torch.cat([(weights(model)[k] - w).flatten() for k, w in weights(quiet).items()])
    assert 0.8e-3 < noise.std() < 1.2e-3 and (noise != 0).all()


def test_values_of_gradients_are_not_needed():
    model = nn.Linear(2, 2)
    before = weights(model)
    regrow.ShrinkPerturb(with_gradients(model), shrink=0.5, noise_variance=0.1).step()
    assert not same(before, weights(model))


@pytest.mark.parametrize("dtype, shrink", [(torch.bfloat16, 5e-3), (torch.float16, 6e-4)])
def test_half_precision_weights_shrink_by_the_given_share(dtype, shrink):
    """The factor itself must not be rounded to their type, in which 0.995 is 0.996."""
    model = nn.Linear(200, 200).to(dtype)
    with torch.no_grad():
        model.weight.uniform_(1, 2)
    before = model.weight.detach().double()
    regrow.ShrinkPerturb(with_gradients(model), shrink=shrink).step()
    assert torch.equal(model.weight.double(), ((1 - shrink) * before).to(dtype).double())


def drawn(key, count=1 << 19, dtype=torch.float32):
    normals = Normals()
    normals.seed(key)
    return normals.fill(torch.empty(count, dtype=dtype))


def test_normals_are_standard_normal():
    """In the body, in the tail, and of neighbours; values as coarse as 16 bits make them are finer than n can tell."""
    z = drawn(1).double().numpy()
    n = len(z)
    assert stats.kstest(z, stats.norm.cdf).pvalue > 1e-3
    assert abs(z.mean()) < 4 / n**0.5 and abs(z.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5
    beyond = stats.binomtest(int((abs(z) > 3.5).sum()), n, 2 * stats.norm.sf(3.5))
    assert beyond.pvalue > 1e-3
    assert abs((z[1:] * z[:-1]).mean()) < 4 / n**0.5
    assert torch.equal(drawn(1, 8, torch.float64).float(), drawn(1, 8))


def test_streams_of_normals_are_of_their_keys_alone():
    keys = [random.key(0, "shrink-perturb", 0, step) for step in range(20)] + [0, 1, -1]
    streams = torch.stack([drawn(key, 1 << 16) for key in keys])
    assert torch.equal(streams[3], drawn(keys[3], 1 << 16))
    far = torch.corrcoef(streams).fill_diagonal_(0).abs().max()
    assert far < 5 / 2**8
    heads = torch.stack([drawn(random.key(step), 1) for step in range(20_000)]).flatten()  # first numbers, over keys
    assert stats.kstest(heads.numpy(), stats.norm.cdf).pvalue > 1e-3


def test_members_of_a_stack_share_the_noise_of_their_seed():
    """Drawn once for all members of a seed: each is what it is alone, bit for bit."""
    variances, seeds = [1e-4, 0.0, 1e-2, 1e-4], [0, 0, 0, 1]

    def perturbed(members):
        stack = {"a": torch.ones(len(members), 5, 3), "b": torch.ones(len(members), 7)}
        of = ([given[i] for i in members] for given in ([0.1] * 4, variances, seeds))
        own = ShrinkAndPerturb(stack, *of)
        own(1), own(2)
        return stack

    together = perturbed(range(4))
    for i in range(4):
        alone = perturbed([i])
        assert all(torch.equal(together[name][i], w[0]) for name, w in alone.items())
    first, other = ((together["b"][i] - together["b"][1]) / variances[i] ** 0.5 for i in (0, 2))
    assert torch.allclose(first, other, atol=1e-4) and not torch.allclose(together["b"][0], together["b"][3], atol=1e-4)


@pytest.mark.parametrize(("dtype", "lost", "held"), [(torch.bfloat16, 1e-3, 0.01), (torch.float16, 1e-4, 1e-3)])
def test_a_factor_that_half_precision_undoes_is_warned_of(dtype: torch.dtype, lost: float, held: float) -> None:
    model = nn.Linear(64, 64).to(dtype)
    with pytest.warns(UserWarning, match=f"`shrink`={lost:g} is below the precision of 'weight'"):
        regrow.ShrinkPerturb(model, shrink=lost)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regrow.ShrinkPerturb(model, shrink=held)
        regrow.ShrinkPerturb(nn.Linear(2, 2), shrink=1e-5)
    w = model.weight.detach()
    assert torch.equal(w * (1 - lost / 4), w) and not torch.equal(w * (1 - held), w)
