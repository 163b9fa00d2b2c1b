"""Stable-Baselines3: `model.learn(..., callback=RegrowCallback(make))`."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..maintain import Maintainer
from .callback import MaintainerGroup, Make, missing
from .policy_units import policy_units

try:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
except ImportError as error:
    raise missing("stable_baselines3", "Stable-Baselines3", "stable-baselines3") from error

__all__ = ["RegrowCallback", "policy_units"]

_WIDTH = 33  # of a name in the tables on screen
_SHOWN = ("steps", "renewals", "renewed_total")


class RegrowCallback(BaseCallback):
    """Keeps the policy of an algorithm plastic: attaches maintainers to its optimizers, stores and logs them.

    The maintainers are made when learning begins, and stay for later calls of `learn`. An update is a step of an
    optimizer. SAC and TD3 have two: `make` is called for each, and actor and critic keep those maintainers whose
    parameters they hold. Target networks follow the maintained ones and are not maintained themselves.

    `model.save` stores the states with the model (as `model.regrow`), and so does every callback that calls it. After
    `load`, a `learn` with such a callback continues weights, optimizers and maintainers bit for bit; Stable-Baselines3
    stores neither environments nor random generators. `del model.regrow` forgets the states.

    Names in the logs begin with `regrow/`; the tables on screen show the most important ones.

    Args:
        make: `make(policy)`, given `model.policy`, returns a maintainer or a list of them. Its parts are available:
            `policy.actor`, `policy.critic`, `policy.q_net`. The unit methods take `units=policy_units(policy)`.
        name: where several of these callbacks maintain one model, a word for each: part of the names in the logs.
        verbose: as for every callback.

    Raises:
        TypeError, ValueError: for a `make` that is no function, a `name` that is no word; when learning begins, where
            `make` returns no maintainers, maintainers whose parameters no optimizer holds, or different ones from those
                stored.

    Example:
        >>> import regrow, stable_baselines3
        >>> from regrow.integrations.stable_baselines3 import RegrowCallback
        >>> callback = RegrowCallback(lambda policy: regrow.SWR(policy, every=100, factor=1e-3, seed=0))
        >>> model = stable_baselines3.DQN("MlpPolicy", "CartPole-v1", learning_starts=100, seed=0, device="cpu")
        >>> _ = model.learn(1000, callback=callback)
        >>> callback.report()["regrow/renewals"]
        2
    """

    def __init__(self, make: Make, *, name: str | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        self._group = MaintainerGroup(make, name)

    @property
    def maintainers(self) -> list[Maintainer]:
        """The maintainers, from the beginning of learning."""
        return self._group.maintainers

    def report(self) -> dict[str, float]:
        """What is logged: the maintainers' `report()`s, with keys that begin with `regrow/`."""
        return self._group.report()

    # What Stable-Baselines3 calls.

    def _on_training_start(self) -> None:
        states: dict[str | None, Any] = vars(self.model).setdefault("regrow", {})
        before = states.get(self._group.name)
        self._group.detach()  # a call of learn() that failed did not detach
        if isinstance(before, Live):
            before.group.detach()
        if before is not None and not (isinstance(before, Live) and before.group is self._group):
            self._group.forget()
            self._group.load_state_dict(before.group.state_dict() if isinstance(before, Live) else before)
        policy = self.model.policy
        self._group.attach(policy, optimizers(policy), expected=targets(policy))
        states[self._group.name] = Live(self._group)

    def _on_step(self) -> bool:
        # What is logged off-policy is written within an environment's step, where an episode ends.
        if not isinstance(self.model, OnPolicyAlgorithm) and any(self.locals.get("dones", ())):
            self._record()
        return True

    def _on_rollout_end(self) -> None:
        if isinstance(self.model, OnPolicyAlgorithm):
            self._record()

    def _on_training_end(self) -> None:
        self._group.detach()

    def _record(self) -> None:
        for key, value in self.report().items():
            _, _, last = key.rpartition("/")
            fits = last in _SHOWN and len(key) - len("regrow/") <= _WIDTH  # names that are cut to the same raise
            self.logger.record(key, value, exclude=None if fits else ("stdout", "log"))


class Live:
    """The states of a callback that is at work: what is stored with the model is what they are then."""

    def __init__(self, group: MaintainerGroup) -> None:
        self.group = group

    def __reduce__(self) -> tuple[type[dict], tuple[Mapping[str, Any]]]:
        return dict, (self.group.state_dict(),)

    def __repr__(self) -> str:
        return repr(self.group.maintainers)


def optimizers(policy: nn.Module) -> dict[str, Optimizer]:
    """The optimizers of a policy by the names of the modules that have them; of the policy itself: ""."""
    named = ((name, getattr(module, "optimizer", None)) for name, module in policy.named_modules())
    return {name: optimizer for name, optimizer in named if isinstance(optimizer, Optimizer)}


def targets(policy: nn.Module) -> list[str]:
    """The target networks of a policy."""
    return [name for name, _ in policy.named_children() if name.endswith("_target")]
