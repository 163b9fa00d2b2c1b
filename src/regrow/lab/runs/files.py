"""Files that appear whole or not at all, and the one that tells a folder of results."""

import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
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


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        FileNotFoundError: where there is no folder, or it holds none.
        ValueError: where it is damaged.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        what = "holds no manifest.json" if folder.is_dir() else "is no folder"
        raise FileNotFoundError(f"{folder} {what}: give a folder that `regrow run` wrote (its --out)") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): put it back, or choose another --out") from None
    if not isinstance(content, dict) or "study" not in content:
        raise ValueError(f"{path} is no manifest of a run: give a folder that `regrow run` wrote (its --out)")
    return content
