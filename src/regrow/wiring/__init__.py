"""Units: hidden units as values, and how they are found in a model."""

from .entries import Place, locate
from .find import Found, find_units
from .units import Reading, Units

__all__ = ["Found", "Place", "Reading", "Units", "find_units", "locate"]
