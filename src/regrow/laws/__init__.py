"""Laws: the distributions that parameters are initialised from, and how to determine them."""

from .distributions import Constant, Empirical, Law, Normal, Uniform, law_from_dict
from .find import SOURCES, Resolved, init_laws, look_up_laws, resolve_laws
from .grown import grown_law, grown_laws
from .tabulated import Orthogonal, TruncatedNormal, bind

__all__ = [
    "SOURCES",
    "Constant",
    "Empirical",
    "Law",
    "Normal",
    "Orthogonal",
    "Resolved",
    "TruncatedNormal",
    "Uniform",
    "bind",
    "grown_law",
    "grown_laws",
    "init_laws",
    "law_from_dict",
    "look_up_laws",
    "resolve_laws",
]
