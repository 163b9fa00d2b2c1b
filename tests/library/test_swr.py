"""SWR against a slow loop twin written from the paper, and its claims measured."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import backward, mlp, same, train, weights
from scipy import stats
from torch import nn

import regrow
from regrow.core import random


class LoopSWR:
    """Section 2 of the paper, entry by entry, in Python numbers. Slow and plain.

    It shares with the library the random numbers of an entry, which are a function of what they are for, and nothing
    else: utilities, means, ranks, ties and the count of pruned entries are worked out here.
    """

    def __init__(self, model, every, factor, utility, prune, reinit, seed):
        self.model, self.every, self.factor, self.seed = model, every, factor, seed
        self.utility, self.prune, self.reinit = utility, prune, reinit
        self.laws = regrow.init_laws(model)
        self.step_count = 0

    def step(self):
        self.step_count += 1
        if self.step_count % self.every:
            return {}
        return {name: self.renew(name, w) for name, w in self.model.named_parameters()}

    def words(self, name, purpose, n):
        key = random.key(self.seed, "swr", 0, self.step_count, name, purpose)
        return random.bits(key, torch.arange(n))

    def renew(self, name, w):
        flat, n = w.detach().reshape(-1).tolist(), w.numel()
        if self.utility == "gradient":
            # float32 products, as the library's
            u = [abs(float(torch.tensor(a) * torch.tensor(b))) for a, b in zip(flat, w.grad.reshape(-1).tolist())]
        elif self.utility == "magnitude":
            u = [abs(a) for a in flat]
        else:
            u = random.uniform(self.words(name, "utility", n)).tolist()
        if self.prune == "threshold":
            mean = sum(u) / n
            pruned = {i for i in range(n) if u[i] <= self.factor * mean}
        else:
            chance = float(random.uniform(self.words(name, "count", 1))[0])
            k = math.floor(self.factor * n + 1e-6)
            k += chance < self.factor * n - k
            tie = random.order(self.words(name, "order", n)).tolist()
            pruned = set(sorted(range(n), key=lambda i: (u[i], tie[i]))[:k])
        law = self.laws[name]
        new = law.draw(self.words(name, "value", n)).tolist()
        with torch.no_grad():
            for i in pruned:
                flat[i] = law.mean if self.reinit == "mean" else new[i]
            w.copy_(torch.tensor(flat).view(w.shape))
        return pruned


@pytest.mark.parametrize("reinit", ["resample", "mean"])
@pytest.mark.parametrize("prune, factor", [("threshold", 0.05), ("threshold", 1.0), ("proportional", 0.13)])
@pytest.mark.parametrize("utility", ["gradient", "magnitude", "random"])
def test_equals_the_loop_twin_at_every_step(utility, prune, factor, reinit):
    kind = {"every": 2, "factor": factor, "utility": utility, "prune": prune, "reinit": reinit, "seed": 5}
    model, slow_model = mlp(), mlp()
    opt, slow_opt = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, slow_model))
    swr, slow = regrow.SWR(model, **kind), LoopSWR(slow_model, **kind)
    total = 0
    for step in range(20):
        backward(model, step)
        opt.step()
        swr.step()
        backward(slow_model, step)
        slow_opt.step()
        total += sum(map(len, slow.step().values()))
        assert same(weights(model), weights(slow_model)), step
    assert swr.report()["renewed_total"] == total > 0


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    utility=st.sampled_from(["gradient", "magnitude", "random"]),
    prune=st.sampled_from(["threshold", "proportional"]),
    factor=st.sampled_from([1e-5, 0.01, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 2**63),
)
def test_equals_the_loop_twin_over_random_nets(sizes, utility, prune, factor, seed):
    def build():
        torch.manual_seed(seed % 2**31)
        layers = [part for a, b in zip(sizes, sizes[1:]) for part in (nn.Linear(a, b), nn.ReLU())]
        net = nn.Sequential(*layers)
        net(torch.randn(5, sizes[0])).square().sum().backward()
        return net

    kind = {"every": 1, "factor": factor, "utility": utility, "prune": prune, "reinit": "resample", "seed": seed}
    model, slow_model = build(), build()
    swr, slow = regrow.SWR(model, **kind), LoopSWR(slow_model, **kind)
    if utility == "gradient" and not any(w.grad.any() for w in model.parameters()):
        return
    swr.step()
    slow.step()
    assert same(weights(model), weights(slow_model))


def with_gradients(model, step=0):
    generator = torch.Generator().manual_seed(step)
    for w in model.parameters():
        w.grad = torch.randn(w.shape, generator=generator)
    return model


def test_mean_share_renewed_under_proportional_is_the_factor():
    """The Bernoulli part makes the expected share exact even where factor * n is far below 1."""
    torch.manual_seed(0)
    model = with_gradients(nn.Linear(20, 5))  # 100 and 5 entries
    swr = regrow.SWR(model, every=1, factor=0.03, prune="proportional", seed=0)
    counts = {"weight": [], "bias": []}
    for _ in range(1000):
        masks = swr.preview()
        for name, mask in masks.items():
            counts[name].append(int(mask.sum()))
        swr.step()
    assert set(counts["weight"]) == {3}
    assert set(counts["bias"]) == {0, 1}  # 0.15 entries in the mean
    assert stats.binomtest(sum(counts["bias"]), 1000, 0.15).pvalue > 1e-3


def test_ties_are_broken_uniformly():
    """All gradients zero but the selection proportional: every entry is chosen equally often."""
    torch.manual_seed(0)
    model = nn.Linear(10, 4)
    swr = regrow.SWR(model, every=1, factor=0.25, prune="proportional", seed=3, only="weight")
    hits = torch.zeros(4, 10)
    model.weight.grad, model.bias.grad = torch.ones_like(model.weight), torch.ones_like(model.bias)
    for _ in range(1000):
        swr.step()
        model.weight.grad.zero_()
        hits += swr.preview()["weight"]
    assert hits.sum() == 10_000
    # Draws without replacement: the variance of a count is 1000 * p (1 - p), and the counts have 39 degrees of freedom.
    statistic = float(((hits - 250) ** 2).sum()) / (1000 * 0.25 * 0.75) * 39 / 40
    assert 1e-3 < stats.chi2.sf(statistic, 39) < 1 - 1e-3


@pytest.mark.parametrize(
    "init, cdf",
    [
        (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), stats.norm(0, math.sqrt(2 / 200)).cdf),
        (lambda w: nn.init.xavier_uniform_(w), stats.uniform(-math.sqrt(6 / 400), 2 * math.sqrt(6 / 400)).cdf),
    ],
)
def test_renewed_values_follow_the_law_of_initialization(init, cdf):
    torch.manual_seed(0)
    model = nn.Linear(200, 200)
    init(model.weight)
    swr = regrow.SWR(model, every=1, factor=1.0, utility="random", seed=0)
    with torch.no_grad():
        model.weight.fill_(100.0)
    with pytest.warns(UserWarning, match="laws read off the values"):
        mask = swr.preview()["weight"]
    swr.step()
    renewed = model.weight.detach()[mask]
    assert 0.45 < mask.float().mean() < 0.55
    assert (model.weight.detach()[~mask] == 100).all()
    assert stats.kstest(renewed.double().numpy(), cdf).pvalue > 1e-3


def test_draws_of_steps_tensors_and_seeds_are_unrelated():
    def draws(seed, name, step):
        model = nn.ModuleDict({name: nn.Linear(300, 300, bias=False)})
        swr = regrow.SWR(with_gradients(model), every=1, factor=1e9, seed=seed)
        for _ in range(step):
            swr.step()
        return model[name].weight.detach().reshape(-1).double()

    base = draws(0, "a", 1)
    for other in (draws(1, "a", 1), draws(0, "b", 1), draws(0, "a", 2)):
        correlation = float(torch.corrcoef(torch.stack([base, other]))[0, 1])
        assert abs(correlation) < 4 / math.sqrt(90_000)


def test_threshold_with_gradient_utility_renews_every_zero_gradient():
    """Inputs that are always zero have weights of zero gradient: with a tiny factor they are all that goes."""
    model = mlp()
    backward(model, 0)
    swr = regrow.SWR(model, every=1, factor=1e-7, seed=0)
    masks = swr.preview()
    for name, w in model.named_parameters():
        assert torch.equal(masks[name], (w.grad * w) == 0) or masks[name].sum() > (w.grad * w == 0).sum()
        assert masks[name][w.grad == 0].all()
    swr.step()
    assert swr.report()["zero_share_last"] > 0.9


def test_first_firing_is_at_step_every():
    model = with_gradients(nn.Linear(3, 3))
    swr = regrow.SWR(model, every=5, factor=1e9)
    fired = []
    for _ in range(16):
        swr.step()
        fired.append(swr.report()["renewals"])
    assert fired == [0] * 4 + [1] * 5 + [2] * 5 + [3] * 2


def test_a_nan_renews_nothing_in_its_tensor_and_is_reported():
    for prune in ("threshold", "proportional"):
        model = with_gradients(mlp())
        model[0].weight.grad[0, 0] = math.nan
        swr = regrow.SWR(model, every=1, factor=0.9, prune=prune, seed=0)
        before = weights(model)
        swr.step()
        assert torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[3].weight, before["3.weight"])
        assert swr.report()["skipped_nan"] == 1


def test_a_parameter_without_gradient_is_skipped_and_counted():
    model = with_gradients(mlp())
    model[0].weight.grad = None
    swr = regrow.SWR(model, every=1, factor=1e9, seed=0)
    before = weights(model)
    swr.step()
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[3].weight, before["3.weight"])
    assert swr.report()["skipped_no_grad"] == 1


class TestEmbedding:
    """Rows that an update did not use have zero gradient, which says nothing of their use."""

    @staticmethod
    def model(**options):
        torch.manual_seed(0)
        net = nn.Embedding(50, 8, **options)
        net(torch.tensor([3, 4, 4, 7])).square().sum().backward()
        dense = net.weight.grad.to_dense() if net.weight.grad.is_sparse else net.weight.grad
        dense[3, 0] = 0  # a zero in a row that was used
        net.weight.grad = dense.to_sparse(1) if net.weight.grad.is_sparse else dense
        return net

    @pytest.mark.parametrize("sparse", [False, True])
    def test_absent_rows_are_kept_by_default(self, sparse):
        net = self.model(sparse=sparse)
        swr = regrow.SWR(net, every=1, factor=1e-6)
        assert swr.preview()["weight"].nonzero().tolist() == [[3, 0]]
        swr.step()
        assert swr.report()["renewed_last"] == 1

    def test_threshold_counts_the_present_rows_only(self):
        net = self.model()
        rows = (net.weight.detach() * net.weight.grad).abs()[[3, 4, 7]]
        mask = regrow.SWR(net, every=1, factor=0.5).preview()["weight"][[3, 4, 7]]
        assert torch.equal(mask, rows <= 0.5 * rows.mean())

    def test_proportional_takes_its_share_of_the_present_rows(self):
        net = self.model()
        mask = regrow.SWR(net, every=1, factor=0.5, prune="proportional").preview()["weight"]
        rows = (net.weight.detach() * net.weight.grad).abs()[[3, 4, 7]]
        assert mask.sum() == 12
        assert torch.equal(mask[[3, 4, 7]], rows <= rows.flatten().sort().values[11])

    def test_the_literal_algorithm_renews_them(self):
        net = self.model()
        mask = regrow.SWR(net, every=1, factor=1e-6, absent_rows="renew").preview()["weight"]
        assert mask.sum() == 47 * 8 + 1

    @pytest.mark.parametrize("absent_rows", ["keep", "renew"])
    @pytest.mark.parametrize("utility", ["gradient", "magnitude", "random"])
    def test_a_padding_row_stays_zero(self, utility, absent_rows):
        net = self.model(padding_idx=4)
        swr = regrow.SWR(net, every=1, factor=1e9, utility=utility, absent_rows=absent_rows)
        swr.step()
        assert (net.weight[4] == 0).all() and swr.report()["renewed_last"] > 0

    def test_other_layers_do_not_keep_zero_rows(self):
        layer = with_gradients(nn.Linear(8, 50))
        layer.weight.grad[10:] = 0
        assert regrow.SWR(layer, every=1, factor=1e-6).preview()["weight"][10:].all()


def test_track_overlap_compares_with_the_renewal_before():
    torch.manual_seed(0)
    model = nn.Linear(50, 21)
    swr = regrow.SWR(model, every=1, factor=1e-9, seed=0, track_overlap=True)
    masks = []
    for step in range(3):
        with_gradients(model, step)
        model.weight.grad[torch.rand(21, 50) < 0.4] = 0
        masks.append({name: mask.clone() for name, mask in swr.preview().items()})
        swr.step()
        report = swr.report()
        if step == 0:
            assert report["overlap_last"] == 0
        else:
            both = sum(int((masks[-1][k] & masks[-2][k]).sum()) for k in masks[-1])
            assert report["overlap_last"] == pytest.approx(both / sum(int(m.sum()) for m in masks[-1].values()))
            assert 0.2 < report["overlap_last"] < 0.6
    flags = swr.state_dict()["tally"]["bits"]
    assert all(flags[name].bool().equal(mask) for name, mask in masks[-1].items())


def test_no_state_per_weight_without_track_overlap():
    model = with_gradients(nn.Linear(100, 100))
    swr = regrow.SWR(model, every=1, factor=0.5)
    swr.step()

    def entries(value):
        if isinstance(value, torch.Tensor):
            return value.numel()
        return sum(map(entries, value.values())) if isinstance(value, dict) else 0

    assert entries(swr.state_dict()) < 50


def test_a_layer_that_is_replaced_is_maintained_from_then_on():
    """A classifier head that grows is a new parameter under the old name."""
    model = mlp()
    swr = regrow.SWR(model, every=1, factor=1e9, seed=0)
    torch.manual_seed(1)
    model[5] = nn.Linear(12, 30)
    with_gradients(model)
    before = model[5].weight.detach().clone()
    swr.step()
    assert (model[5].weight != before).float().mean() > 0.99
    assert model[5].weight.abs().max() <= 1 / math.sqrt(12)


def test_frozen_without_a_law_raises_only_when_it_unfreezes():
    torch.manual_seed(0)
    model = nn.ParameterDict({"a": nn.Parameter(torch.randn(40, 40)), "b": nn.Parameter(torch.rand(40, 40) ** 8)})
    model["b"].requires_grad_(False)
    swr = regrow.SWR(model, every=1, factor=1e9)
    for w in model.values():
        w.grad = torch.ones_like(w)
    with pytest.warns(UserWarning, match="laws read off the values"):
        swr.step()
    model["b"].requires_grad_(True)
    before = model["a"].detach().clone()
    with pytest.raises(ValueError, match="'b' was frozen when the laws were taken and has none: give it one"):
        swr.step()
    assert torch.equal(model["a"], before), "nothing is half done"
    with pytest.warns(UserWarning, match="laws read off the values"):
        regrow.SWR(model, every=1, factor=1.0, laws={"b": regrow.laws.Uniform(0.0, 1.0)}).step()


def test_given_laws_win():
    model = with_gradients(mlp())
    swr = regrow.SWR(model, every=1, factor=1e9, laws={"*.weight": regrow.laws.Constant(7.0)})
    swr.step()
    assert (model[0].weight == 7).all() and (model[2].weight == 7).all() and not (model[0].bias == 7).any()


def test_under_deterministic_algorithms():
    model = mlp()
    torch.use_deterministic_algorithms(True)
    try:
        swr = regrow.SWR(model, every=1, factor=0.5, prune="proportional", seed=0)
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), range(2), swr.step)
    finally:
        torch.use_deterministic_algorithms(False)
    assert swr.report()["renewals"] == 2


def test_a_model_converted_afterwards_is_refused():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    swr = regrow.SWR(model, every=1, factor=1e9)
    regrow.reparametrize_layer_norms(model)
    with_gradients(model)
    with pytest.raises(ValueError, match="'1.weight' was a LayerNorm when its law was taken and is a Reparam"):
        swr.step()
