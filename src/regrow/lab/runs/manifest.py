"""The manifest of a run: writing it at the start, and extending it in later runs of the same folder."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import regrow

from ..mlp.arithmetic import ARITHMETIC
from ..studies import StackPlan, packing
from . import lock
from .files import cannot_write
from .manifest_file import NAME as NAME
from .manifest_file import Manifest as Manifest
from .manifest_file import read as read
from .manifest_file import write as write

_GROW = ("tasks", "seeds")
_LATER = ("labels_checksum", "test_data_checksum", "test_labels_checksum")
"""Keys of a config that older versions did not write: a run that extends such a folder adds them, and from then on they
are verified."""
_FIXED = ("study", "version", "device")
_STARTED = ("commit", "torch", "machine", "cpu", "started", "command")


def describe(
    study: str, config: Mapping[str, Any], plans: Sequence[StackPlan], device: str, command: Sequence[str]
) -> Manifest:
    """The manifest of a run that starts now: its options, and what it runs on.

    It runs git for the commit, and reads the clock.

    Args:
        study: its name.
        config: all that decides the results, in values that JSON can hold; with `tasks` and `seeds`, which may grow.
        plans: its stacks.
        device: "cpu" or "cuda".
        command: the words after `regrow`, e.g. ["run", "optimizers"].
    """
    return {
        "study": study,
        "config": dict(config),
        "version": regrow.__version__,
        "arithmetic": ARITHMETIC,
        "device": device,
        "commit": _commit(),
        "torch": torch.__version__,
        "machine": platform.node(),
        "cpu": processor(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "packing": packing.describe(plans),
    }


def processor() -> str:
    """The processor's name and number of cores."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    return f"{name} ({platform.machine()}), {os.cpu_count()} cores"


def _commit() -> str | None:
    """The commit of this checkout, marked "-dirty" where its code differs; None outside of a checkout.

    Changed results do not count: they may lie in the checkout, and change during a run.
    """
    root = Path(regrow.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "diff", "--quiet", "HEAD", "--", "src", "pyproject.toml").returncode
    except (OSError, subprocess.TimeoutExpired):
        return None
    commit = head.stdout.strip()
    return commit + "-dirty" * bool(changed) if head.returncode == 0 else None


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10)


@contextmanager
def timed(folder: Path) -> Iterator[None]:
    """Add to the manifest how long the block took, however it ends.

    `seconds` by the clock, `processor_seconds` of this process and of the workers that have ended.
    """
    began = time.perf_counter(), _processor_seconds()
    try:
        yield
    finally:
        with suppress(OSError, ValueError), lock.manifest_alone(folder):  # a full disk: the run itself reports it
            content = read(folder)
            spent = {
                "seconds": time.perf_counter() - began[0],
                "processor_seconds": _processor_seconds() - began[1],
            }
            total = {key: round(float(content.get(key, 0)) + more, 1) for key, more in spent.items()}  # type: ignore[arg-type]
            write(folder, content | total)


def _processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def open_folder(folder: Path) -> None:
    """Make the folder of a run if it does not exist.

    Raises:
        OSError: where it cannot be made or read, or holds files but no run.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = set(os.listdir(folder))
    except OSError as error:
        raise cannot_write(folder, error) from error
    own = {name for name in names if lock.is_lock(name) or name.startswith(f".{NAME}.")}
    if names - own and NAME not in names:
        raise OSError(f"{folder} holds files but no {NAME}, so it is not of a run: choose another --out")


def begin(folder: Path, new: Manifest) -> Manifest:
    """Write the manifest of a run that starts or resumes; for the run that holds the lock.

    Args:
        folder: as `open_folder` leaves it.
        new: of this run, from `describe`.

    Returns:
        What is stored now: with the most tasks and seeds that were ever asked for, and all their stacks.

    Raises:
        ValueError: where the folder was begun with another version, arithmetic or config; one line names the key.
    """
    with lock.manifest_alone(folder):
        if not (folder / NAME).exists():
            write(folder, new)
            return new
        stored = join(folder, read(folder), new)
        again = {key: new.get(key) for key in _STARTED}
        stored["continued"] = [*stored.get("continued", []), again]
        write(folder, stored)
        return stored


def add_nodes(folder: Path, nodes: Mapping[str, Any]) -> None:
    """Add the machines of a cluster, {name: versions and processor}; each counts once, by its host."""
    with lock.manifest_alone(folder):
        content = read(folder)
        hosts = {about["host"]: about for about in nodes.values()}
        content["nodes"] = content.get("nodes", {}) | hosts
        write(folder, content)


def join(folder: Path, old: Manifest, new: Manifest) -> Manifest:
    """The manifest of two runs of one study together, or of one after the other.

    Args:
        folder: where `old` lies.
        old, new: the manifests.

    Raises:
        ValueError: where they differ in more than tasks, seeds and stacks.
    """
    for key in _FIXED:
        _same(folder, key, old.get(key), new.get(key))
    was, now = old.get("arithmetic", 1), new.get("arithmetic", 1)
    if was != now:
        raise ValueError(
            f"{folder} was begun with arithmetic {was}, and this is {now}, which rounds otherwise, so that its rows "
            "would not continue those: choose another --out"
        )
    before, after = old["config"], new["config"]
    later = {key: after[key] for key in _LATER if key in after and key not in before}
    for key in {**before, **after}:
        if key not in _GROW and key not in later:
            _same(folder, key, before.get(key), after.get(key))
    stacks = {plan.id: plan for plan in packing.restore(old["packing"])}
    for plan in packing.restore(new["packing"]):
        if stacks.setdefault(plan.id, plan) != plan:
            raise ValueError(f"{folder} was begun with another `packing` of stack {plan.id}: choose another --out")
    grown = {key: max(before[key], after[key]) for key in _GROW}
    joined = old | {"config": before | later | grown, "packing": packing.describe(stacks.values())}
    return joined  # type: ignore[return-value]


def _same(folder: Path, key: str, old: Any, new: Any) -> None:
    if old != new:
        raise ValueError(
            f"{folder} was begun with `{key}` {_text(old)}; got {_text(new)}: give the same, or choose another --out"
        )


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else json.dumps(value)
