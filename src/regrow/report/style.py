"""How every figure looks: one colour and one name for each system, told apart by colour-blind readers too."""

from typing import Any, NamedTuple


class Look(NamedTuple):
    """A system's name in figures and tables, its colour, and its dash pattern for print in grey."""

    label: str
    colour: str
    dashes: str = "-"


# Colours of Okabe & Ito, "Color universal design" (2008). A system keeps its look everywhere.
SYSTEMS = {
    "base": Look("base", "#000000", "--"),
    "l2": Look("L2", "#E69F00"),
    "shrink-perturb": Look("S&P", "#56B4E9"),
    "cbp": Look("CBP", "#009E73"),
    "redo": Look("ReDo", "#CC79A7"),
    "swr": Look("SWR", "#D55E00"),
}

SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E5E5E5",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 1.6,
    "figure.dpi": 150,
    "savefig.facecolor": "white",
}
"""For `matplotlib.rc_context`."""

SUBTITLE: dict[str, Any] = {"fontsize": 8, "color": "#666666"}
"""A second title, at the right, that says what the lines are."""
