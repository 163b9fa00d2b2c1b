"""The renewal methods on one vision transformer: the library's, or those of the authors' order.

Shapes: H units of an MLP.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...laws import Constant, Law, Uniform
from ...maintain import Maintainer
from ...methods import REGISTRY, HiddenUnits, ShrinkPerturb, StackedMethod, from_config
from ...wiring import Place
from ..nets import ViT
from ..studies import Config
from ..studies.systems import System
from ..unit_loops import UnitLoops
from .optimizer import Descent

Counts = dict[str, int]
"""Since the beginning: renewals (updates that renewed), renewed (entries), renewed_units, renewed_zero (renewed at
utility 0: entries, but units for unit methods), overlap (entries), mature (units now)."""

_COUNTED = ("renewals", "renewed", "renewed_units", "renewed_zero", "overlap", "mature")


class NetworkMethod(Protocol):
    """What renews a network, or adds noise to it."""

    @property
    def watching(self) -> bool:
        """Does the next update need all of the network's activations, from a forward pass that runs its hooks?"""
        ...

    def before(self) -> None:
        """Before the forward pass of an update."""
        ...

    def after(self) -> bool:
        """After the update; was anything renewed?"""
        ...

    def counts(self) -> Counts: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Nothing:
    """Renews nothing."""

    watching = False

    def before(self) -> None:
        pass

    def after(self) -> bool:
        return False

    def counts(self) -> Counts:
        return dict.fromkeys(_COUNTED, 0)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        del state


class Perturbed(Nothing):
    """Noise at each update, which renews nothing."""

    def __init__(self, maintainer: Maintainer) -> None:
        self._maintainer = maintainer

    def state_dict(self) -> dict[str, Any]:
        return self._maintainer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._maintainer.load_state_dict(state)


class AttachedMaintainer(Perturbed):
    """A maintainer of the library, called by the optimizer.

    Args:
        maintainer: attached already.
        net: what it maintains.
    """

    def __init__(self, maintainer: Maintainer, net: ViT) -> None:
        super().__init__(maintainer)
        self._by_unit = maintainer.method.by_unit
        self._entries = 2 * net.width + 1 if self._by_unit else 1  # of a unit: incoming, bias, outgoing
        self._counters, self._renewals = maintainer.counters, 0  # its report would wait for the device at each update

    @property
    def watching(self) -> bool:
        return self._maintainer.watching

    def after(self) -> bool:
        before, self._renewals = self._renewals, self._counters.renewals
        return self._renewals > before

    def counts(self) -> Counts:
        renewed, _, zero, overlap, *_ = self._counters.totals()[0].tolist()
        return {
            "renewals": self._counters.renewals,
            "renewed": renewed * self._entries,
            "renewed_units": renewed * self._by_unit,
            "renewed_zero": zero,
            "overlap": overlap,
            "mature": int(self._maintainer.report()["mature_units"]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._renewals = self._counters.renewals


class _Blocks(UnitLoops):
    """A vision transformer as a network of one, whose units are those of its MLPs.

    Args:
        net: the network.
        law: "initial", that of the network, or "authors": incoming weights from Uniform(+-sqrt(3 / C)), wider than
            initially by sqrt(3), and biases 0.
    """

    members = 1

    def __init__(self, net: ViT, law: str) -> None:
        # `.data` has no version counter, so the backward pass accepts weights that change during it.
        self.parameters = {name: p.data.unsqueeze(0) for name, p in net.named_parameters()}
        self._laws: dict[str, Law] = net.init_laws()
        self.units: list[HiddenUnits] = []
        self.gelus: list[nn.Module] = []
        self.seen: dict[int, Tensor] = {}  # activations (B, T, H) of the batch just shown
        wide = (3 / net.width) ** 0.5
        for i, block in enumerate(net.blocks):
            into, out = f"blocks.{i}.mlp.fc1", f"blocks.{i}.mlp.fc2"
            incoming = Place(f"{into}.weight", 0), Place(f"{into}.bias", 0)
            self.units.append(HiddenUnits.of(into, net.mlp, incoming, [Place(f"{out}.weight", 1)]))
            self.gelus.append(block.mlp.gelu)  # type: ignore[union-attr, arg-type]
            if law == "authors":
                self._laws |= {f"{into}.weight": Uniform(-wide, wide), f"{into}.bias": Constant(0.0)}

    @property
    def laws(self) -> Mapping[str, Law]:
        return self._laws

    def activity(self, layer: int, places: Sequence[int]) -> Tensor:
        """Mean |h| over images and tokens, (1, H)."""
        return self.seen[layer].abs().float().mean((0, 1)).unsqueeze(0)


class InsideBackward(Nothing):
    """The authors' order: a layer's units are renewed when the backward pass reaches their activations.

    What is below it gets its gradient through the new incoming weights, and the optimizer then applies the gradient of
    the old weights to the new ones, so that outgoing weights do not stay 0.

    Args:
        net: the network.
        renewal: for one network.

    Reference:
        The authors' public code for Hernandez-Garcia et al. 2025.
    """

    def __init__(self, net: _Blocks, renewal: StackedMethod) -> None:
        self._renewal, self._net = renewal, net
        self._step = self._renewals = 0
        self._handles: list[Any] = []

    @property
    def watching(self) -> bool:
        return bool(self._renewal.due(self._step + 1))

    def before(self) -> None:
        if self.watching:
            for i, gelu in enumerate(self._net.gelus):
                self._handles.append(gelu.register_forward_hook(functools.partial(self._see, i)))

    def _see(self, i: int, gelu: nn.Module, inputs: Any, h: Tensor) -> None:
        if h.requires_grad:
            self._net.seen[i] = h.detach()
            h.register_hook(functools.partial(self._renew, i))

    @torch.no_grad()
    def _renew(self, i: int, grad: Tensor) -> None:
        self._renewal.renew(self._step + 1, self._net, None, [0], [i])

    def after(self) -> bool:
        self._step += 1
        if not self._handles:
            return False
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._net.seen.clear()
        self._renewals += 1
        return True

    def counts(self) -> Counts:
        mature = self._renewal.mature(self._step)
        counts = {name: int(count[0]) for name, count in self._renewal.counts.items() if name in _COUNTED}
        counts |= {"renewals": self._renewals, "mature": 0 if mature is None else int(mature[0])}
        return dict.fromkeys(_COUNTED, 0) | counts

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "renewals": self._renewals, "renewal": self._renewal.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self._renewals = state["step"], state["renewals"]
        self._renewal.load_state_dict(state["renewal"])


def make_method(system: str, net: ViT, config: Config, seed: int, descent: Descent) -> NetworkMethod:
    """What a system does to a network in addition to training; to be made before training begins.

    Args:
        system: of `regrow.lab.studies.VIT_SYSTEMS`.
        net: the network.
        config: the system's.
        seed: of its random numbers.
        descent: whose optimizer calls it.
    """
    of = System.of(system)
    if of.method == "shrink-perturb":  # the optimizer's decay shrinks
        noise = Maintainer(net, ShrinkPerturb(noise_variance=float(config["noise_variance"])), seed=seed)
        return Perturbed(noise.attach(descent.optimizer))
    if not of.renews:
        return Nothing()
    kind = REGISTRY[of.method].method
    method = from_config(kind, config)
    if of.order == "authors":
        blocks = _Blocks(net, str(config["law"]))
        return InsideBackward(blocks, StackedMethod([method], [0], [seed], blocks, device=net.head.weight.device))
    # The authors do not clear the momentum of renewed entries.
    maintainer = Maintainer(
        net, method, laws="modules", clear_moments=False, seed=seed, track_overlap=not kind.by_unit
    )  # fmt: skip
    return AttachedMaintainer(maintainer.attach(descent.optimizer), net)
