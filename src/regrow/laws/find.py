"""Which law was each parameter of a model initialised from?"""

import warnings
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..names import Entry, walk
from . import fit
from .distributions import Law
from .tabulated import bind
from .torch_defaults import module_law

SOURCES = ("auto", "modules", "values")
_SHOWN = 8  # names listed in a message


def init_laws(model: nn.Module, source: str = "auto") -> dict[str, Law]:
    """The law that each parameter of a model was initialised from.

    Call it on a fresh model. The values of a pre-trained one say nothing of how it was initialised: it must be read
    with `source="modules"`, or the laws would describe the trained weights.

    Args:
        model: any module, wrapped or not.
        source: where to look.
            "auto": for each parameter the first of: the `init_laws()` method of its module or the nearest one above;
            the law of its module type, unless the values contradict it (Kolmogorov-Smirnov p < 1e-6); a law fitted to
            the values, named in a warning, its scale that of a `torch.nn.init` formula within 4 standard errors.
            "modules": the first two only; no value is looked at.
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


def resolve_laws(
    entries: list[Entry], laws: Mapping[str, Law | str] | str | None = None, among: list[Entry] | None = None
) -> dict[str, Law]:
    """The laws of some parameters, by what the user gave and then by `init_laws`.

    Args:
        entries: from `names.walk`.
        laws: a source of `init_laws` for all, or {pattern: law or source}; the first pattern that matches decides,
            and what none matches is looked up with "auto". None: "auto" for all.
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
    rules = _rules(laws, entries if among is None else among)
    declared = _Declared()
    found: dict[str, Law] = {}
    fitted: dict[str, list[str]] = {}
    lost: dict[str, str] = {}
    for entry in entries:
        if torch.nn.parameter.is_lazy(entry.parameter):
            raise ValueError(f"{entry.name!r} has no shape yet: run one batch through the model (its module is lazy)")
        rule = next((rule for pattern, rule in rules.items() if entry.matches(pattern)), "auto")
        law = rule if isinstance(rule, Law) else _without_fit(entry, rule, declared)
        if law is None and entry.parameter.requires_grad:
            fit_found = _fitted(entry) if rule != "modules" else None
            if fit_found is None:
                lost[entry.name] = str(rule)
                continue
            law, formula = fit_found
            fitted.setdefault(f"{law!r}{f' ({formula})' if formula else ''}", []).append(entry.name)
        if law is not None:
            found[entry.name] = _bound(law, entry)
    if lost:
        raise ValueError(_no_law(entries, lost))
    if fitted:
        warnings.warn(_guess(fitted), stacklevel=3)
    return found


def _rules(laws: Mapping[str, Law | str] | str | None, entries: list[Entry]) -> Mapping[str, Law | str]:
    """Patterns to laws and sources, checked."""
    if laws is None or isinstance(laws, str):
        laws = {"*": "auto" if laws is None else laws}
    if not isinstance(laws, Mapping):
        raise TypeError(f"`laws` must be a mapping from name patterns to laws, or a source; got {type(laws).__name__}")
    for pattern, rule in laws.items():
        if not isinstance(rule, (Law, str)):
            raise TypeError(f"laws: {pattern!r} must be given a law of regrow.laws; got {type(rule).__name__}")
        if isinstance(rule, str) and rule not in SOURCES:
            raise ValueError(f"the source of laws must be one of {', '.join(map(repr, SOURCES))}; got {rule!r}")
        if pattern != "*" and not any(entry.matches(pattern) for entry in entries):
            names = _list(entry.name for entry in entries)
            raise ValueError(f"laws: pattern {pattern!r} matches no parameter; the parameters are {names}")
    return laws


class _Declared:
    """The laws that modules declare in `init_laws()` methods, each called once."""

    def __init__(self) -> None:
        self._known: dict[nn.Module, Mapping[str, Law]] = {}

    def __call__(self, entry: Entry) -> Law | None:
        """The law in the nearest module that names the parameter."""
        for home in (entry, *entry.aliases):
            for name, module in home.ancestors:
                if name in (laws := self._of(module)):
                    return laws[name]
        return None

    def _of(self, module: nn.Module) -> Mapping[str, Law]:
        if module not in self._known:
            method = getattr(module, "init_laws", None)
            laws = method() if callable(method) else {}
            rule = f"{type(module).__name__}.init_laws() must return a mapping from parameter names to laws"
            if not isinstance(laws, Mapping):
                raise TypeError(f"{rule}; got {type(laws).__name__}")
            for name, law in laws.items():
                if not isinstance(law, Law):
                    raise TypeError(f"{rule}; got {type(law).__name__} for {name!r}")
                if not hasattr(module, name.split(".")[0]):
                    raise ValueError(f"{rule}; it has no {name!r}")
            self._known[module] = laws
        return self._known[module]


def _without_fit(entry: Entry, source: str, declared: _Declared) -> Law | None:
    """What the modules say, unless the values contradict a module type's law."""
    if source == "values":
        return None
    if (law := declared(entry)) is not None:
        return law
    laws = [law for home in (entry, *entry.aliases) if (law := module_law(home)) is not None]
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
    """Values to judge a law by, None where there are none: on the meta device, or not real numbers."""
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


def _no_law(entries: list[Entry], lost: Mapping[str, str]) -> str:
    """What to say of parameters without a law."""
    name, source = next(iter(lost.items()))
    entry = next(entry for entry in entries if entry.name == name)
    why = f"its module type, {type(entry.module).__name__}, gives none"
    if source == "values":
        why = "its values fit no known law"
    elif source == "auto":
        why += ", or one that its values contradict, and they fit no other"
    others = f" ({len(lost) - 1} more: {_list(list(lost)[1:])})" if len(lost) > 1 else ""
    return (
        f"no law for {name!r}, shape {tuple(entry.parameter.shape)}{others}: {why}. Give laws={{{name!r}: ...}}; "
        'or an init_laws() method to its module; or, for a pre-trained model, source="modules" (laws="modules" '
        f"of a maintainer); or leave it out with skip={name!r}"
    )


def _guess(fitted: Mapping[str, list[str]]) -> str:
    """What to say of parameters whose law was read off their values."""
    taken = "; ".join(f"{law} for {_list(names)}" for law, names in fitted.items())
    return (
        f"laws read off the values, for want of one from the module: {taken}. Right for a fresh model; give "
        'laws={...} to settle them, or source="modules" (laws="modules" of a maintainer) if the model is pre-trained'
    )


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
