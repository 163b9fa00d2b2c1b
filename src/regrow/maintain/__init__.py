"""Maintainers: objects that keep a model plastic. One step loop (`base`), one method a file."""

from .base import Maintainer
from .shrink_perturb import ShrinkPerturb
from .swr import SWR

__all__ = ["SWR", "Maintainer", "ShrinkPerturb"]
