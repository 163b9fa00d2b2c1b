"""Trains a stack of any networks on any batches: systems, hyper-parameters and seeds side by side.

Shapes: M members, U updates.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn, vmap

from ... import check
from ...core import random
from ...methods import REGISTRY, Method, ShrinkPerturb, StackedMethod, from_config, knobs_of
from ..optimizers import OPTIMIZERS
from ..renewal import Renewal
from ..studies import Member
from .stack import Inputs, Loss, StackedModule

Maker = Callable[[Sequence[int], Sequence[Mapping[str, Any]], Sequence[int], torch.device], Renewal]
"""(members, configs, seeds, device) -> the renewal of those members; a subclass of `Renewal` is one."""

_BY_OPTIMIZER = ("base", "l2", "shrink-perturb")  # by `decay` and `noise_variance` of the config alone
_METHODS = {name: row.method for name, row in REGISTRY.items() if name not in _BY_OPTIMIZER}
_OPTIMIZERS = {
    "sgd": ("step_size",),
    "sgdw": ("step_size", "momentum"),
    "adamw": ("step_size", "beta1", "beta2"),
}
_SHARED = knobs_of(ShrinkPerturb)
_NUMBERS: dict[str, tuple[float, float]] = {
    "step_size": (0, math.inf), "momentum": (0, 1), "beta1": (0, 1), "beta2": (0, 1),
    **{knob.config or name: (knob.low, knob.high) for name, knob in _SHARED.items()},
}  # fmt: skip
_OPTIONAL = {"decay": 0.0, "noise_variance": 0.0, "source": "ours"}


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
        own: your systems, name -> your subclass of `regrow.methods.Method`, whose knobs the config holds. (A
            subclass of `regrow.lab.renewal.Renewal` does, too.)
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
        own: Mapping[str, type[Method] | Maker] | None = None,
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
        self.renewals: dict[str, StackedMethod | Renewal] = {}
        for system in dict.fromkeys(member.system for member in members if member.system not in _BY_OPTIMIZER):
            places = [i for i, member in enumerate(members) if member.system == system]
            of = [configs[i] for i in places], [seeds[i] for i in places]
            _ = net.laws  # a law that cannot be determined is refused now
            kind: Any = own.get(system) or _METHODS[system]
            if isinstance(kind, type) and issubclass(kind, Method):
                _ = net.units if kind.by_unit else None  # a network without units is refused now
                methods = [from_config(kind, config) for config in of[0]]
                self.renewals[system] = StackedMethod(methods, places, of[1], net, device=net.device)
            else:
                self.renewals[system] = kind(places, *of, net.device)

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
        observers = [renewal for renewal in self.renewals.values() if renewal.observes]
        looking = (*observers, *(renewal for renewal, _ in due))
        seen = self.net.losses_and_gradients(
            x, y, self._loss, shared=self._shared, keys=keys,
            watch=any(renewal.reads_activations for renewal in looking),
            by_position=any(renewal.reads_positions for renewal in looking),
            watch_inputs=any(isinstance(r, StackedMethod) and r.kind.reads_inputs for r in observers),
        )  # fmt: skip
        record = {"loss": seen.losses}
        for name, metric in self._metrics.items():
            record[name] = vmap(metric, in_dims=(0, None if self._shared else 0))(seen.predictions, y)
        gradients = dict(seen.gradients)  # of the loss alone
        for renewal in self.renewals.values():
            renewal.before(self.step, self.net)
        self._descent.shrink_and_perturb(self.step)
        self._descent.step(seen.gradients)
        for renewal in observers:
            renewal.observe(self.step, self.net, gradients)
        record["renewed"] = torch.zeros(self.net.members, dtype=torch.bool, device=self.net.device)
        for renewal, which in due:
            places = torch.tensor([renewal.members[i] for i in which], device=self.net.device)
            record["renewed"][places] = renewal.renew(self.step, self.net, gradients, which)
        return record

    def run(self, batches: Iterable[tuple[Inputs, Tensor]]) -> dict[str, Tensor]:
        """An update for each of the batches (x, y); returns what `update` does, each (U, M), on the CPU."""
        records = [self.update(x, y) for x, y in batches]
        return {name: torch.stack([record[name] for record in records]).cpu() for name in (records or [{}])[0]}


def _checked(i: int, member: Member, optimizer: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a member with what it leaves out; refused where it cannot be."""
    system, where = member.system, f"members[{i}].config"
    check.choice(f"members[{i}].system", system, (*_BY_OPTIMIZER, *_METHODS, *own))
    method = own.get(system) or _METHODS.get(system)
    if not (isinstance(method, type) and issubclass(method, Method)):
        method = None
    knobs = {knob.config or name: knob for name, knob in knobs_of(method).items()} if method else {}
    if taken := [key for key in knobs if key in _NUMBERS or key in _OPTIONAL]:
        raise ValueError(
            f"knobs of {system!r} must have other names in a config than the optimizer's; got {', '.join(taken)}: give "
            "them one with config=…"
        )
    required = (*_OPTIMIZERS[optimizer], *(key for key, knob in knobs.items() if knob.required))
    known = (*required, *(key for key, knob in knobs.items() if not knob.required), *_OPTIONAL)
    if missing := [key for key in required if key not in member.config]:
        raise ValueError(f"`{where}` must hold {', '.join(required)}; got none of {', '.join(missing)}: add them")
    for key, value in member.config.items():
        if key in _NUMBERS:
            low, high = _NUMBERS[key]
            check.number(f"{where}[{key!r}]", value, low, high, "a hyper-parameter of one member")
        elif key not in known and (method or system not in own):
            raise ValueError(f"`{where}` of {system!r} must hold some of {', '.join(known)}; got {key!r}: leave it out")
    if method:
        from_config(method, member.config, where)
    return _OPTIONAL | dict(member.config)


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
