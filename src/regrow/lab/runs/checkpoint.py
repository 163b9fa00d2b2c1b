"""Files that appear whole or not at all, and the state of a stack of networks in one of them."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .files import write_whole


def save(path: Path, task: int, state: Mapping[str, Any]) -> None:
    """Store the state of a stack that has finished its tasks before `task`."""
    buffer = io.BytesIO()
    torch.save({"task": task, "state": state}, buffer)
    write_whole(path, buffer.getvalue())


def load(path: Path) -> tuple[int, dict[str, Any]]:
    """The next task of a stored stack, from 0, and its state.

    Raises:
        ValueError: where the file is damaged: one line that names it and the remedy.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself reads a flipped bit without complaint
        if damaged is not None:
            raise zipfile.BadZipFile(f"checksum of {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        return int(content["task"]), content["state"]
    except FileNotFoundError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def task_of(path: Path) -> int:
    """The next task of a stored stack: 0 where there is none; reads a fraction of the file."""
    if not path.exists():
        return 0
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["task"])
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    what = " ".join(str(error).split())[:60] or type(error).__name__
    return ValueError(f"{path} is damaged ({what}): delete it and run again; its stack then starts anew")
