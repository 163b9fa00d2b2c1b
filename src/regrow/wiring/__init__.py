"""Units: hidden units as values, and how a model is searched for them."""

from .entries import Place, locate
from .find import Found, find_measurable, find_units, left_out
from .reading import Reading, Tap
from .units import Units

__all__ = ["Found", "Place", "Reading", "Tap", "Units", "find_measurable", "find_units", "left_out", "locate"]
