"""Is a network losing its ability to learn? Measures of its hidden units, its weights and its gradient."""

from .diagnose import diagnose
from .plasticity import plasticity
from .ranks import effective_rank, rank99, stable_rank

__all__ = ["diagnose", "effective_rank", "plasticity", "rank99", "stable_rank"]
