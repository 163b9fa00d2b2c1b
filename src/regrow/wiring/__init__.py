"""Units: hidden units as values, and how they are found in a model."""

from .entries import Place, locate
from .find import Found, find_units, left_out
from .reading import Reading, Tap
from .units import Units

__all__ = ["Found", "Place", "Reading", "Tap", "Units", "find_units", "left_out", "locate"]
