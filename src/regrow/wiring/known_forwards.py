"""Forwards of stable-baselines3 that torch.fx cannot follow, written as what their layers read: one class for each.

They inspect observations and build distributions on the way. Here each is the same modules called in the same order.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def known_forward(module: nn.Module) -> nn.Module | None:
    """A module that calls the parts of this one as its forward does, and can be followed; None for other classes.

    Args:
        module: any module; one of a known class has a forward of that class, not one of its own.
    """
    for kind in type(module).__mro__:
        known = _KNOWN.get(f"{kind.__module__}.{kind.__qualname__}")
        if known is not None:
            make, methods = known
            own = any(getattr(type(module), name) is not getattr(kind, name) for name in methods)
            return None if own else make(module)
    return None


class _ActorCritic(nn.Module):
    """PPO, A2C: extractors, two networks, a head for actions and one for values."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.shared = policy.share_features_extractor
        own = [] if self.shared else [policy.vf_features_extractor]
        self.extractors = nn.ModuleList([policy.pi_features_extractor, *own])
        self.networks, self.heads = policy.mlp_extractor, nn.ModuleList([policy.action_net, policy.value_net])
        self.noisy = policy.use_sde  # exploration then reads the latent features as well

    def forward(self, observations: Tensor) -> Any:
        features = [extractor(observations) for extractor in self.extractors]
        latent = self.networks.policy_net(features[0]), self.networks.value_net(features[-1])
        return self.heads[0](latent[0]), self.heads[1](latent[1]), latent[0] if self.noisy else None


class _Chain(nn.Module):
    """Modules one after the other, then heads that all read the last of them."""

    def __init__(self, modules: list[nn.Module], heads: list[nn.Module], noisy: bool = False) -> None:
        super().__init__()
        self.chain, self.heads, self.noisy = nn.ModuleList(modules), nn.ModuleList(heads), noisy

    def forward(self, x: Tensor) -> Any:
        for module in self.chain:
            x = module(x)
        return [head(x) for head in self.heads], x if self.noisy else None


class _Critic(nn.Module):
    """Several networks that read features and actions."""

    def __init__(self, critic: Any) -> None:
        super().__init__()
        self.extractor, self.networks = critic.features_extractor, nn.ModuleList(critic.q_networks)

    def forward(self, observations: Tensor, actions: Tensor) -> Any:
        both = torch.cat([self.extractor(observations), actions], dim=1)
        return [network(both) for network in self.networks]


def _stochastic(actor: Any) -> nn.Module:
    heads = [actor.mu] if actor.use_sde else [actor.mu, actor.log_std]
    return _Chain([actor.features_extractor, actor.latent_pi], heads, actor.use_sde)


_SB3 = "stable_baselines3"
_KNOWN: dict[str, tuple[Callable[[Any], nn.Module], tuple[str, ...]]] = {
    f"{_SB3}.common.policies.ActorCriticPolicy": (
        _ActorCritic, ("forward", "evaluate_actions", "predict_values", "extract_features"),
    ),
    f"{_SB3}.common.policies.ContinuousCritic": (_Critic, ("forward", "extract_features")),
    f"{_SB3}.sac.policies.Actor": (_stochastic, ("forward", "get_action_dist_params", "extract_features")),
    f"{_SB3}.td3.policies.Actor": (
        lambda actor: _Chain([actor.features_extractor], [actor.mu]), ("forward", "extract_features"),
    ),
    f"{_SB3}.dqn.policies.QNetwork": (
        lambda net: _Chain([net.features_extractor], [net.q_net]), ("forward", "extract_features"),
    ),
}  # fmt: skip
"""By class: how its twin is made, and the methods that must be the class's own."""
