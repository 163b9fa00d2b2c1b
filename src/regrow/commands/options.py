"""Options that several commands have, as their help shows them."""

from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, arg

# A help text of more than a line is given as such: the line breaks of a docstring would be printed.
_DATA = (
    "folder that holds mnist/ or CIFAR-100's archive; default: REGROW_DATA, else the user's cache folder, else (for"
    " MNIST) scikit-learn's digits"
)
Directory = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
Data = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="", help=_DATA)]
Count = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Flag = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]
