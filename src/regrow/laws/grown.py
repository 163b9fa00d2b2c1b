"""The law of a tensor that has grown or shrunk."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from ..names import Entry
from . import fit
from .distributions import Law, Normal, Uniform
from .tabulated import Orthogonal, TruncatedNormal
from .torch_defaults import fans, module_law

_CLOSE = 1e-6  # relative: a law that comes from a formula has its scale to rounding


def grown_laws(entries: list[Entry], laws: Mapping[str, Law], shapes: Mapping[str, torch.Size]) -> dict[str, Law]:
    """Carry laws over to parameters whose tensors have changed size.

    A law belongs to a name. It stays the same while the fan-in does: a head with more outputs, an embedding with more
    rows. If the fan-in changes, a law whose scale is a formula of `torch.nn.init` is evaluated at the new fan-in, and
    so is the law of the bias of the same module; any other law stays.

    Args:
        entries: the parameters as they are now.
        laws: {name: law} before the growth; names without one are left out of the result.
        shapes: {name: shape} before the growth.

    Returns:
        {name: law} of the entries that have a law and a shape there.

    Example:
        >>> from torch import nn
        >>> from regrow.laws import init_laws
        >>> from regrow.names import walk
        >>> old, new = nn.Linear(4, 2), nn.Linear(16, 5)
        >>> grown_laws(walk(new), init_laws(old), {name: p.shape for name, p in old.named_parameters()})
        {'weight': Uniform(low=-0.25, high=0.25), 'bias': Uniform(low=-0.25, high=0.25)}
    """
    now = {entry.name: entry.parameter.shape for entry in entries}
    grown: dict[str, Law] = {}
    for entry in entries:
        if entry.name in laws and entry.name in shapes:
            weight = entry.name.removesuffix(entry.attribute) + "weight"
            of = weight if len(now[entry.name]) == 1 and weight in now and weight in shapes else entry.name
            grown[entry.name] = grown_law(laws[entry.name], shapes[of], now[of], module_law(entry))
    return grown


def grown_law(law: Law, old: torch.Size, new: torch.Size, usual: Law | None = None) -> Law:
    """The law of a weight whose shape has changed.

    Args:
        law: before the growth.
        old, new: shapes; for a bias, those of its module's weight.
        usual: the law of its module type at the new shape; it decides if several formulas fit.

    Example:
        >>> grown_law(Normal(0, 0.02), torch.Size([10, 64]), torch.Size([10, 128]))
        Normal(mean=0, std=0.02)
        >>> grown_law(Normal(0, 0.25), torch.Size([10, 32]), torch.Size([10, 128]))
        Normal(mean=0, std=0.125)
    """
    if old == new or len(old) < 2 or len(new) < 2:
        return law
    if isinstance(law, Orthogonal):
        return replace(law, size=max(new[0], new[1:].numel()))
    if fans(old)[0] == fans(new)[0] or law.mean != 0:
        return law
    factor = _factor(law, old, new, usual)
    if isinstance(law, Normal):
        return Normal(0.0, law.std * factor)
    if isinstance(law, Uniform):
        return Uniform(law.low * factor, law.high * factor)
    if isinstance(law, TruncatedNormal):
        return TruncatedNormal(0.0, law.scale * factor, law.low * factor, law.high * factor)
    return law


def _factor(law: Law, old: torch.Size, new: torch.Size, usual: Law | None) -> float:
    """By how much the formula behind the law's scale changes; 1 if there is none."""
    pairs = zip(fit.formulas(old, ""), fit.formulas(new, ""), strict=True)
    fitting = [(before, after) for (before, _), (after, _) in pairs if abs(before - law.std) <= _CLOSE * before]
    for before, after in fitting:
        if usual is not None and type(usual) is type(law) and abs(after - usual.std) <= _CLOSE * after:
            return after / before
    if any(abs(plain - scale) <= _CLOSE * plain for plain in fit.PLAIN for scale in _scales(law)):
        return 1.0
    return fitting[0][1] / fitting[0][0] if fitting else 1.0


def _scales(law: Law) -> tuple[float, ...]:
    """The number that a user would have given for the scale."""
    if isinstance(law, TruncatedNormal):
        return (law.scale,)
    return (law.support[1],) if isinstance(law, Uniform) else (law.std,)
