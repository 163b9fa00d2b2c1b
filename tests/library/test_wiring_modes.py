"""Claim: units are those of the forward as it trains, whatever mode the model is in.

What runs in one mode only, and modules that have several names, are neither missed nor mistaken.
"""

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from wiring_zoo import ZOO, layers

import regrow
from regrow.wiring import Place, find_units, left_out


class Moded(nn.Module):
    """Five layers and a forward that a test gives, which may ask for the mode."""

    def __init__(self, forward: Callable[["Moded", Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Linear(6, 6) for _ in range(5))
        self.norm = nn.BatchNorm1d(6)
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def auxiliary(m: Moded, x: Tensor) -> Any:
    """A second head in training, with a hidden layer of its own."""
    h = F.relu(m.a(x))
    return (m.b(h), m.d(F.relu(m.c(h)))) if m.training else m.b(h)


def another_reader(m: Moded, x: Tensor) -> Any:
    """A second head in evaluation."""
    h = F.relu(m.a(x))
    return m.b(h) if m.training else m.b(h) + m.c(h)


def features(m: Moded, x: Tensor) -> Any:
    """Evaluation gives out what is hidden in training."""
    h = F.relu(m.a(x))
    return m.c(F.relu(m.b(h))) if m.training else F.relu(m.b(h))


def other_layers(m: Moded, x: Tensor) -> Any:
    """Read by one layer in training, by another in evaluation."""
    h = F.relu(m.a(x))
    return m.e(F.relu(m.b(h) if m.training else m.c(h)))


def noise(m: Moded, x: Tensor) -> Any:
    """A sum with noise in training only: no unit there would show it in evaluation."""
    h = F.relu(m.a(x))
    return m.b(h + x if m.training else h)


def layer_drop(m: Moded, x: Tensor) -> Any:
    """A hidden layer is skipped at random in training."""
    if not m.training or random.random() + np.random.rand() < 0:
        x = x + m.b(F.relu(m.a(x)))
    return m.d(F.relu(m.c(x)))


MODES: dict[str, tuple[Callable[[Moded, Tensor], Any], dict[str, list[str]], dict[str, str]]] = {
    "auxiliary": (auxiliary, {"a": ["b", "c"], "c": ["d"]}, {}),
    "another reader": (another_reader, {"a": ["b", "c"]}, {}),
    "features": (features, {"a": ["b"]}, {"b": "its output leaves the model (in evaluation mode)"}),
    "other layers": (
        other_layers, {"b": ["e"], "c": ["e"]}, {"a": "read by other layers in training than in evaluation"},
    ),
    "noise": (noise, {}, {"a": "added to another tensor, as in a residual stream (in training mode)"}),
    "layer drop": (layer_drop, {"a": ["b"], "c": ["d"]}, {}),
}  # fmt: skip


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluating"])
@pytest.mark.parametrize("example", [None, torch.ones(3, 6)], ids=["", "example"])
@pytest.mark.parametrize("name", MODES)
def test_units_of_both_modes(name: str, example: Tensor | None, mode: bool) -> None:
    forward, expected, reasons = MODES[name]
    net = Moded(forward).train(mode)
    net.norm.train(not mode)
    try:
        found = find_units(net, example)
    except ValueError as error:
        assert not expected and all(f"{layer}: {reason}" in str(error) for layer, reason in reasons.items())
        return
    readers = {u.weight_in[0].name[0]: sorted(p.name[0] for p in u.weight_out) for u in found}
    assert readers == expected
    assert {layer: found.left_out[layer] for layer in reasons} == reasons
    assert net.training is mode and net.norm.training is not mode
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("name", ZOO)
def test_the_mode_of_the_model_makes_no_difference(name: str) -> None:
    model, args = ZOO[name]()
    found = find_units(model.train())
    assert find_units(model.eval()) == found and find_units(model).left_out == found.left_out


def test_an_example_leaves_no_mark_in_training_mode() -> None:
    """Statistics, generators and modes stay, and a forward that wants targets in training is no obstacle."""

    def forward(m: Moded, x: Tensor) -> Tensor:
        h = m.norm(F.relu(m.a(x)))
        if m.training and type(x) is Tensor:
            F.batch_norm(h, m.norm.running_mean, m.norm.running_var, training=True)
            raise TypeError("targets are missing")
        return m.b(1.0 * h if m.training else h)

    net, x = Moded(forward), torch.randn(4, 6)
    state, generators = {k: v.clone() for k, v in net.state_dict().items()}, (random.getstate(), torch.get_rng_state())
    assert layers(find_units(net, x)) == ["a"]
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert random.getstate() == generators[0] and torch.equal(torch.get_rng_state(), generators[1])


def test_a_branch_of_training_is_renewed() -> None:
    """A model made in evaluation mode: the hidden layer of its auxiliary head is maintained too."""
    net = Moded(auxiliary).eval()
    redo = regrow.ReDo(net, every=1, threshold=100.0, skip="e", seed=0)
    net.train()
    sum(y.sum() for y in net(torch.randn(5, 6))).backward()
    redo.step()
    assert all((layer.weight == 0).all() for layer in (net.b, net.c, net.d)) and (net.a.weight != 0).all()


# Several names of one module.


class Policy(nn.Module):
    """As in stable-baselines3: one extractor under three names, heads that are called one by one."""

    def __init__(self, uses: str, traced: bool) -> None:
        super().__init__()
        cnn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten())
        self.features_extractor = nn.Sequential(cnn, nn.Sequential(nn.Linear(80, 7), nn.ReLU()))
        self.pi_features_extractor = self.vf_features_extractor = self.features_extractor
        self.mlp = nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.uses, self.traced = uses, traced

    def forward(self, x: Tensor) -> Tensor:
        assert self.traced or isinstance(x, Tensor)
        return self.mlp(getattr(self, self.uses)(x))


@pytest.mark.parametrize("uses", ["features_extractor", "pi_features_extractor", "vf_features_extractor"])
@pytest.mark.parametrize("traced", [True, False])
def test_aliases_of_one_module_are_one(uses: str, traced: bool) -> None:
    model = Policy(uses, traced)
    found = find_units(model)
    expected = ["features_extractor.0.0", "features_extractor.0.2", *["features_extractor.1.0"] * traced, "mlp.0"]
    assert layers(found) == expected
    assert found[1].weight_out == (Place("features_extractor.1.0.weight", 1, None, 16),)
    reason = "its output leaves 'features_extractor', whose surroundings could not be followed"
    assert traced or found.overlooked["features_extractor.1.0"] == left_out(model)["features_extractor.1.0"] == reason
    with (
        nullcontext() if traced else pytest.warns(UserWarning, match="may have hidden units: features_extractor.1.0: ")
    ):
        redo = regrow.ReDo(model, every=1, threshold=100.0, seed=0)
    model(torch.randn(3, 1, 8, 8)).sum().backward()
    redo.step()
    assert (model.vf_features_extractor[1][0].weight == 0).all()


def test_one_module_called_twice_is_shared_under_any_names() -> None:
    class Twice(Policy):
        def forward(self, x: Tensor) -> Tensor:
            return self.mlp(self.pi_features_extractor(x) + self.vf_features_extractor(x))

    found = find_units(Twice("", True))
    assert layers(found) == ["mlp.0"]
    assert found.left_out["features_extractor.0.0"] == "shared: the forward calls it more than once"
    block = nn.TransformerEncoderLayer(8, 2, 12)
    with pytest.raises(ValueError, match="shared: the forward calls"):
        find_units(nn.Sequential(block, block))
    with pytest.raises(ValueError, match="shared: the forward calls"):
        find_units(nn.ModuleList([block, block]))


def test_what_is_left_out_though_it_looks_hidden() -> None:
    """Outputs and residual streams are none; what could not be followed, is not called or not known is named."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 2))
    assert left_out(net) == {"2": "read by '3' (Softmax), unknown here"} == find_units(net).overlooked
    assert left_out(ZOO["resnet"]()[0]) == {}
    net = Moded(lambda m, x: m.b(F.relu(m.a(x))))
    reasons = left_out(net)
    assert set(reasons) == set("cde")
    assert all(reason.startswith("the forward of the model does not call it") for reason in reasons.values())


# Policies of stable-baselines3: their forwards cannot be followed, and are known.


class ActorCriticPolicy(nn.Module):
    """The structure of the class of that name."""

    def __init__(self, shared: bool = True, use_sde: bool = False) -> None:
        super().__init__()
        self.share_features_extractor, self.use_sde = shared, use_sde
        self.features_extractor = self._extractor()
        self.pi_features_extractor = self.features_extractor
        self.vf_features_extractor = self.features_extractor if shared else self._extractor()
        self.mlp_extractor = nn.Module()
        self.mlp_extractor.policy_net = nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh())
        self.mlp_extractor.value_net = nn.Sequential(nn.Linear(7, 4), nn.Tanh())
        self.action_net, self.value_net = nn.Linear(5, 2), nn.Linear(4, 1)

    @staticmethod
    def _extractor() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 7), nn.ReLU())

    def extract_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if float(x.max()) > 1:
            x = x / 255
        pi = self.pi_features_extractor(x)
        return pi, pi if self.share_features_extractor else self.vf_features_extractor(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pi, vf = self.extract_features(x)
        return self.action_net(self.mlp_extractor.policy_net(pi)), self.value_net(self.mlp_extractor.value_net(vf))

    def evaluate_actions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward(x)

    def predict_values(self, x: Tensor) -> Tensor:
        return self.forward(x)[1]


ActorCriticPolicy.__module__ = "stable_baselines3.common.policies"


def test_a_known_policy_is_found_whole() -> None:
    model = ActorCriticPolicy()
    found = find_units(model)
    assert layers(found) == [
        "features_extractor.0", "features_extractor.3", "mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2",
        "mlp_extractor.value_net.0",
    ]  # fmt: skip
    assert found[1].weight_out == tuple(Place(f"mlp_extractor.{n}_net.0.weight", 1) for n in ("policy", "value"))
    assert found[3].weight_out == (Place("action_net.weight", 1),) and found.overlooked == {}
    assert find_units(model, torch.rand(2, 1, 8, 8)) == found
    twins = layers(find_units(ActorCriticPolicy(shared=False)))
    assert "vf_features_extractor.0" in twins and "features_extractor.0" in twins
    assert "mlp_extractor.policy_net.2" not in layers(find_units(ActorCriticPolicy(use_sde=True)))  # noise reads it
    redo = regrow.ReDo(model, every=1, threshold=100.0, seed=0)
    sum(y.sum() for y in model(torch.rand(3, 1, 8, 8))).backward()
    redo.step()
    assert (model.action_net.weight == 0).all() and (model.value_net.weight == 0).all()


def test_a_policy_of_one_s_own_is_not_taken_for_a_known_one() -> None:
    class Residual(ActorCriticPolicy):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mlp_extractor.policy_net(self.extract_features(x)[0])
            return self.action_net(h + 1), h

    found = find_units(Residual())
    assert "mlp_extractor.policy_net.2" not in layers(found) and "mlp_extractor.policy_net.2" in found.overlooked


def test_stable_baselines3() -> None:
    pytest.importorskip("stable_baselines3")
    from gymnasium import spaces
    from stable_baselines3.common.policies import ActorCriticCnnPolicy
    from stable_baselines3.common.policies import ActorCriticPolicy as MlpPolicy
    from stable_baselines3.dqn.policies import DQNPolicy
    from stable_baselines3.sac.policies import SACPolicy
    from stable_baselines3.td3.policies import TD3Policy

    def rate(_: float) -> float:
        return 1e-3

    images, box = spaces.Box(0, 255, (3, 64, 64), np.uint8), spaces.Box(-1, 1, (3,))
    found = find_units(ActorCriticCnnPolicy(images, spaces.Discrete(4), rate))
    assert found.sizes == (32, 64, 64, 512) and found.overlooked == {}
    assert find_units(MlpPolicy(box, box, rate)).sizes == (64, 64, 64, 64)
    assert find_units(DQNPolicy(box, spaces.Discrete(4), rate)).sizes == (64, 64)
    sac = SACPolicy(box, box, rate)
    assert find_units(sac.actor).sizes == (256, 256) and find_units(sac.critic).sizes == (256,) * 4
    assert find_units(TD3Policy(box, box, rate).actor).sizes == (400, 300)
