"""The paper's claims as statements that runs can confirm or contradict."""

from .evaluate import evaluate as evaluate
from .permuted import STATEMENTS as STATEMENTS
from .stored import to_json as to_json
from .verdict import AGREES as AGREES
from .verdict import CONFIRMED as CONFIRMED
from .verdict import CONTRADICTED as CONTRADICTED
from .verdict import DISAGREES as DISAGREES
from .verdict import GRADES as GRADES
from .verdict import NOT_RUN as NOT_RUN
from .verdict import UNDECIDED as UNDECIDED
from .verdict import Outcome as Outcome
from .verdict import Verdict as Verdict
from .verdict import in_words as in_words
