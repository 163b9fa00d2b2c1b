"""Claim: without a seed, the same seeded code draws the same, and twin networks draw different numbers."""

import pytest
import torch
from models import mlp, same, train, weights, with_gradients
from torch import nn

import regrow
from regrow.names import walk


def run(seed: int | None = None, begin: int = 0) -> tuple[dict[str, torch.Tensor], regrow.Maintainer]:
    torch.manual_seed(begin)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    maintainer = regrow.SWR(model, every=1, factor=0.3, seed=seed).attach(opt)
    train(model, opt, range(3))
    return weights(model), maintainer


def test_the_same_seeded_code_draws_the_same() -> None:
    one, two = run(), run()
    assert same(one[0], two[0]) and one[1].state_dict()["seed"] == two[1].state_dict()["seed"]
    assert not same(one[0], run(begin=1)[0])


def noise(model: nn.Module, **more) -> dict[str, torch.Tensor]:
    before = weights(model)
    regrow.ShrinkPerturb(with_gradients(model), noise_variance=1.0, **more).step()
    return {name: w - before[name] for name, w in weights(model).items()}


def test_twin_critics_draw_different_numbers_without_a_seed_only() -> None:
    torch.manual_seed(0)
    twins = [nn.Linear(6, 5) for _ in range(2)]
    one, two = (noise(twin) for twin in twins)
    assert not torch.allclose(one["weight"], two["weight"], atol=0.1)
    one, two = (noise(twin, seed=3) for twin in twins)
    assert torch.allclose(one["weight"], two["weight"], atol=1e-5)


def test_an_explicit_seed_is_exactly_itself() -> None:
    assert run(seed=7)[1].state_dict()["seed"] == 7
    assert regrow.SWR(mlp(), every=1, factor=0.1, seed=0).state_dict()["seed"] == 0


def test_the_seed_is_kept_in_the_state() -> None:
    _, maintainer = run()
    other = regrow.SWR(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)), every=1, factor=0.3)
    assert other.state_dict()["seed"] != maintainer.state_dict()["seed"]
    other.load_state_dict(maintainer.state_dict())
    assert other.state_dict()["seed"] == maintainer.state_dict()["seed"]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64, "meta"])
def test_parameters_of_any_kind_have_a_fingerprint(kind: torch.dtype | str) -> None:
    from regrow.maintain.default_seed import fingerprint

    numbers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Linear(6, 5).to(kind)
        numbers.append(fingerprint(walk(model)))
    assert (numbers[0] == numbers[1]) == (kind == "meta")
