"""What a folder of results says of itself: what was run, how it was packed, with which versions."""

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

from ..studies import StackPlan, packing
from . import lock
from .files import MANIFEST as NAME
from .files import cannot_write, write_whole
from .files import read_manifest as read

_GROW = ("tasks", "seeds")
_FIXED = ("study", "version", "device")
_STARTED = ("commit", "torch", "machine", "cpu", "started", "command")


def describe(
    study: str, config: Mapping[str, Any], plans: Sequence[StackPlan], device: str, command: Sequence[str]
) -> dict[str, Any]:
    """What a run that starts now would write.

    Args:
        study: its name.
        config: all that decides the results, as JSON can hold it; with `tasks` and `seeds`, which may grow.
        plans: its stacks.
        device: "cpu" or "cuda".
        command: the command line.
    """
    return {
        "study": study,
        "config": dict(config),
        "version": regrow.__version__,
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
    """The processor's name and how many cores it has here."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    return f"{name} ({platform.machine()}), {os.cpu_count()} cores"


def _commit() -> str | None:
    """The commit of the checkout that runs, marked where its code differs; None outside of a checkout.

    Results lie in the checkout too, and change while a run goes on: they do not count.
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


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest, whole."""
    write_whole(folder / NAME, (json.dumps(content, indent=1) + "\n").encode())


@contextmanager
def timed(folder: Path) -> Iterator[None]:
    """Add to the manifest how long what is done within took, however it ends.

    `seconds` by the clock, `processor_seconds` of this process and of the workers that have ended.
    """
    began = time.perf_counter(), _processor_seconds()
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # a full disk is told of by what ended
            content = read(folder)
            spent = {
                "seconds": time.perf_counter() - began[0],
                "processor_seconds": _processor_seconds() - began[1],
            }
            write(folder, content | {key: round(content.get(key, 0) + more, 1) for key, more in spent.items()})


def _processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def open_folder(folder: Path) -> None:
    """Make the folder of a run where it is not there yet.

    Raises:
        OSError: where it cannot be made or read, or holds files that are not of a run.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = set(os.listdir(folder))
    except OSError as error:
        raise cannot_write(folder, error) from error
    own = {name for name in names if name == lock.NAME or name.startswith(f".{NAME}.")}
    if names - own and NAME not in names:
        raise OSError(f"{folder} holds files but no {NAME}, so it is not of a run: choose another --out")


def begin(folder: Path, new: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of a run that starts or goes on; for the run that holds the lock.

    Args:
        folder: as `open_folder` leaves it.
        new: of this run, from `describe`.

    Returns:
        What is stored now: with the most tasks and seeds that were ever asked for, and all their stacks.

    Raises:
        ValueError: where the folder was begun with another version or config; one line names the key.
    """
    if not (folder / NAME).exists():
        write(folder, new)
        return dict(new)
    old = read(folder)
    for key in _FIXED:
        _same(folder, key, old.get(key), new[key])
    for key in {**old["config"], **new["config"]}:
        if key not in _GROW:
            _same(folder, key, old["config"].get(key), new["config"].get(key))
    stacks = {plan.id: plan for plan in packing.restore(old["packing"])}
    for plan in packing.restore(new["packing"]):
        if stacks.setdefault(plan.id, plan) != plan:
            raise ValueError(f"{folder} was begun with another `packing` of stack {plan.id}: choose another --out")
    grown = {key: max(old["config"][key], new["config"][key]) for key in _GROW}
    again = {key: new[key] for key in _STARTED}
    stored = old | {"config": old["config"] | grown, "packing": packing.describe(stacks.values())}
    stored["continued"] = [*old.get("continued", []), again]
    write(folder, stored)
    return stored


def _same(folder: Path, key: str, old: Any, new: Any) -> None:
    if old != new:
        raise ValueError(
            f"{folder} was begun with `{key}` {_text(old)}; got {_text(new)}: give the same, or choose another --out"
        )


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else json.dumps(value)
