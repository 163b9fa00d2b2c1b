"""Files that appear whole or not at all, and the state of a stack of networks in one of them."""

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_TEMPORARY = ".{name}.{pid}.tmp"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or whoever comes after a crash, finds all of it or what was there before.

    Args:
        path: the file; its folder is there.
        content: all of it.

    Raises:
        OSError: one line that names the file and what to do; what was there before is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "file"
        >>> write_whole(path, b"all of it")
        >>> path.read_bytes(), len(list(path.parent.iterdir()))
        (b'all of it', 1)
    """
    temporary = path.with_name(_TEMPORARY.format(name=path.name, pid=os.getpid()))
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> OSError:
    """The error to raise where a file or a folder cannot be written."""
    return OSError(
        f"{path} cannot be written ({error.strerror or error}): make room or allow writing there, then run the same "
        "command again; what is stored stays readable"
    )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a crash of the machine, where folders can be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporary(folder: Path) -> None:
    """Remove what killed writers left behind; for the only one who may write there."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


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
