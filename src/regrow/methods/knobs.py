"""The knobs (hyper-parameters) of a method, each defined once: its range, its default and its meaning.

A method is a frozen dataclass whose fields are made here. Constructors, messages, configs of the laboratory, tables of
values and the documentation read the same fields.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

import torch

from .. import check

_KEY = "knob"
T = TypeVar("T")


@dataclass(frozen=True)
class Knob:
    """The definition of one knob.

    kind: "number", "whole", "flag", "choice" or, a choice for all or by name patterns, "policy".
    meaning: one line, as error messages quote it.
    default: `dataclasses.MISSING` where a value must be given.
    low, high: range of a number, inclusive. choices: the allowed strings.
    unless: (name, value, high, meaning): while the knob of that name has that value, this high and meaning apply.
    config: its key in a config of the laboratory, if it differs from its name.
    laboratory: whether only the laboratory offers it, as a control.
    note: more, for the documentation.
    """

    kind: str
    meaning: str
    default: Any = MISSING
    low: float = 0
    high: float = math.inf
    choices: tuple[str, ...] = ()
    unless: tuple[str, str, float, str] | None = None
    config: str = ""
    laboratory: bool = False
    note: str = ""

    def check(self, name: str, value: object, others: Mapping[str, Any]) -> Any:
        """The value, if it is in range; `name` is what the message calls it."""
        if self.kind == "policy" and isinstance(value, Mapping):
            for pattern, chosen in value.items():
                check.patterns(name, pattern)
                check.choice(f"{name}[{pattern!r}]", chosen, self.choices)
            return dict(value)
        if self.kind in ("choice", "policy"):
            return check.choice(name, value, self.choices)
        if self.kind == "flag":
            return check.flag(name, value)
        if self.kind == "whole":
            return check.whole(name, value, int(self.low), self.meaning)
        high, meaning = self.high, self.meaning
        if self.unless and others.get(self.unless[0]) == self.unless[1]:
            _, _, high, meaning = self.unless
        return check.number(name, value, self.low, high, meaning)

    @property
    def required(self) -> bool:
        """Must a value be given?"""
        return self.default is MISSING

    @property
    def type(self) -> type:
        """The type of its values."""
        return {"number": float, "whole": int, "flag": bool, "choice": str, "policy": str}[self.kind]

    @property
    def of_numbers(self) -> bool:
        """May members that act together differ in it?"""
        return self.kind in ("number", "whole")

    @property
    def range(self) -> str:
        """The range in words."""
        if self.kind == "flag":
            return "True or False"
        if not self.of_numbers:
            choices = " or ".join(map(repr, self.choices)).replace(" or ", ", ", len(self.choices) - 2)
            return f"{choices}, or {{name pattern: one of them}}" if self.kind == "policy" else choices
        if self.kind == "whole":
            return f"a whole number, at least {self.low}"
        return f"in [{self.low:g}, {self.high:g}]" if math.isfinite(self.high) else f"at least {self.low:g}"

    @property
    def text(self) -> str:
        """Meaning, range and note, for documentation."""
        text = f"{self.meaning}, {self.range}"
        if self.unless:
            other, value, high, meaning = self.unless
            text += f"; with {other}={value!r} {meaning}, in [{self.low:g}, {high:g}]"
        return f"{text}. {self.note}".rstrip(" ") if self.note else f"{text}."


def number(low: float, high: float, meaning: str, default: Any = MISSING, **more: Any) -> Any:
    """A knob that is a number in [low, high].

    Args:
        low, high: the range, inclusive; a high of `math.inf` is no limit.
        meaning: one line, quoted by error messages and the documentation.
        default: the value if none is given; without a default, a value is required.
        more: other fields of `Knob`, such as `note`.

    Returns:
        A field of a dataclass.

    Example:
        >>> import regrow
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Halve(regrow.methods.Method):
        ...     share: float = number(0, 1, "of every weight", 0.5)
        ...     def act(self, members): ...
        >>> Halve(share=2)
        Traceback (most recent call last):
        ValueError: `share` must be in [0, 1] (of every weight); got 2
    """
    return _field(Knob("number", meaning, default, low, high, **more))


def whole(low: int, meaning: str, default: Any = MISSING, **more: Any) -> Any:
    """A knob that is a whole number of at least `low`.

    Args:
        low: the smallest value.
        meaning, default, more: as for `number`.

    Returns:
        A field of a dataclass.
    """
    return _field(Knob("whole", meaning, default, low, **more))


def choice(choices: Sequence[str], meaning: str, default: Any = MISSING, **more: Any) -> Any:
    """A knob that is one of several strings.

    Args:
        choices: the strings.
        meaning, default, more: as for `number`.

    Returns:
        A field of a dataclass.
    """
    return _field(Knob("choice", meaning, default, choices=tuple(choices), **more))


def flag(meaning: str, default: Any = MISSING, **more: Any) -> Any:
    """A knob that is True or False.

    Args:
        meaning, default, more: as for `number`.

    Returns:
        A field of a dataclass.
    """
    return _field(Knob("flag", meaning, default, **more))


def policy(choices: Sequence[str], meaning: str, default: Any = MISSING, **more: Any) -> Any:
    """A knob that is one of several texts, or {name pattern: text}, where the first that matches decides.

    Args:
        choices: the texts.
        meaning, default, more: as for `number`.

    Returns:
        A field of a dataclass.
    """
    return _field(Knob("policy", meaning, default, choices=tuple(choices), **more))


def _field(knob: Knob) -> Any:
    return dataclasses.field(default=knob.default, metadata={_KEY: knob})


def knobs_of(method: Any) -> dict[str, Knob]:
    """The knobs of a method or of its class, by name, in order."""
    return {f.name: f.metadata[_KEY] for f in dataclasses.fields(method) if _KEY in f.metadata}


def check_all(method: Any) -> None:
    """Check every knob of a method that is being made, and keep the values as plain Python numbers."""
    kind = type(method)
    for name, value in vars(kind).items():
        if isinstance(value, dataclasses.Field):
            raise TypeError(
                f"{kind.__name__} has the knob {name!r} but is no dataclass: write @dataclass(frozen=True, "
                "kw_only=True) above it"
            )
    values = {name: getattr(method, name) for name in knobs_of(method)}
    for name, knob in knobs_of(method).items():
        object.__setattr__(method, name, knob.check(name, values[name], values))


def together(methods: Sequence[T], device: torch.device) -> T:
    """The methods of several members as one: a number in which they differ is a float64 tensor (k).

    All else must be equal: members that differ in it act one after the other.
    """
    first = methods[0]
    if len(methods) == 1:
        return first
    both = copy.copy(first)
    for name, knob in knobs_of(first).items():
        values = [getattr(method, name) for method in methods]
        alike = not knob.of_numbers or all(value == values[0] for value in values)
        one = values[0] if alike else torch.tensor(values, dtype=torch.float64, device=device)
        object.__setattr__(both, name, one)
    return both


def texts(method: Any) -> tuple[str, ...]:
    """All but the numbers, as text: what members that act together must share."""
    knobs = knobs_of(method)
    own = [str(getattr(method, name)) for name, knob in knobs.items() if not knob.of_numbers]
    others = [repr(getattr(method, f.name)) for f in dataclasses.fields(method) if f.name not in knobs]
    return (*own, *others, str(method.observes))


def from_config(method: type[T], config: Mapping[str, Any], where: str = "") -> T:
    """A method with the values in a config of the laboratory; other keys are ignored.

    Args:
        method: its class.
        config: flat, as it goes into JSON.
        where: how messages call the config, e.g. "members[3].config".

    Raises:
        ValueError, TypeError: for a missing knob or one out of its range.
    """
    found: dict[str, Any] = {}
    for name, knob in knobs_of(method).items():
        key = knob.config or name
        if key in config:
            found[name] = config[key]
    for name, knob in knobs_of(method).items():
        key = knob.config or name
        if name in found and where:
            found[name] = knob.check(f"{where}[{key!r}]", found[name], found)
    return method(**found)


def per_member(number: Any, like: torch.Tensor) -> Any:
    """Shape a knob so that it broadcasts against a tensor of k members.

    Args:
        number: the knob where it is used: a number, or a float64 tensor (k) of members that differ.
        like: (k, ...).

    Returns:
        The number, or a tensor (k, 1, ...) of the type of `like`.
    """
    if not isinstance(number, torch.Tensor):
        return number
    return number.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def each(number: Any, k: int) -> list[float]:
    """The value of a knob for each of k members."""
    return number.tolist() if isinstance(number, torch.Tensor) else [number] * k
