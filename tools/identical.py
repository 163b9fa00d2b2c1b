"""Do two commits compute the same numbers, bit for bit? Exit status 1 where they do not.

    python tools/identical.py BEFORE AFTER [--only PART ...] [--data DIR] [--keep DIR] [--jobs 2] [--fresh]

BEFORE and AFTER are commits, or `.` for the working tree. Each is unpacked into a folder of its own, and everything
that `identical_jobs.py` lists is run there, in processes of one thread with this interpreter: studies and sweeps,
CIFAR-100 shrunk, the demo, the general path, the library, the ids of all configs, the report. A line for each table:
its rows and columns, and "identical", or which columns differ and by how much. Names that only AFTER has, and names of
states, reports and manifests that only one side has, are notes and no difference.

What a commit computed stays in DIR/COMMIT and is used again on the same machine; not that of a changed working tree.
`--fresh` computes AFTER again all the same: a commit against itself shows whether anything in it is left to chance.
`--only` takes parts, or parts of the names of jobs, as in `--only library "studies/mnist"`; `--list` lists them.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from identical_jobs import Job, jobs
from identical_tables import EDITION, Kept, compare, machine

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
TREE = ("src", "results")  # of a commit


@dataclass(frozen=True)
class Side:
    """One of the two: what it is called, its folder, and whether what it computes is kept there."""

    name: str
    folder: Path
    reuse: bool

    @property
    def tree(self) -> Path:
        return self.folder / "tree"


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(TOOLS), *words], check=True, capture_output=True, text=True).stdout.strip()


def side(asked: str, keep: Path, scratch: Path, reuse: bool) -> Side:
    """The folder of a commit; a working tree with changes is copied, so that it may change meanwhile."""
    if asked == "." and git("status", "--porcelain", "--", *(f":/{name}" for name in TREE)):
        found = Side("working tree", scratch / "working tree", reuse=False)
        if not found.tree.exists():
            for name in TREE:
                if (source := ROOT / name).exists():
                    shutil.copytree(source, found.tree / name)
        return found
    commit = git("rev-parse", "--verify", "HEAD" if asked == "." else f"{asked}^{{commit}}")
    found = Side(commit[:9] + " again" * (not reuse), (keep if reuse else scratch / "fresh") / commit, reuse)
    if not found.tree.exists():
        unpack(commit, found.tree)
    return found


def unpack(commit: str, tree: Path) -> None:
    """The files of a commit, whole or not at all."""
    names = [name for name in git("ls-tree", "--name-only", "--full-tree", commit).splitlines() if name in TREE]
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
        new = Path(folder) / "tree"
        new.mkdir()
        with open(f"{new}.tar", "wb") as file:
            subprocess.run(["git", "-C", str(ROOT), "archive", commit, *names], stdout=file, check=True)
        subprocess.run(["tar", "-xf", file.name, "-C", str(new)], check=True)
        new.rename(tree)


def run(job: Job, of: Side, before: Side, data: Path | None) -> Kept:
    """The tables of a job: those kept, or computed now. Both report on the results that BEFORE stores."""
    stored = (str(before.tree / "results"),) if job.kind == "report" else ()
    kept = Kept(of.folder / "kept" / job.part / f"{job.name}.npz", fingerprint(job, before.name if stored else ""))
    if of.reuse and (before.reuse or not stored) and kept.good():
        return kept
    environment = {name: value for name, value in os.environ.items() if name != "REGROW_DATA"}
    environment |= {"PYTHONPATH": str(of.tree / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "240"}
    environment["XDG_CACHE_HOME"] = str(of.folder / "cache")  # no data sets in it: without --data it is digits
    command = [sys.executable, str(TOOLS / "identical_probe.py"), job.kind, str(kept.path), str(of.tree)]
    with tempfile.TemporaryDirectory() as folder:
        words = [*job.words, *stored, *(("--data", str(data)) if job.needs else ())]
        done = subprocess.run([*command, *words], cwd=folder, env=environment, capture_output=True, text=True)
    kept.finish("" if done.returncode == 0 else last_line(done.stderr or done.stdout))
    return kept


def fingerprint(job: Job, results: str) -> str:
    """Of what decides the outcome beside the commit: the job, its networks, whose results it reads, the machine."""
    scripts = [(TOOLS / f"identical_{name}.py").read_text() for name in job.scripts]
    return hashlib.sha256("\0".join([EDITION, repr(job), results, *scripts, *machine()]).encode()).hexdigest()[:16]


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:300]


def tell(job: Job, one: Kept, other: Kept, full: bool) -> int:
    """Print a line for each table of a job; returns how many differ."""
    for name, kept in {"BEFORE": one, "AFTER": other}.items():
        if kept.failure:
            print(f"{job.title:58s} FAILED in {name}: {kept.failure}", flush=True)
    if one.failure or other.failure:
        return 1
    different = 0
    for found in compare(one, other):
        what = "identical" if not found.differences else "DIFFERS: "
        limit = len(found.differences) if full else 4
        what += "; ".join(found.differences[:limit])
        what += f"; and {len(found.differences) - limit} more" if len(found.differences) > limit else ""
        title = f"{job.title}: {found.name}" if found.name else job.title
        print(f"{title:58s} {found.rows:9,} rows {found.columns:6,} columns  {what}", flush=True)
        for note in found.notes if full else found.notes[:4]:
            print(f"    note: {note}")
        different += bool(found.differences)
    return different


def main() -> int:
    arguments = parse()
    data = arguments.data
    chosen, skipped = jobs(data), 0
    if arguments.only:
        chosen = [job for job in chosen if any(job.part == word or word in job.title for word in arguments.only)]
    if arguments.list:
        print(*(f"{job.title:50s} {job.kind} {' '.join(job.words)}" for job in chosen), sep="\n")
        return 0
    for job in [job for job in chosen if job.missing]:
        print(f"{job.title:58s} skipped: {job.missing}")
        skipped += 1
    chosen = [job for job in chosen if not job.missing]
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keep = arguments.keep.resolve() if arguments.keep else scratch / "kept"
        before = side(arguments.before, keep, scratch, reuse=True)
        after = side(arguments.after, keep, scratch, reuse=not arguments.fresh)
        different = work(chosen, before, after, data, arguments)
    print(f"{different} tables differ" if different else "all identical", f"({skipped} jobs skipped)" * bool(skipped))
    return bool(different)


def work(chosen: Sequence[Job], before: Side, after: Side, data: Path | None, options: argparse.Namespace) -> int:
    """Run all jobs of both sides, tell of each as soon as it is there; returns how many tables differ."""
    different, spent = 0, defaultdict(lambda: [0.0, 0.0])
    with ThreadPoolExecutor(options.jobs) as pool:
        sides = (before,) if before == after else (before, after)
        futures = {(job.title, of.folder): pool.submit(run, job, of, before, data) for job in chosen for of in sides}
        for job in chosen:
            one, other = (futures[job.title, of.folder].result() for of in (before, after))
            different += tell(job, one, other, options.all)
            for i, kept in enumerate((one, other)):
                spent[job.part][i] += kept.seconds
    for part, (one, other) in spent.items():
        print(f"processor time of {part}: {one:.0f} s for {before.name}, {other:.0f} s for {after.name}")
    return different


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a commit, or . for the working tree")
    parser.add_argument("after")
    parser.add_argument("--only", nargs="+", default=(), metavar="PART", help="parts, or parts of names of jobs")
    named = os.environ.get("REGROW_DATA")
    beside = Path(git("rev-parse", "--path-format=absolute", "--git-common-dir")).parents[1] / "shared" / "data"
    default = Path(named) if named else beside if beside.is_dir() else None
    help = "holds mnist/ and CIFAR-100; default: REGROW_DATA, or ../shared/data as for the tests"
    parser.add_argument("--data", type=Path, default=default, help=help)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where outputs of commits stay; default: nowhere")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--fresh", action="store_true", help="compute AFTER again, though it is kept")
    parser.add_argument("--all", action="store_true", help="every column that differs, every note")
    parser.add_argument("--list", action="store_true", help="list the jobs and stop")
    arguments = parser.parse_args()
    arguments.data = arguments.data and arguments.data.resolve()
    return arguments


if __name__ == "__main__":
    sys.exit(main())
