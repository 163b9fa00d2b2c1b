"""The methods of the registry as the library offers them: `regrow.SWR(model, every=…)` and its sisters."""

import inspect
import re
import textwrap
from typing import Any

from torch import nn

from ..methods import Method, knobs_of
from .base import Maintainer

_KNOB, _POSITIONAL = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
_COMMON = {
    "units": "list of `regrow.Units`; None: `regrow.find_units(model)`.",
    "laws": '{name pattern: law} for parameters whose law you give, or the source of all: "auto", "modules", "values".',
    "only": 'name patterns (`"encoder.*"`, or a module\'s name for all in it) of what to maintain; of a method that '
    "renews units, of the layers' incoming weights.",
    "skip": "name patterns of what to leave out.",
    "optimizer": "where to clear moments if you call `step()` yourself; `attach` sets it.",
    "clear_moments": '"zero": first and second moments of renewed entries become 0; True: first moments 0, second '
    'moments the mean over the tensor\'s kept entries; "restart": both 0, and steps as long as those of a new Adam; '
    "False: both stay (the authors').",
    "seed": "keys all random numbers, >= 0; None: from `torch.initial_seed()` and the initial parameters, of rank 0.",
    "track_overlap": "keep a bit per weight and report how much of a renewal the one before renewed as well.",
    "state": "from `state_dict()`, to go on from; its laws win, so that none is read off trained values.",
}
"""What arguments that several methods share mean."""


def front_end(method: type[Method]) -> type[Maintainer]:
    """The class of maintainers of a method, which takes the method's knobs among its arguments.

    Example:
        >>> from regrow.methods import SWR
        >>> front_end(SWR).__name__, list(inspect.signature(front_end(SWR)).parameters)[:3]
        ('SWR', ['model', 'every', 'factor'])
    """
    signature = _signature(method)

    def __init__(self: Maintainer, *arguments: Any, **options: Any) -> None:
        try:
            given = signature.bind(*arguments, **options).arguments
        except TypeError as error:
            raise TypeError(f"{method.__name__}: {error}") from None
        knobs = {name: given.pop(name) for name in list(given) if name in knobs_of(method)}
        Maintainer.__init__(self, given.pop("model"), method(**knobs), **given)

    # What help() and editors at work show.
    __init__.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[inspect.Parameter("self", _POSITIONAL), *signature.parameters.values()]
    )
    own = {"__init__": __init__, "__doc__": _documentation(method, signature), "__module__": "regrow"}
    return type(method.__name__, (Maintainer,), own | {"__signature__": signature})


def _signature(method: type[Method]) -> inspect.Signature:
    parameters = [inspect.Parameter("model", _POSITIONAL, annotation=nn.Module)]
    for name, knob in knobs_of(method).items():
        if not knob.laboratory:
            default = inspect.Parameter.empty if knob.required else knob.default
            parameters.append(inspect.Parameter(name, _KNOB, default=default, annotation=knob.type))
    defaults = inspect.signature(Maintainer).parameters
    for name in _COMMON:
        if _takes(method, name):
            parameters.append(defaults[name])
    return inspect.Signature(parameters)


def _takes(method: type[Method], name: str) -> bool:
    """Does an argument that several methods share make sense for this one?"""
    needs = {
        "units": method.by_unit,
        "laws": method.draws,
        "optimizer": method.renews,
        "clear_moments": method.renews,
        "track_overlap": method.renews and not method.by_unit,
    }
    return needs.get(name, True)


def _documentation(method: type[Method], signature: inspect.Signature) -> str:
    """The method's docstring, with its arguments put in before what is raised, the example and the reference."""
    text = inspect.cleandoc(method.__doc__ or "")
    lines = [
        "Args:",
        "    model: any module; make this before training, because its parameters' laws are determined now.",
    ]
    for name in list(signature.parameters)[1:]:
        knob = knobs_of(method).get(name)
        means = _COMMON[name] if knob is None else knob.text
        lines += textwrap.wrap(f"{name}: {means}", 112, initial_indent="    ", subsequent_indent="        ")
    start = re.search(r"^(Raises|Example|Reference):", text, re.MULTILINE)
    at = start.start() if start else len(text)
    return f"{text[:at].rstrip()}\n\n" + "\n".join(lines) + f"\n\n{text[at:]}".rstrip()
