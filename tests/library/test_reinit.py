"""`reinitialize` draws from the laws, changes what is named, by the share given, and nothing else."""

import copy

import pytest
import torch
from models import mlp, same, trained, weights
from scipy import stats
from torch import Tensor, nn

import regrow
from regrow import laws, reinitialize


class Tied(nn.Module):
    """An embedding with a padding row whose weight is the head's too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(50, 8, padding_idx=3), nn.Linear(8, 8), nn.Linear(8, 50)
        self.head.weight = self.embed.weight

    def forward(self, i: Tensor) -> Tensor:
        return self.head(self.body(self.embed(i)).relu())


# Draws.


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_draws_have_the_law_of_their_parameter(share: float) -> None:
    net = trained(nn.Sequential(nn.Linear(100, 300), nn.ReLU(), nn.LayerNorm(300), nn.Linear(300, 50)))
    before = weights(net)
    reinitialize(net, share=share, seed=1)
    after = weights(net)
    for name in ("0.weight", "0.bias", "3.weight", "3.bias"):
        fresh = (after[name].double() - (1 - share) * before[name].double()) / share
        bound = (100 if name[0] == "0" else 300) ** -0.5
        assert fresh.abs().max() <= bound * 1.001 + 1e-5
        assert stats.kstest(fresh.flatten().numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3, name
    for name, constant in (("2.weight", 1.0), ("2.bias", 0.0)):
        assert torch.allclose(after[name], (1 - share) * before[name] + share * constant)
    if share == 1:
        assert torch.equal(after["2.weight"], torch.ones(300)) and not after["2.bias"].any()
        assert (
            torch.corrcoef(torch.stack([after["0.weight"].flatten(), before["0.weight"].flatten()]))[0, 1].abs() < 0.03
        )


@pytest.mark.parametrize(
    "law, cdf",
    [
        (laws.Normal(0.5, 0.1), stats.norm(0.5, 0.1).cdf),
        (laws.TruncatedNormal(0, 0.02, -0.04, 0.04), stats.truncnorm(-2, 2, scale=0.02).cdf),
        (laws.Uniform(-2, 1), stats.uniform(-2, 3).cdf),
    ],
)
def test_given_laws(law: laws.Law, cdf: object) -> None:
    net = trained(nn.Linear(200, 100))
    reinitialize(net, laws={"weight": law}, seed=2)
    assert stats.kstest(net.weight.detach().flatten().numpy(), cdf).pvalue > 1e-3
    assert net.bias.abs().max() <= 200**-0.5  # not given: its module's


def test_laws_of_the_fresh_model_by_mapping_or_by_module() -> None:
    def make() -> nn.Module:
        net = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 60))
        for layer in (net[0], net[2]):
            nn.init.normal_(layer.weight, std=0.5), nn.init.constant_(layer.bias, 0.125)
        return net

    net = make()
    with pytest.warns(UserWarning, match="read off the values"):
        given = regrow.init_laws(net)
    trained(net)
    twin = copy.deepcopy(net)
    reinitialize(net, laws=given, seed=0)
    with pytest.warns(UserWarning, match="read off the values"):
        reinitialize(twin, laws=make(), seed=0)
    for one in (net, twin):
        assert stats.kstest(one[0].weight.detach().flatten().numpy(), stats.norm(0, 0.5).cdf).pvalue > 1e-3
        assert (one[2].bias == 0.125).all()


@pytest.mark.parametrize("shape", [(40, 40), (30, 70), (70, 30)])
def test_orthogonal_matrices_are_orthogonal_and_distributed_as_torchs(shape: tuple[int, int]) -> None:
    net = nn.Linear(shape[1], shape[0])
    reinitialize(net, laws={"weight": laws.Orthogonal(1.5)}, seed=3)
    w = net.weight.detach()
    gram = w @ w.T if shape[0] <= shape[1] else w.T @ w
    assert torch.allclose(gram, 2.25 * torch.eye(len(gram)), atol=1e-5)
    reference = torch.cat([nn.init.orthogonal_(torch.empty(shape), 1.5).flatten() for _ in range(20)])
    assert stats.ks_2samp(w.flatten().numpy(), reference.numpy()).pvalue > 1e-3


def test_same_seed_same_draw_and_torchs_generator_is_untouched() -> None:
    nets = [trained(mlp(i)) for i in range(2)]
    state = torch.get_rng_state()
    for net in nets:
        reinitialize(net, seed=7)
    assert same(weights(nets[0]), weights(nets[1])) and torch.equal(state, torch.get_rng_state())
    reinitialize(nets[1], seed=8)
    assert not torch.equal(nets[0][0].weight, nets[1][0].weight)
    alike = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    reinitialize(alike, seed=0)
    assert not torch.equal(alike[0].weight, alike[1].weight)  # the name is in the key


def test_without_a_seed_every_call_draws_anew_and_the_same_run_the_same() -> None:
    def run() -> list[dict[str, Tensor]]:
        torch.manual_seed(4)
        net, found = mlp(4), []
        for _ in range(3):
            reinitialize(net)
            found.append(weights(net))
        return found

    first, again = run(), run()
    assert all(same(a, b) for a, b in zip(first, again))
    assert not torch.equal(first[0]["0.weight"], first[1]["0.weight"])
    assert not torch.equal(first[1]["0.weight"], first[2]["0.weight"])


# What changes, and by how much.


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("only", [None, "5", ["3", "5.bias"], "*.weight"])
def test_only_what_is_named_changes(share: float, only: object) -> None:
    net = trained(mlp())
    before = weights(net)
    reinitialize(net, only, share=share, seed=0)  # type: ignore[arg-type]
    named = {None: ("",), "5": ("5.",), "*.weight": ("",)}.get(only if isinstance(only, str) else None, ("",))
    if isinstance(only, list):
        named = ("3.", "5.bias")
    for name, w in net.named_parameters():
        hit = name.startswith(tuple(named)) and (only != "*.weight" or name.endswith("weight"))
        assert torch.equal(w, before[name]) == (share == 0 or not hit), name


def test_the_share_is_that_of_the_draw() -> None:
    net = trained(mlp())
    whole, half = copy.deepcopy(net), copy.deepcopy(net)
    reinitialize(whole, seed=5), reinitialize(half, seed=5, share=0.5)
    for (name, w), a, b in zip(net.named_parameters(), whole.parameters(), half.parameters(), strict=True):
        assert torch.allclose(b, 0.5 * w + 0.5 * a), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions(dtype: torch.dtype) -> None:
    net = trained(mlp()).to(dtype)
    whole, half = copy.deepcopy(net), copy.deepcopy(net)
    single = copy.deepcopy(net).float()
    reinitialize(whole, seed=5), reinitialize(half, seed=5, share=0.5), reinitialize(single, seed=5)
    for w, a, b, s in zip(*(n.parameters() for n in (net, whole, half, single)), strict=True):
        assert a.dtype == dtype and torch.equal(a, s.to(dtype))
        assert torch.equal(b, (0.5 * w.to(torch.promote_types(dtype, torch.float32)) + 0.5 * s).to(dtype))


def test_values_that_are_not_finite_are_gone() -> None:
    net = mlp()
    nn.init.constant_(net[0].weight, float("nan"))
    reinitialize(net, seed=0)
    assert all(p.isfinite().all() for p in net.parameters())


def test_tied_once_padding_stays_zero_frozen_stay() -> None:
    net = Tied()
    net.body.bias.requires_grad_(False)
    before = weights(net)
    reinitialize(net, "head", seed=0)  # a tied parameter has all of its names
    assert net.head.weight is net.embed.weight and not net.embed.weight[3].any()
    rest = net.embed.weight[[0, 1, 2, *range(4, 50)]].detach()
    assert stats.kstest(rest.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3
    assert torch.equal(net.body.weight, before["body.weight"])
    reinitialize(net, seed=0)
    assert torch.equal(net.body.bias, before["body.bias"])
    assert not torch.equal(net.body.weight, before["body.weight"])


def test_a_constant_law_leaves_padding_zero() -> None:
    net = nn.Embedding(5, 3, padding_idx=1)
    reinitialize(net, laws={"weight": laws.Constant(2.0)})
    assert net.weight[:, 0].tolist() == [2, 0, 2, 2, 2]


def test_not_contiguous() -> None:
    net = nn.Linear(6, 4)
    net.weight = nn.Parameter(torch.randn(6, 4).T)
    twin = nn.Linear(6, 4)
    reinitialize(net, seed=0), reinitialize(twin, seed=0)
    assert torch.equal(net.weight, twin.weight) and not net.weight.is_contiguous()


def convnet(affine: bool = True) -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    for _ in range(3):
        net(torch.randn(8, 1, 6, 6) + 1)
    return net


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("only, covered", [(None, True), ("1", True), ("4", False), (["0", "1"], True)])
def test_running_statistics_go_with_their_norm(affine: bool, only: object, covered: bool) -> None:
    net = convnet(affine)
    mean, var = net[1].running_mean.clone(), net[1].running_var.clone()
    reinitialize(net, only, share=0.25, seed=0)  # type: ignore[arg-type]
    by = 0.25 * covered
    assert torch.allclose(net[1].running_mean, (1 - by) * mean)
    assert torch.allclose(net[1].running_var, (1 - by) * var + by)
    assert net[1].num_batches_tracked == 3
    reinitialize(net, only, seed=0)  # type: ignore[arg-type]
    assert (not net[1].running_mean.any() and (net[1].running_var == 1).all()) == covered
    assert net[1].num_batches_tracked == (0 if covered else 3)


def test_statistics_of_a_norm_that_is_frozen_or_half_covered_stay() -> None:
    for freeze, only in ((True, None), (False, "*.weight")):
        net = convnet()
        net[1].requires_grad_(not freeze)
        mean = net[1].running_mean.clone()
        reinitialize(net, only, seed=0)
        assert torch.equal(net[1].running_mean, mean)


def test_wrapped_and_compiled_models_have_the_draws_of_the_plain_one() -> None:
    plain = trained(mlp())
    compiled = torch.compile(copy.deepcopy(plain))
    wrapped = nn.DataParallel(copy.deepcopy(plain))
    for net in (plain, compiled, wrapped):
        reinitialize(net, ["3", "5"], seed=0)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), compiled.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), wrapped.parameters()))
