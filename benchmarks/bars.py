"""Does the laboratory reach its bars? Compares the figures of `regrow bench --json FILE` with them.

    python benchmarks/bars.py [FILE]

Without a file it measures first, which takes six minutes. The bars are for a machine with fast caches.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.commands.bench import Bench

BARS = {
    "large": ("fraction_of_sgemm_peak", "≥", 0.75),
    "large-ln": ("fraction_of_sgemm_peak", "≥", 0.55),
    "large-adamw": ("fraction_of_sgemm_peak", "≥", 0.35),
    "small": ("fraction_of_sgemm_peak", "≥", 0.45),
    "large-cbp": ("ratio", "≤", 1.15),
    "large-redo": ("ratio", "≤", 1.15),
    "large-swr": ("ratio", "≤", 1.02),
    "large-shrink-perturb": ("ratio", "≤", 1.0),
    "large-measured": ("ratio", "≤", 1.05),
    "large-two-workers": ("speedup", "≥", 1.85),
}
"""{row: (figure, "≥" or "≤", limit)}"""


def compare(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print each row that has a bar, and whether it is reached."""
    for key, (figure, sense, limit) in BARS.items():
        if key in rows:  # two workers need two cores
            value = rows[key][figure]
            met = value >= limit if sense == "≥" else value <= limit
            print(f"{key:22} {figure:24} {value:6.3f} {sense} {limit:g}: {'yes' if met else 'no'}")


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "bench.json"
    if not file.exists():
        Bench(json=file).run()
    compare(json.loads(file.read_text()))


if __name__ == "__main__":
    main()
