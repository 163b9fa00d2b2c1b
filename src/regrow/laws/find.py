"""Which law was each parameter of a model initialised from?"""

import warnings
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..names import Entry, walk
from ..shards import as_made
from . import fit
from .declared import Declared
from .distributions import Law
from .grown import grown_law
from .library_defaults import module_laws
from .tabulated import bind

SOURCES = ("auto", "modules", "values")
T = TypeVar("T")
_SHOWN = 8  # names listed in a message


def init_laws(model: nn.Module, source: str = "auto") -> dict[str, Law]:
    """The law that each parameter of a model was initialised from.

    Call it on a fresh model: the values of a trained one say nothing of how it was initialised.

    Args:
        model: any module, wrapped or not; of a pre-trained one a fresh twin, `type(model)(model.config)`.
        source: where to look.
            "auto": for each parameter the first of: the `init_laws()` method of its module or the nearest one above;
            the law of its module type, unless the values contradict it (Kolmogorov-Smirnov p < 1e-6); a law fitted to
            the values, named in a warning, its scale that of a `torch.nn.init` formula within 4 standard errors.
            "modules": the first two only; no value is looked at. Right where nobody initialised the layers anew.
            "values": the fit only.

    Returns:
        {name: law}, in the order of `model.named_parameters()`, without `_orig_mod.` or a wrapper's `module.`; a tied
        parameter under its first name. Frozen parameters without a law are left out.

    Raises:
        ValueError: for an unknown source, a lazy module that has not seen data, or parameters without a law.
        TypeError: where an `init_laws()` method returns anything but a mapping from names to laws.

    Example:
        >>> from torch import nn
        >>> init_laws(nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2, bias=False)))
        {'0.weight': Uniform(low=-0.5, high=0.5), '0.bias': Uniform(low=-0.5, high=0.5), '1.weight': Constant(value=1)}
    """
    return resolve_laws(walk(model), source)


Given = Mapping[str, "Law | str | nn.Module"] | str | nn.Module | None
"""What a user may give as `laws`."""


@dataclass(frozen=True)
class Resolved:
    """The laws of some parameters, and why others have none.

    Args:
        laws: {name: law}, in the order of the parameters.
        problems: {name: why it has no law}, of trainable parameters.
        guesses: {name: law and formula}, for laws fitted to the values.
    """

    laws: dict[str, Law]
    problems: dict[str, str]
    guesses: dict[str, str]

    def without(self, names: Container[str]) -> "Resolved":
        """The same without these names, whose laws are already known."""
        return Resolved(_without(self.laws, names), _without(self.problems, names), _without(self.guesses, names))

    def settle(self, stacklevel: int = 1) -> dict[str, Law]:
        """The laws, if every parameter has one; a warning lists the guesses.

        Raises:
            ValueError: for parameters without a law.
        """
        if self.problems:
            name, why = next(iter(self.problems.items()))
            others = list(self.problems)[1:]
            more = f" ({len(others)} more: {_list(others)})" if others else ""
            raise ValueError(f"no law for {name!r}{more}, {why}")
        if self.guesses:
            warnings.warn(_guess(self.guesses), stacklevel=stacklevel + 1)
        return self.laws


def _without(part: dict[str, T], names: Container[str]) -> dict[str, T]:
    return {name: value for name, value in part.items() if name not in names}


def resolve_laws(entries: list[Entry], laws: Given = None, among: list[Entry] | None = None) -> dict[str, Law]:
    """The laws of some parameters, by what the user gave and then by `init_laws`.

    Args:
        entries: from `names.walk`.
        laws: a source of `init_laws` for all; a fresh module, whose parameters of the same names have them; or
            {pattern: law, source or fresh module}, where the first pattern that matches decides and the rest is looked
            up with "auto". None: "auto" for all.
        among: the entries that patterns may match; one that matches none is an error. None: `entries`.

    Returns:
        {name: law}; frozen parameters without a law are left out.

    Raises:
        ValueError: as `init_laws`, and for a pattern that matches no parameter.
        TypeError: as `init_laws`, and for a value that is no law.

    Example:
        >>> from torch import nn
        >>> from regrow.laws import Normal
        >>> resolve_laws(walk(nn.Linear(4, 2)), {"bias": Normal(std=0.1), "*": "modules"})
        {'weight': Uniform(low=-0.5, high=0.5), 'bias': Normal(mean=0, std=0.1)}
    """
    return look_up_laws(entries, laws, among).settle(stacklevel=3)


def look_up_laws(
    entries: list[Entry], laws: Given = None, among: list[Entry] | None = None, frozen: bool = False
) -> Resolved:
    """Like `resolve_laws`, but reports parameters without a law, and guesses, instead of raising and warning.

    A parameter may have no law yet: it is on the meta device, its lazy module has seen no data, or its values are
    already trained. Look it up again later, or take its law from a stored state.

    Args:
        entries, laws, among: as for `resolve_laws`.
        frozen: fit frozen parameters too, and report those without a law.

    Raises:
        ValueError, TypeError: for what the user gave, as `resolve_laws`; never for a parameter without a law.

    Example:
        >>> from torch import nn
        >>> resolved = look_up_laws(walk(nn.Sequential(nn.Linear(4, 2), nn.LazyLinear(3))))
        >>> list(resolved.laws), list(resolved.problems)
        (['0.weight', '0.bias'], ['1.weight', '1.bias'])
    """
    with as_made(module for e in entries for home in (e, *e.aliases) for _, module in home.ancestors):
        return _look_up(entries, laws, among, frozen)


def _look_up(entries: list[Entry], laws: Given, among: list[Entry] | None, frozen: bool) -> Resolved:
    rules = _rules(laws, entries if among is None else among)
    declared = Declared()
    fresh = {id(rule): _Fresh(rule) for rule in rules.values() if isinstance(rule, nn.Module)}
    result = Resolved({}, {}, {})
    for entry in entries:
        rule = next((rule for pattern, rule in rules.items() if entry.matches(pattern)), "auto")
        wanted = frozen or entry.parameter.requires_grad
        if torch.nn.parameter.is_lazy(entry.parameter):
            problem = "no shape yet, since its module is lazy: run one batch through the model"
        elif isinstance(rule, nn.Module):
            problem = fresh[id(rule)].give(entry, result.laws)
        else:
            problem = _give(entry, rule, declared, wanted, result)
        if problem and wanted:
            result.problems[entry.name] = problem
    return result


def _give(entry: Entry, rule: Law | str, declared: Declared, wanted: bool, result: Resolved) -> str:
    """Record the law that a rule gives to a parameter, or return why there is none."""
    law = rule if isinstance(rule, Law) else _without_fit(entry, rule, declared)
    if law is None and wanted and rule != "modules":
        fitted = _fitted(entry)
        if fitted is not None:
            law, formula = fitted
            result.guesses[entry.name] = f"{law!r}{f' ({formula})' if formula else ''}"
    if law is None:
        return _no_law(entry, str(rule))
    result.laws[entry.name] = _bound(law, entry)
    return ""


class _Fresh:
    """The laws of a fresh module, by name; looked up once."""

    def __init__(self, module: nn.Module) -> None:
        self._entries = {home.name: entry for entry in walk(module) for home in (entry, *entry.aliases)}
        self._resolved = look_up_laws(list({id(e): e for e in self._entries.values()}.values()), frozen=True)
        self._kind = type(module).__name__

    def give(self, entry: Entry, laws: dict[str, Law]) -> str:
        """Record the law of the parameter of the same name, or return why there is none."""
        name = next((home.name for home in (entry, *entry.aliases) if home.name in self._entries), None)
        if name is None:
            return (
                f"for the {self._kind} given as `laws` has no parameter of that name: make it as the model was made, "
                f'or give laws={{{entry.name!r}: ..., "*": fresh}}, or leave it out with skip={entry.name!r}'
            )
        twin = self._entries[name]
        if twin.parameter is entry.parameter:
            raise ValueError("`laws` must be a fresh module, made as the model was; got the model itself")
        law = self._resolved.laws.get(twin.name)
        if law is None:
            return self._resolved.problems.get(twin.name, f"for the {self._kind} given as `laws` has no law for it")
        laws[entry.name] = grown_law(law, twin.parameter.shape, entry.parameter.shape)
        return ""


def _rules(laws: Given, entries: list[Entry]) -> Mapping[str, Law | str | nn.Module]:
    """Patterns to laws, sources and fresh modules, checked."""
    if laws is None or isinstance(laws, (str, nn.Module)):
        laws = {"*": "auto" if laws is None else laws}
    if not isinstance(laws, Mapping):
        raise TypeError(
            "`laws` must be a mapping from name patterns to laws, a source, or a fresh module; got "
            f"{type(laws).__name__}"
        )
    for pattern, rule in laws.items():
        if not isinstance(rule, (Law, str, nn.Module)):
            raise TypeError(f"laws: {pattern!r} must be given a law of regrow.laws; got {type(rule).__name__}")
        if isinstance(rule, str) and rule not in SOURCES:
            raise ValueError(f"the source of laws must be one of {', '.join(map(repr, SOURCES))}; got {rule!r}")
        if pattern != "*" and not any(entry.matches(pattern) for entry in entries):
            names = _list(entry.name for entry in entries)
            raise ValueError(f"laws: pattern {pattern!r} matches no parameter; the parameters are {names}")
    return laws


def _without_fit(entry: Entry, source: str, declared: Declared) -> Law | None:
    """What the modules say, unless the values contradict a module type's law."""
    if source == "values":
        return None
    if (law := declared(entry)) is not None:
        return law
    homes = (entry, *entry.aliases)
    laws = list(dict.fromkeys(law for home in homes for law in module_laws(home, checked=source == "auto")))
    if source == "modules" or not laws:
        return laws[0] if laws else None
    values = _values(entry)
    if values is None:
        return laws[0]
    return next((law for law in laws if not fit.contradicts(values, law, fit.rounding(entry.parameter))), None)


def _fitted(entry: Entry) -> tuple[Law, str] | None:
    values = _values(entry)
    return None if values is None else fit.fit(entry.parameter, values)


def _values(entry: Entry) -> Tensor | None:
    """Values to compare with a law; None on the meta device, or if they are not real numbers."""
    parameter = entry.parameter
    if parameter.is_meta or not parameter.is_floating_point():
        return None
    padded = isinstance(entry.module, (nn.Embedding, nn.EmbeddingBag)) and entry.attribute == "weight"
    return fit.sample(parameter, entry.module.padding_idx if padded else None)  # type: ignore[arg-type]


def _bound(law: Law, entry: Entry) -> Law:
    try:
        return bind(law, entry.parameter.shape)
    except ValueError as error:
        raise ValueError(f"laws: {entry.name!r} cannot have this law: {error}") from None


def _no_law(entry: Entry, source: str) -> str:
    """Why a parameter has no law, and what to do."""
    why = f"its module type, {type(entry.module).__name__}, gives none"
    if source == "values":
        why = "its values fit no known law"
    elif source == "auto":
        why += ", or one that its values contradict, and they fit no other"
    return (
        f"shape {tuple(entry.parameter.shape)}: {why}. Give laws={{{entry.name!r}: ...}}; or an init_laws() "
        "method to its module; or, for a pre-trained model, a fresh one, laws=type(model)(model.config) or however it "
        f"was made; or leave it out with skip={entry.name!r}"
    )


def _guess(guesses: Mapping[str, str]) -> str:
    """The warning about laws that were fitted to values."""
    names: dict[str, list[str]] = {}
    for name, law in guesses.items():
        names.setdefault(law, []).append(name)
    taken = "; ".join(f"{law} for {_list(alike)}" for law, alike in names.items())
    return (
        f"laws read off the values, for want of one from the module: {taken}. Right for a fresh model; give "
        "laws={...} to settle them, or, if the model is pre-trained, a fresh one: laws=type(model)(model.config)"
    )


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
