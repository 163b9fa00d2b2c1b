"""The hidden units of Stable-Baselines3's policies, whose forward `regrow.find_units` cannot follow to the end."""

from collections.abc import Iterator

from torch import nn

from ..wiring import Units

_LAYERS = (nn.Linear, nn.Conv2d)
_PASSED_OVER = (nn.Flatten, nn.Identity, nn.Dropout)
_FOLLOWED = ("FlattenExtractor", "NatureCNN")  # extractors whose layers are called in the order they stand in


def policy_units(policy: nn.Module) -> list[Units]:
    """The hidden units of a policy: MlpPolicy and CnnPolicy of PPO, A2C, DQN, SAC, TD3 and DDPG.

    Left out are target networks, and of a policy of one's own the layers of another features extractor and those
    around a norm: give their `regrow.Units` beside these.

    Args:
        policy: `model.policy`.

    Returns:
        One `Units` for each layer, for `units=` of a unit method.

    Raises:
        ValueError: where there are none.

    Example:
        >>> import stable_baselines3
        >>> from regrow.integrations.stable_baselines3 import policy_units
        >>> for units in policy_units(stable_baselines3.DQN("MlpPolicy", "CartPole-v1").policy):
        ...     print(units)
        Units(q_net.q_net.0.weight -> q_net.q_net.2.weight, h: output of q_net.q_net.1)
        Units(q_net.q_net.2.weight -> q_net.q_net.4.weight, h: output of q_net.q_net.3)
    """
    read: dict[tuple[str, str], list[str]] = {}  # (layer, its activation): the layers that read it
    for path in _paths(policy):
        layer, activation = None, None
        for name, module in _leaves(policy, path):
            if isinstance(module, _LAYERS):
                if layer is not None and activation is not None:
                    readers = read.setdefault((layer, activation), [])
                    readers.extend([name] if name not in readers else [])
                layer, activation = name, None
            elif next(module.parameters(), None) is not None:
                layer = None  # a norm, or something unknown
            elif not isinstance(module, _PASSED_OVER):
                activation = name
    if not read:
        raise ValueError(f"no hidden units found in {type(policy).__name__}: give them as `regrow.Units`")
    return [_units(policy, layer, activation, readers) for (layer, activation), readers in read.items()]


def _paths(policy: nn.Module) -> Iterator[list[str]]:
    """The names of the modules that an observation passes, one way to an output each."""
    parts = dict(policy.named_children())
    if "mlp_extractor" in parts:
        own = "features_extractor" if getattr(policy, "share_features_extractor", True) else "vf_features_extractor"
        gsde = getattr(policy, "use_sde", False)  # the exploration noise reads the last layer of the policy as well
        yield ["features_extractor", "mlp_extractor.policy_net", *([] if gsde else ["action_net"])]
        yield [own, "mlp_extractor.value_net", "value_net"]
    if "q_net" in parts:
        yield ["q_net.features_extractor", "q_net.q_net"]
    if "actor" in parts and hasattr(parts["actor"], "latent_pi"):
        heads = [] if getattr(parts["actor"], "use_sde", False) else ["actor.mu", "actor.log_std"]
        for head in heads or [None]:
            yield ["actor.features_extractor", "actor.latent_pi", *([head] if head else [])]
    elif "actor" in parts:
        yield ["actor.features_extractor", "actor.mu"]
    if "critic" in parts:
        for name, _ in parts["critic"].named_children():
            if name.startswith("qf"):
                yield ["critic.features_extractor", f"critic.{name}"]


def _leaves(policy: nn.Module, path: list[str]) -> Iterator[tuple[str, nn.Module]]:
    """The innermost modules of a path, in the order they are called in."""
    for name in path:
        part = policy.get_submodule(name)
        if name.endswith("features_extractor") and type(part).__name__ not in _FOLLOWED:
            continue
        for inner, module in part.named_modules(prefix=name):
            if not any(module.children()) and not isinstance(module, nn.Sequential):
                yield inner, module


def _units(policy: nn.Module, layer: str, activation: str, readers: list[str]) -> Units:
    made, first = policy.get_submodule(layer), policy.get_submodule(readers[0])
    n = policy.get_parameter(f"{layer}.weight").shape[0]
    width = {reader: policy.get_parameter(f"{reader}.weight").shape[1] for reader in readers}
    flattened = isinstance(made, nn.Conv2d) and isinstance(first, nn.Linear)
    positions = width[readers[0]] // n if flattened else 1
    # A critic reads the actions too, behind the features: then the units are the first columns.
    out = [(f"{r}.weight", 1) if width[r] == n * positions else (f"{r}.weight", 1, 0) for r in readers]
    bias = None if made.bias is None else (f"{layer}.bias", 0)
    return Units((f"{layer}.weight", 0), bias, None, out, activation, positions=positions)
