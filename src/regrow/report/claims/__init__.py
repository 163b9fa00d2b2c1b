"""The paper's claims on permuted MNIST as statements that runs can hold or fail."""

from .statements_more import STATEMENTS as STATEMENTS
from .stored import to_json as to_json
from .verdict import FAILS as FAILS
from .verdict import HOLDS as HOLDS
from .verdict import UNDECIDED as UNDECIDED
from .verdict import Part as Part
from .verdict import Verdict as Verdict
from .verdict import evaluate as evaluate
from .verdict import told as told
