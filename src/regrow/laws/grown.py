"""The law of a tensor that changed its size."""

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
    """The laws of parameters whose tensors have changed their sizes, from those they had.

    A law belongs to a name. It stays where the fan-in stays: a head that gets more outputs, an embedding with more
    rows. Where the fan-in is another, a law whose scale is a formula of `torch.nn.init` gets the same formula's at the
    new one, and so does that of the bias beside it; any other law stays.

    Args:
        entries: the parameters as they are now.
        laws: {name: law} as they were; names without one are left out of the answer.
        shapes: {name: shape} as they were.

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
    found: dict[str, Law] = {}
    for entry in entries:
        if entry.name in laws and entry.name in shapes:
            weight = entry.name.removesuffix(entry.attribute) + "weight"
            of = weight if len(now[entry.name]) == 1 and weight in now and weight in shapes else entry.name
            found[entry.name] = grown_law(laws[entry.name], shapes[of], now[of], module_law(entry))
    return found


def grown_law(law: Law, old: torch.Size, new: torch.Size, usual: Law | None = None) -> Law:
    """The law of a weight that had one shape and has another.

    Args:
        law: as it was.
        old, new: shapes; of a bias those of the weight beside it.
        usual: the law of its module type at the new shape, which decides where several formulas fit.

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
    """How much larger the formula is that gives the law its scale; 1 where it comes from none."""
    pairs = zip(fit.formulas(old, ""), fit.formulas(new, ""), strict=True)
    fitting = [(before, after) for (before, _), (after, _) in pairs if abs(before - law.std) <= _CLOSE * before]
    for before, after in fitting:
        if usual is not None and type(usual) is type(law) and abs(after - usual.std) <= _CLOSE * after:
            return after / before
    if any(abs(plain - scale) <= _CLOSE * plain for plain in fit.PLAIN for scale in _scales(law)):
        return 1.0
    return fitting[0][1] / fitting[0][0] if fitting else 1.0


def _scales(law: Law) -> tuple[float, ...]:
    """The numbers by which a law would have been given, without a formula."""
    if isinstance(law, TruncatedNormal):
        return (law.scale,)
    return (law.support[1],) if isinstance(law, Uniform) else (law.std,)
