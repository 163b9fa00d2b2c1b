"""Claims 1 to 12 of the paper, on permuted MNIST, taken apart."""

from .correlates import CORRELATES
from .optimizers import WITH_OPTIMIZERS
from .sensitivity import SENSITIVITY
from .units import WEIGHTS_OR_UNITS
from .variants import VARIANTS

STATEMENTS = (*VARIANTS, *WEIGHTS_OR_UNITS, *WITH_OPTIMIZERS, *SENSITIVITY, *CORRELATES)
"""All statements, in the paper's order of claims."""
