"""The renewal methods on one vision transformer: the library's, or those of the authors' order.

Shapes: H units of an MLP.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ... import maintain
from ...laws import Constant, Law, Uniform
from ...maintain.base import Maintainer
from ...maintain.unit_renewer import UnitRenewer
from ..nets import ViT
from ..renewal import StackedCBP, StackedReDo
from ..renewal.units import HiddenUnits
from ..studies import Config
from .optimizer import Descent

Counts = dict[str, int]
"""Since the beginning: renewals, renewed (entries), renewed_units, renewed_zero, overlap (entries), mature."""

_COUNTED = ("renewals", "renewed", "renewed_units", "renewed_zero", "overlap", "mature")


class Method(Protocol):
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


class Attached(Perturbed):
    """A maintainer of the library, called by the optimizer.

    Args:
        maintainer: attached already.
        net: what it maintains.
    """

    def __init__(self, maintainer: Maintainer, net: ViT) -> None:
        super().__init__(maintainer)
        self._by_unit = isinstance(maintainer, UnitRenewer)
        self._entries = 2 * net.width + 1 if self._by_unit else 1  # of a unit: incoming, bias, outgoing
        self._tally, self._renewals = maintainer._tally, 0  # its report would wait for the device at each update

    @property
    def watching(self) -> bool:
        return isinstance(self._maintainer, UnitRenewer) and self._maintainer._watching

    def after(self) -> bool:
        before, self._renewals = self._renewals, self._tally.renewals
        return self._renewals > before

    def counts(self) -> Counts:
        tally = self._tally.state_dict()
        renewed, _, zero, overlap, _ = (tally["past"] + tally["last"]).tolist()
        return {
            "renewals": tally["renewals"],
            "renewed": renewed * self._entries,
            "renewed_units": renewed * self._by_unit,
            "renewed_zero": zero,
            "overlap": overlap,
            "mature": int(self._maintainer.report()["mature_units"]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._renewals = self._tally.renewals


class InsideBackward(Nothing):
    """The authors' order: a layer's units are renewed when the gradient comes by their activations.

    What is below it gets its gradient through the new incoming weights, and the optimizer then applies the gradient of
    the old weights to the new ones, so that outgoing weights do not stay 0.

    Args:
        net: the network.
        renewal: for one network.
        law: "initial", that of the network, or "authors": incoming weights from Uniform(+-sqrt(3 / C)), wider than
            initially by sqrt(3), and biases 0.

    Reference:
        The authors' public code for Hernandez-Garcia et al. 2025.
    """

    def __init__(self, net: ViT, renewal: StackedCBP | StackedReDo, law: str) -> None:
        self._renewal, self._net = renewal, _Blocks(net, law)
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
    def _renew(self, i: int, slope: Tensor) -> None:
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
        found = {name: int(count[0]) for name, count in self._renewal.counts.items() if name in _COUNTED}
        found |= {"renewals": self._renewals, "mature": 0 if mature is None else int(mature[0])}
        return dict.fromkeys(_COUNTED, 0) | found

    def state_dict(self) -> dict[str, Any]:
        counts = {name: count.cpu().clone() for name, count in self._renewal.counts.items()}
        own = {"step": self._step, "renewals": self._renewals, "counts": counts}
        return own | {"renewal": self._renewal.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self._renewals = state["step"], state["renewals"]
        for name, count in self._renewal.counts.items():
            count.copy_(state["counts"][name])
        self._renewal.load_state_dict(state["renewal"])


class _Blocks:
    """A vision transformer as a stack of one network, whose units are those of its MLPs."""

    def __init__(self, net: ViT, law: str) -> None:
        # `.data` has no count of its changes, or the backward pass would refuse to go on through a changed weight.
        self.parameters = {name: p.data.unsqueeze(0) for name, p in net.named_parameters()}
        self.laws: dict[str, Law] = net.init_laws()
        self.units: list[HiddenUnits] = []
        self.gelus: list[nn.Module] = []
        self.seen: dict[int, Tensor] = {}  # activations (B, T, H) of the batch just shown
        wide = (3 / net.width) ** 0.5
        for i, block in enumerate(net.blocks):
            into, out = f"blocks.{i}.mlp.fc1", f"blocks.{i}.mlp.fc2"
            self.units.append(HiddenUnits(into, (f"{into}.weight", f"{into}.bias"), f"{out}.weight"))
            self.gelus.append(block.mlp.gelu)  # type: ignore[union-attr, arg-type]
            if law == "authors":
                self.laws |= {f"{into}.weight": Uniform(-wide, wide), f"{into}.bias": Constant(0.0)}

    def activity(self, i: int, read: str, members: Tensor) -> Tensor:
        """Mean |h| over images and tokens, (1, H)."""
        del read, members
        return self.seen[i].abs().float().mean((0, 1)).unsqueeze(0)


def make_method(system: str, net: ViT, config: Config, seed: int, descent: Descent) -> Method:
    """What a system does to a network besides learning; to be made before it learns.

    Args:
        system: of `regrow.lab.studies.VIT_SYSTEMS`.
        net: the network.
        config: the system's.
        seed: of its random numbers.
        descent: whose optimizer calls it.
    """
    knobs: dict[str, Any] = dict(config)
    own = {"swr": ("every", "factor", "utility", "prune", "reinit")}
    own |= {"cbp": ("replacement_rate", "maturity", "utility"), "redo": ("every", "threshold", "utility")}
    name, _, inside = system.partition("-")
    if system == "shrink-perturb":
        noise = maintain.ShrinkPerturb(net, noise_variance=knobs["noise_variance"], seed=seed)
        return Perturbed(noise.attach(descent.optimizer))  # the optimizer's decay shrinks
    if name not in own:
        return Nothing()
    if inside:
        return InsideBackward(net, _renewal(name, net, config, seed), knobs["law"])
    kinds: dict[str, Callable[..., Maintainer]] = {"cbp": maintain.ContinualBackprop, "redo": maintain.ReDo}
    kinds |= {"swr": functools.partial(maintain.SWR, track_overlap=True)}
    # The authors leave the momentum of what is renewed as it is.
    chosen = {knob: knobs[knob] for knob in own[name]}
    maintainer = kinds[name](net, **chosen, laws="modules", clear_moments=False, seed=seed)
    return Attached(maintainer.attach(descent.optimizer), net)


def _renewal(name: str, net: ViT, config: Config, seed: int) -> StackedCBP | StackedReDo:
    members: tuple[Sequence[int], Sequence[Config], Sequence[int], torch.device] = (
        [0], [config], [seed], net.head.weight.device,
    )  # fmt: skip
    return StackedCBP(*members, widths=[net.mlp] * len(net.blocks)) if name == "cbp" else StackedReDo(*members)
