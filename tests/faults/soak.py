"""Memory and open files of `regrow run` over hours: `python tests/faults/soak.py --hours 2`.

A study on digits runs with one worker. Every minute it is noted, for the parent and for all of its children together,
how much memory is resident and how many files are open. After the hours the run is stopped as by Ctrl-C, and the trend
of each number is printed, by the median of pairwise trends (Theil and Sen) with its 95 % interval; the first tenth of
the time, in which everything is loaded, is left out.
"""

import argparse
import csv
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scipy.stats import theilslopes

import regrow

STUDY = ["weights-vs-units", "--settings", "large", "--seeds", "1000", "--tasks", "50", "--workers", "1", "--quiet"]
COLUMNS = ("parent MiB", "workers MiB", "parent files", "workers files")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> float:
    """MiB of memory of a process; shared pages count in full."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def sample(pid: int) -> list[float]:
    """The four numbers now."""
    workers = children(pid)
    memory, files = sum(map(resident, workers)), sum(map(open_files, workers))
    return [resident(pid), memory, open_files(pid), files]


def trends(rows: list[list[float]]) -> str:
    """A table: the first and last value of each number, and its trend per hour."""
    kept = rows[len(rows) // 10 :]
    hours = [row[0] / 3600 for row in kept]
    lines = ["| | first | last | per hour | 95 % interval |", "|---|---|---|---|---|"]
    for column, name in enumerate(COLUMNS, 1):
        values = [row[column] for row in kept]
        trend, _, low, high = theilslopes(values, hours)
        lines.append(f"| {name} | {values[0]:.1f} | {values[-1]:.1f} | {trend:+.2f} | {low:+.2f} to {high:+.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and open files of a long run.")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between samples")
    parser.add_argument("--samples", type=Path, default=Path("soak.csv"), help="table of all samples")
    options = parser.parse_args()
    rows: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "regrow", "run", *STUDY, "--out", f"{folder}/run"]
        run = subprocess.Popen(command, start_new_session=True)
        begun = time.monotonic()
        with options.samples.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["seconds", *COLUMNS])
            while time.monotonic() - begun < options.hours * 3600:
                time.sleep(options.every)
                if run.poll() is not None:
                    sys.exit(f"the run ended by itself, with status {run.returncode}")
                rows.append([time.monotonic() - begun, *sample(run.pid)])
                table.writerow([f"{value:.3f}" for value in rows[-1]])
                file.flush()
        run.send_signal(signal.SIGINT)
        status = run.wait(timeout=600)
        trained = regrow.load(f"{folder}/run")
    print(trends(rows))
    print(
        f"{len(rows)} samples in {options.hours:g} hours; {len(trained):,} tasks stored; stopped with status {status}"
    )


if __name__ == "__main__":
    main()
