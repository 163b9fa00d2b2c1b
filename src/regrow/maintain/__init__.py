"""Maintainers: objects that keep a model plastic. One step loop (`base`), one method a file."""

from .base import Maintainer
from .cbp import ContinualBackprop
from .redo import ReDo
from .shrink_perturb import ShrinkPerturb
from .swr import SWR

__all__ = ["SWR", "ContinualBackprop", "Maintainer", "ReDo", "ShrinkPerturb"]
