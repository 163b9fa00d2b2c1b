"""The paper's claims on permuted MNIST as statements that runs can hold or fail."""

from .evaluate import FAILS as FAILS
from .evaluate import HOLDS as HOLDS
from .evaluate import UNDECIDED as UNDECIDED
from .evaluate import Outcome as Outcome
from .evaluate import Verdict as Verdict
from .evaluate import evaluate as evaluate
from .evaluate import in_words as in_words
from .evaluate import to_json as to_json
from .permuted import STATEMENTS as STATEMENTS
