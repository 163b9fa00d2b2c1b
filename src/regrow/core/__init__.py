"""Pure tensor functions: utilities, selection, renewal and the random numbers under them.

Nothing here knows of modules, optimizers or files. Leading axes may index members (networks of a
stack); sets are masks and ranks, so shapes never depend on data.
"""

from . import draw, noise, random, renew, select, utility

__all__ = ["draw", "noise", "random", "renew", "select", "utility"]
