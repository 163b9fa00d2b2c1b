"""Laws: the distributions that parameters are initialised from, and how they are found."""

from .distributions import Constant, Empirical, Law, Normal, Uniform, law_from_dict
from .find import SOURCES, init_laws, resolve_laws
from .tabulated import Orthogonal, TruncatedNormal, bind

__all__ = [
    "SOURCES",
    "Constant",
    "Empirical",
    "Law",
    "Normal",
    "Orthogonal",
    "TruncatedNormal",
    "Uniform",
    "bind",
    "init_laws",
    "law_from_dict",
    "resolve_laws",
]
