"""Units: hidden units as values, and how they are found in a model."""

from .find import Found, find_units
from .place import Place, locate
from .reading import Reading
from .units import Units

__all__ = ["Found", "Place", "Reading", "Units", "find_units", "locate"]
