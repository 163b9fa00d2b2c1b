"""Trains a stack of any networks on any batches: systems, hyper-parameters and seeds side by side.

Shapes: M members, U updates.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn, vmap

from ... import check
from ...core import random
from ...maintain.swr import PRUNINGS, REINITS, UTILITIES
from ..optimizers import OPTIMIZERS
from ..renewal import Renewal, StackedCBP, StackedReDo, StackedSWR
from ..renewal.units import UnitRenewal
from ..studies import Member
from .stack import Inputs, Loss, StackedModule

Maker = Callable[[Sequence[int], Sequence[Mapping[str, Any]], Sequence[int], torch.device], Renewal]
"""(members, configs, seeds, device) -> the renewal of those members; a subclass of `Renewal` is one."""

_WITHOUT_RENEWAL = ("base", "l2", "shrink-perturb")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "swr": {"utility": "gradient", "prune": "threshold", "reinit": "resample"},
    "cbp": {"utility": "contribution"},
    "redo": {"utility": "activation"},
}
_REQUIRED = {
    "sgd": ("step_size",),
    "sgdw": ("step_size", "momentum"),
    "adamw": ("step_size", "beta1", "beta2"),
    "swr": ("every", "factor"),
    "cbp": ("replacement_rate", "maturity"),
    "redo": ("every", "threshold"),
}
_OPTIONAL = {"decay": 0.0, "noise_variance": 0.0, "source": "ours"}
_NUMBERS: dict[str, tuple[float, float]] = {
    "step_size": (0, math.inf), "decay": (0, 1), "noise_variance": (0, math.inf), "momentum": (0, 1),
    "beta1": (0, 1), "beta2": (0, 1), "replacement_rate": (0, 1), "threshold": (0, math.inf), "factor": (0, math.inf),
}  # fmt: skip
_WHOLES = {"every": 1, "maturity": 0}
_CHOICES = {
    "swr": {"utility": UTILITIES, "prune": PRUNINGS, "reinit": REINITS},
    "cbp": {"utility": ("contribution",)},
    "redo": {"utility": ("activation",)},
}


class Lab:
    """Trains the members of a stack, each by its own system and hyper-parameters.

    At each update: the loss and its gradient on the members' batches; weights shrink by `decay` and get the noise of
    `noise_variance`; the optimizer's step; renewals that are due.

    Args:
        net: a network for each member.
        members: the system, the config and the seed of each. Systems are "base", "l2", "shrink-perturb", "swr", "cbp",
            "redo", and those of `own`. A config holds what the optimizer needs (`step_size`; `momentum`; `beta1`,
            `beta2`), `decay` and `noise_variance` if not 0, and the system's knobs (swr: `every`, `factor`, and where
            not the default `utility`, `prune`, `reinit`; cbp: `replacement_rate`, `maturity`; redo: `every`,
            `threshold`).
        loss: of one member, (prediction, targets) -> scalar.
        optimizer: "sgd", "sgdw" (decoupled decay, momentum) or "adamw".
        own: your systems, name -> subclass of `regrow.lab.renewal.Renewal` with `due(step)` and
            `renew(step, net, gradients, which)`.
        metrics: what else to record: name -> function of one member, (prediction, targets) -> number.
        shared: batches are the same for all members.

    Raises:
        ValueError, TypeError: for an unknown system or optimizer, a config that lacks something, or holds what no one
            knows or what is out of its range; a number of members that is not the stack's.

    Example:
        >>> import torch
        >>> from regrow.lab.studies import Member
        >>> configs = [{"step_size": 0.1}, {"step_size": 0.1, "every": 2, "factor": 0.5}]
        >>> members = [Member(system, config, seed=0) for system, config in zip(("base", "swr"), configs)]
        >>> net = StackedModule([torch.nn.Linear(4, 2) for _ in members])
        >>> lab = Lab(net, members, torch.nn.functional.mse_loss)
        >>> history = lab.run((torch.randn(2, 8, 4), torch.randn(2, 8, 2)) for _ in range(4))
        >>> history["loss"].shape, history["renewed"].tolist()
        (torch.Size([4, 2]), [[False, False], [False, True], [False, False], [False, True]])
    """

    def __init__(
        self,
        net: StackedModule,
        members: Sequence[Member],
        loss: Loss,
        *,
        optimizer: str = "sgd",
        own: Mapping[str, Maker] | None = None,
        metrics: Mapping[str, Loss] | None = None,
        shared: bool = False,
    ) -> None:
        own = own or {}
        check.choice("optimizer", optimizer, OPTIMIZERS)
        if len(members) != net.members:
            raise ValueError(
                f"`members` must be one for each of the {net.members} networks; got {len(members)}: stack as many"
            )
        configs = [_checked(i, member, optimizer, own) for i, member in enumerate(members)]
        seeds = [member.seed for member in members]
        self.net, self.members, self._loss, self._shared = net, list(members), loss, shared
        self._metrics = dict(metrics or {})
        self._seeds = torch.tensor(seeds, dtype=torch.int64, device=net.device)
        self._descent = OPTIMIZERS[optimizer](net, configs, seeds)
        net.scale = self._descent.scale()
        self.step = 0
        self.renewals: dict[str, Renewal] = {}
        for system in dict.fromkeys(member.system for member in members if member.system not in _WITHOUT_RENEWAL):
            places = [i for i, member in enumerate(members) if member.system == system]
            maker = own.get(system) or _maker(system, net)
            _ = net.laws  # one that cannot be told is refused now
            self.renewals[system] = maker(places, [configs[i] for i in places], [seeds[i] for i in places], net.device)

    @torch.no_grad()
    def update(self, x: Inputs, y: Tensor) -> dict[str, Tensor]:
        """One update of all members.

        Args:
            x, y: as for `StackedModule.losses_and_gradients`.

        Returns:
            `loss` and the metrics, of before the update, and `renewed` (bool: was anything?), each (M).
        """
        self.step += 1
        due = [(renewal, which) for renewal in self.renewals.values() if (which := renewal.due(self.step))]
        keys = random.key(self._seeds, "dropout", 0, self.step)
        assert isinstance(keys, Tensor)
        watch = any(isinstance(renewal, UnitRenewal) for renewal, _ in due)
        seen = self.net.losses_and_gradients(x, y, self._loss, shared=self._shared, keys=keys, watch=watch)
        record = {"loss": seen.losses}
        for name, metric in self._metrics.items():
            record[name] = vmap(metric, in_dims=(0, None if self._shared else 0))(seen.predictions, y)
        self._descent.shrink_and_perturb(self.step)
        self._descent.step(seen.gradients)
        record["renewed"] = torch.zeros(self.net.members, dtype=torch.bool, device=self.net.device)
        for renewal, which in due:
            places = torch.tensor([renewal.members[i] for i in which], device=self.net.device)
            record["renewed"][places] = renewal.renew(self.step, self.net, seen.gradients, which)
        return record

    def run(self, batches: Iterable[tuple[Inputs, Tensor]]) -> dict[str, Tensor]:
        """An update for each of the batches (x, y); returns what `update` does, each (U, M), on the CPU."""
        records = [self.update(x, y) for x, y in batches]
        return {name: torch.stack([record[name] for record in records]).cpu() for name in (records or [{}])[0]}


def _maker(system: str, net: StackedModule) -> Maker:
    """That of a method of the library; what it needs of the stack is found now, or refused."""
    if system == "swr":
        return StackedSWR
    widths = net.widths
    return functools.partial(StackedCBP, widths=widths) if system == "cbp" else StackedReDo


def _checked(i: int, member: Member, optimizer: str, own: Mapping[str, Maker]) -> dict[str, Any]:
    """The config of a member with what it leaves out; refused where it cannot be."""
    system, where = member.system, f"members[{i}].config"
    check.choice(f"members[{i}].system", system, (*_WITHOUT_RENEWAL, *_DEFAULTS, *own))
    defaults = {} if system in own else _DEFAULTS.get(system, {})
    required = (*_REQUIRED[optimizer], *(_REQUIRED[system] if defaults else ()))
    known = (*required, *defaults, *_OPTIONAL)
    if missing := [key for key in required if key not in member.config]:
        raise ValueError(f"`{where}` must hold {', '.join(required)}; got none of {', '.join(missing)}: add them")
    for key, value in member.config.items():
        if key in known:
            _check_value(f"{where}[{key!r}]", key, value, _CHOICES.get(system, {}))
        elif system not in own:
            raise ValueError(f"`{where}` of {system!r} must hold some of {', '.join(known)}; got {key!r}: leave it out")
    return _OPTIONAL | defaults | dict(member.config)


def _check_value(name: str, key: str, value: Any, choices: Mapping[str, Sequence[str]]) -> None:
    if key in choices:
        check.choice(name, value, choices[key])
    elif key in _WHOLES:
        check.whole(name, value, _WHOLES[key], "updates")
    elif key in _NUMBERS:
        check.number(name, value, *_NUMBERS[key], "a hyper-parameter of one member")


def train(
    network: Callable[[int], nn.Module],
    members: Sequence[Member],
    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
    loss: Loss,
    *,
    device: torch.device | str = "cpu",
    **options: Any,
) -> tuple[StackedModule, dict[str, Tensor]]:
    """Train members whose networks and data are functions of their seed alone, so that systems are compared in pairs.

    Where more is to be said (laws, units, several inputs), make a `StackedModule` and a `Lab`.

    Args:
        network: a seed -> a network.
        members: the system, the config and the seed of each.
        batches: a seed -> its stream of batches (x, y); of streams of several lengths the shortest counts.
        loss: of one member, (prediction, targets) -> scalar.
        device: where; batches are moved there.
        options: of `Lab`: optimizer, own, metrics.

    Returns:
        The stack, trained; and what `Lab.run` records, each (U, M).

    Example:
        >>> from regrow.lab.nets import MLP
        >>> members = [Member("base", {"step_size": step}, seed) for step in (0.01, 0.1) for seed in (0, 1)]
        >>> def stream(seed):
        ...     g = torch.Generator().manual_seed(seed)
        ...     return ((torch.randn(8, 6, generator=g), torch.randint(2, (8,), generator=g)) for _ in range(3))
        >>> net, history = train(lambda seed: MLP(4, inputs=6), members, stream, torch.nn.functional.cross_entropy)
        >>> history["loss"].shape
        torch.Size([3, 4])
    """
    seeds = list(dict.fromkeys(member.seed for member in members))
    shared = len(seeds) == 1
    net = StackedModule([network(member.seed) for member in members], device=device)
    lab = Lab(net, members, loss, shared=shared, **options)
    of = 0 if shared else torch.tensor([seeds.index(member.seed) for member in members])
    together = zip(*(batches(seed) for seed in seeds), strict=False)
    stacked = ([torch.stack(part) for part in zip(*several, strict=True)] for several in together)
    return net, lab.run((x[of].to(device), y[of].to(device)) for x, y in stacked)
