"""How every figure looks: one label, colour and dash for each system, distinct to colour-blind readers too."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from ..lab.studies import VIT_SETTINGS, System
from ..lab.studies.systems import STORED, Dashes


class Look(NamedTuple):
    """A line's name in legends and tables, its colour and its dashes; for systems see `regrow.lab.studies.systems`."""

    label: str
    colour: str
    dashes: Dashes = "-"


SYSTEMS = {
    system.name: Look(system.label, system.colour, system.dashes) for system in (System.of(name) for name in STORED)
}
"""In the order of every legend and table."""

FOUR = ("large", "large-ln", "small", "small-ln")
"""The settings in which the paper compares all systems."""
SETTING_LABELS = {
    "large": "large",
    "large-ln": "large, layer norm",
    "small": "small",
    "small-ln": "small, layer norm",
    "large-sgdw": "large, SGD with momentum",
    "large-adamw": "large, AdamW",
}

STANDARD, REPARAM = "vit", "vit-reparam"
METHODS = ("shrink-perturb", "cbp", "redo", "swr")
NORMS = {STANDARD: "standard norm", REPARAM: "reparametrized norm", "vit-nodecay": "no decay on vectors"}
VIT_SETTING_LABELS = {
    name: f"{NORMS[setting.unscaled]}{', scaled decay' * setting.scaled}" for name, setting in VIT_SETTINGS.items()
}

SERIES = (
    ("#440154", "o"),
    ("#463480", "s"),
    ("#355F8D", "^"),
    ("#25848E", "D"),
    ("#22A884", "v"),
    ("#5EC962", "P"),
)
"""Colour and marker of each line where lines are an ordered choice and no systems: matplotlib's viridis."""

INK, FAINT, GRID, PAPER = "#1A1A1A", "#666666", "#E5E5E5", "#FFFFFF"

DARK = {
    "#111111": "#F2F2F2",
    INK.lower(): "#E8E8E8",
    FAINT.lower(): "#A0A4AA",
    GRID.lower(): "#33383F",
    "#440154": "#FDE725",
    "#463480": "#A8DB34",
    "#355f8d": "#58C765",
    "#25848e": "#25AB82",
    "#22a884": "#228B8D",
    "#5ec962": "#2E6F8E",
}
"""{colour: its counterpart on a dark page}; all others serve on both."""
NIGHT = "#14171C"
"""The paper of a dark page."""

SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 1.6,
    "figure.dpi": 150,
    "savefig.facecolor": PAPER,
}
"""For `matplotlib.rc_context`."""

SHEET: dict[Any, Any] = SETTINGS | {
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titlepad": 6,
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.2,
    "svg.fonttype": "none",  # text stays text: selectable, searchable, small
    "svg.hashsalt": "regrow",  # the same figure is the same file
}
"""For the figures of the report."""

SUBTITLE: dict[str, Any] = {"fontsize": 8, "color": FAINT}
"""A second title, on the right, that says what the lines are."""


def look(system: str) -> Look:
    """The look of a system; an unknown one has its own name in grey.

    Example:
        >>> look("swr").label, look("mine").label
        ('SWR', 'mine')
    """
    return SYSTEMS.get(system, Look(system, FAINT, ":"))


def in_order(systems: Iterable[str]) -> list[str]:
    """Systems in the order of `SYSTEMS`, unknown ones last.

    Example:
        >>> in_order(["swr", "mine", "base"])
        ['base', 'swr', 'mine']
    """
    order = list(SYSTEMS)
    return sorted(systems, key=lambda name: (order.index(name) if name in order else len(order), name))
