"""The renewal methods of the library, for some members of a stack at once."""

from .base import Renewal
from .cbp import StackedCBP
from .redo import StackedReDo
from .swr import StackedSWR
from .units import HiddenUnits

__all__ = ["HiddenUnits", "Renewal", "StackedCBP", "StackedReDo", "StackedSWR"]
