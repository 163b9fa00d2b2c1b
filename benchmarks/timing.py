"""What the benchmarks share: interleaved pairs, and what to say of the machine."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import regrow

Rows = dict[str, dict[str, float]]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> dict[str, float]:
    """Median time of each side, and of the ratio of each interleaved pair with its quartiles, after one warm-up."""
    ours(), theirs()
    times = [(seconds(ours), seconds(theirs)) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in times)
    return {
        "ours_ms": 1e3 * statistics.median(a for a, _ in times),
        "theirs_ms": 1e3 * statistics.median(b for _, b in times),
        "ratio": statistics.median(ratios),
        "ratio_low": ratios[len(ratios) // 4],
        "ratio_high": ratios[-1 - len(ratios) // 4],
        "pairs": pairs,
    }


def tell(rows: Rows, command: str, file: Path | None) -> None:
    """Print the rows, and write them with what they were measured on."""
    for name, row in rows.items():
        print(f"{name:75s} " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()))
    if file is not None:
        machine = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "regrow": regrow.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
            "date": time.strftime("%Y-%m-%d"),
            "command": command,
        }
        file.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
