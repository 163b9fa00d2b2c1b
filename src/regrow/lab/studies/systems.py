"""The learning systems of the paper: each name parsed once, with the label and the colour it has everywhere."""

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal, NamedTuple

from ... import check
from ...methods import REGISTRY, Row, knobs_of
from ...methods.swr import PRUNINGS, REINITS, UTILITIES

Dashes = Literal["-", "--", "-.", ":"]
Order = Literal["after", "authors"]


CONTROLS = {"swr-zero-only": "zero", "swr-zero-spared": "nonzero"}
"""{swr of which some entries only are renewed: those whose utility is exactly 0, or all but those}"""

_BEFORE = """
base                                 --      #111111  base
l2                                   -       #887744  L2
"""
_AFTER = """
swr-gradient-threshold-mean          --      #B80701  SWR gradient, threshold, mean
swr-gradient-proportional-resample   -       #7D503E  SWR gradient, proportional
swr-gradient-proportional-mean       --      #C6AB60  SWR gradient, proportional, mean
swr-magnitude-threshold-resample     -       #9F64F9  SWR magnitude, threshold
swr-magnitude-threshold-mean         --      #4F5BA9  SWR magnitude, threshold, mean
swr-magnitude-proportional-resample  -       #535F99  SWR magnitude, proportional
swr-magnitude-proportional-mean      --      #8230C9  SWR magnitude, proportional, mean
swr-random-threshold-resample        -       #A6B464  SWR random, threshold
swr-random-threshold-mean            --      #4EA8A1  SWR random, threshold, mean
swr-random-proportional-resample     -       #9BB693  SWR random, proportional
swr-random-proportional-mean         --      #3EB1B9  SWR random, proportional, mean
swr-zero-only                        --      #7304FD  SWR, utility 0 only
swr-zero-spared                      -.      #A94AC0  SWR, utility 0 spared
scratch                              :       #545E5F  fresh network
cbp-authors                          -.      #91B965  CBP, authors' order
redo-authors                         -.      #814590  ReDo, authors' order
swr-gradient-proportional-resample-authors  -.  #6B5C65  SWR gradient, proportional, authors' ties
swr-gradient-proportional-mean-authors      -.  #948342  SWR gradient, proportional, mean, authors' ties
"""
# Name, dashes, colour and label, in the order of every legend and table; the methods of the registry come in between.
# Dashed is `base` and what renews to the mean, dash-dotted the authors' order and ties, dotted the yardstick. Base is a
# hair off black, which SVG files would leave out and a dark page would treat as no colour. The others were searched
# for, so that no two systems of a panel lie closer than those of the registry do, to normal and to colour-blind eyes:
# gradient utility in reds and earth, magnitude in violets, random in greens.


def _read(table: str) -> dict[str, tuple[str, str, str]]:
    rows = (line.split(maxsplit=3) for line in table.strip().splitlines())
    return {name: (dashes, colour, label) for name, dashes, colour, label in rows}


_LOOKS = _read(_BEFORE) | {name: ("-", row.colour, row.label) for name, row in REGISTRY.items()} | _read(_AFTER)
METHODS = ("base", "l2", *REGISTRY, "scratch")
STORED = tuple(_LOOKS)
"""Names of systems as results have them."""

ALIASES = {"swr-gradient-threshold-resample": "swr"}
"""Other names of a system: results only have the second."""
VARIANTS = tuple(f"swr-{'-'.join(choice)}" for choice in product(UTILITIES, PRUNINGS, REINITS))
SIX = ("base", "l2", "shrink-perturb", "cbp", "redo", "swr")
"""Those that the paper compares everywhere."""
SYSTEMS = tuple(name for stored in STORED for name in (stored, *(a for a, of in ALIASES.items() if of == stored)))
"""All names that can be requested."""
VIT_SYSTEMS = ("base", "shrink-perturb", "cbp", "redo", "swr", "scratch", "cbp-authors", "redo-authors")


class Variant(NamedTuple):
    """A variant of selective weight reinitialization."""

    utility: str = "gradient"
    prune: str = "threshold"
    reinit: str = "resample"

    @property
    def name(self) -> str:
        """The name of the system, as it is stored.

        Example:
            >>> Variant().name, Variant(reinit="mean").name
            ('swr', 'swr-gradient-threshold-mean')
        """
        name = f"swr-{self.utility}-{self.prune}-{self.reinit}"
        return ALIASES.get(name, name)


@dataclass(frozen=True)
class System:
    """A learning system: a method, and what else its name says.

    name: as it is stored.
    method: of `METHODS`.
    variant: of swr; None for the others.
    order: "after" the optimizer's step, or "authors": renewal of units inside the backward pass.
    ties: of equal utilities in proportional pruning, which go first, if not those drawn: "position" as by the authors.
    control: which entries alone are renewed, "zero" or "nonzero" in utility; None: all.
    label, colour, dashes: in figures and tables.

    Example:
        >>> System.of("cbp-authors").method, System.of("cbp-authors").order, System.of("swr").variant.prune
        ('cbp', 'authors', 'threshold')
    """

    name: str
    method: str
    variant: Variant | None
    order: Order
    ties: str | None
    control: str | None
    label: str
    colour: str
    dashes: Dashes

    @classmethod
    def of(cls, name: str) -> "System":
        """The system of a name or an alias, always the same object.

        Raises:
            ValueError: for an unknown name.
        """
        return _parse(system_name(name))

    @property
    def row(self) -> Row | None:
        """The registry row of its method; None if it has no method."""
        return REGISTRY.get(self.method)

    @property
    def by_unit(self) -> bool:
        """Whether it renews whole units."""
        return self.row is not None and self.row.method.by_unit

    @property
    def renews(self) -> bool:
        """Whether it renews entries or units in the course of a task."""
        return self.row is not None and self.row.method.renews

    @property
    def draws(self) -> bool:
        """Whether it needs random numbers after initialisation."""
        return self.method == "scratch" or self.renews or (self.row is not None and self.row.method.is_noise)

    @property
    def fixed(self) -> dict[str, str]:
        """The part of its config that its name determines."""
        if self.variant:
            more = {"among": self.control, "ties": self.ties}
            return self.variant._asdict() | {knob: value for knob, value in more.items() if value}
        if self.row is None:
            return {}
        texts = {name: knob.default for name, knob in knobs_of(self.row.method).items() if knob.kind == "choice"}
        return (texts if self.row.method.renews else {}) | dict(self.row.fixed)

    @property
    def utility(self) -> str | None:
        """The utility by which it chooses what to renew."""
        return self.fixed.get("utility")

    @property
    def tuned_as(self) -> str:
        """The system whose hyper-parameters it has: the same without a control, in our order, with our ties."""
        if self.method == "scratch":
            return "base"
        return self.variant.name if self.variant else self.method


def system_name(name: str) -> str:
    """The name under which a system is stored.

    Args:
        name: of `SYSTEMS`.

    Returns:
        The name, or that of which it is an alias.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> system_name("swr-gradient-threshold-resample")
        'swr'
    """
    check.choice("system", name, SYSTEMS)
    return ALIASES.get(name, name)


@cache
def _parse(name: str) -> System:
    """Parse a stored name; the only place that does."""
    plain = name.removesuffix("-authors")
    method = plain if plain in METHODS else plain.partition("-")[0]
    chosen = plain.split("-")[1:] if method != plain and plain not in CONTROLS else ()
    dashes, colour, label = _LOOKS[name]
    authors, by_weight = plain != name, method == "swr"
    return System(
        name=name,
        method=method,
        variant=Variant(*chosen) if by_weight else None,
        order="authors" if authors and not by_weight else "after",
        ties="position" if authors and by_weight else None,
        control=CONTROLS.get(plain),
        label=label,
        colour=colour,
        dashes=dashes,  # type: ignore[arg-type]
    )
